"""Debian's Prosody with the gate's modules, on free loopback ports: what the role installs, without the host."""

from __future__ import annotations

import contextlib
import os
import random
import shutil
import socket
import subprocess
import tempfile
import time
from pathlib import Path

MEET = "meet.sluss.test"
CONFERENCE = f"conference.{MEET}"
COMPONENT = f"sluss.{MEET}"
FOCUS = f"focus@auth.{MEET}"
SECRET = "a component secret"

MODULES = Path(__file__).parents[3] / "auth-bridge" / "prosody"

# Another Debian's root directory, with its own Prosody, to run that one instead
ROOT = Path(os.environ.get("SLUSS_PROSODY_ROOT", "/"))

CONFIG = """
plugin_paths = {{ "{folder}/modules" }}
data_path = "{folder}/data"
pidfile = "{folder}/prosody.pid"
log = {{ {level} = "{folder}/prosody.log" }}

modules_enabled = {{ "disco", "saslauth", "ping", "admin_shell" }}
modules_disabled = {{ "s2s", "s2s_auth_certs", "offline" }}
admin_socket = "{folder}/admin.socket"
interfaces = {{ "127.0.0.1" }}
c2s_ports = {{ {c2s} }}
c2s_direct_tls_ports = {{}}
s2s_ports = {{}}
component_ports = {{ {component} }}
http_ports = {{ {http} }}
https_ports = {{}}
c2s_require_encryption = false
allow_unencrypted_plain_auth = true
consider_bosh_secure = true
consider_websocket_secure = true
storage = "memory"
gc = {{ mode = "incremental", threshold = 200 }}
network_settings = {{ nagle = false }}

VirtualHost "{meet}"
	authentication = "{authentication}"
	modules_enabled = {{ "bosh", "websocket" }}
	{options}

VirtualHost "auth.{meet}"
	authentication = "internal_hashed"
	storage = "internal"
	modules_enabled = {{ "bosh", "websocket" }}

Component "conference.{meet}" "muc"
	modules_enabled = {{ {gate} }}
	{options}
	admins = {{ "focus@auth.{meet}" }}
	component_admins_as_room_owners = true
	restrict_room_creation = "local"
	muc_room_locking = false
	muc_tombstones = false
	muc_room_cache_size = {rooms}
	max_history_messages = 0

Component "internal.auth.{meet}" "muc"
	muc_room_locking = false

Component "sluss.{meet}"
	component_secret = "{secret}"
	component_conflict_resolve = "kick_old"
"""

OPTIONS = """sluss_bridges = {{ "sluss.{meet}" }}
	sluss_focus = "focus@auth.{meet}"
	sluss_meet_host = "{meet}"
	sluss_timeout = 3
"""


def free_port() -> int:
    """A port below those that the kernel gives to connections, which could take it before the server does."""
    while True:
        port = random.randrange(10_000, 32_768)
        with socket.socket() as listener, contextlib.suppress(OSError):
            listener.bind(("127.0.0.1", port))
            return port


class Prosody:
    """A Prosody of its own; `start` returns when it listens.

    `rooms` is how many it keeps in memory. Without `gate` anybody gets in: the same Prosody, to compare with.
    """

    def __init__(self, *, gate: bool = True, level: str = "debug", rooms: int = 2) -> None:
        self.folder = Path(tempfile.mkdtemp(prefix="sluss-prosody-", dir=ROOT / "tmp"))
        self.folder.chmod(0o777)
        (self.folder / "data").mkdir()
        (self.folder / "data").chmod(0o777)
        shutil.copytree(MODULES, self.folder / "modules")
        self._inside = Path("/") / self.folder.relative_to(ROOT)
        self.http_port, self.component_port, self.c2s_port = free_port(), free_port(), free_port()
        self.config = self.folder / "prosody.cfg.lua"
        self.config.write_text(
            CONFIG.format(
                folder=self._inside,
                meet=MEET,
                secret=SECRET,
                http=self.http_port,
                component=self.component_port,
                c2s=self.c2s_port,
                authentication="sluss" if gate else "anonymous",
                gate='"sluss_gate"' if gate else "",
                options=OPTIONS.format(meet=MEET) if gate else "",
                level=level,
                rooms=rooms,
            )
        )
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def pid(self) -> int:
        assert self._process is not None
        return self._process.pid

    @property
    def websocket(self) -> str:
        return f"ws://127.0.0.1:{self.http_port}/xmpp-websocket"

    @property
    def bosh(self) -> str:
        return f"http://127.0.0.1:{self.http_port}/http-bind"

    @property
    def c2s(self) -> str:
        return f"tcp://127.0.0.1:{self.c2s_port}"

    @property
    def log(self) -> str:
        return (self.folder / "prosody.log").read_text()

    def start(self) -> None:
        self._process = subprocess.Popen(
            self._as_prosody("prosody", "-F", "--config", str(self._inside / "prosody.cfg.lua")),
            stdout=subprocess.DEVNULL,
        )
        deadline = time.monotonic() + 20
        while not self._listens():
            if self._process.poll() is not None or time.monotonic() > deadline:
                raise RuntimeError(f"Prosody did not start:\n{self.log[-3000:]}")
            time.sleep(0.05)

    def stop(self) -> None:
        if self._process is not None:
            self._process.terminate()
            self._process.wait(20)
            self._process = None

    def restart(self) -> None:
        self.stop()
        self.start()

    def control(self, *words: str) -> str:
        """Run `prosodyctl`; what it printed."""
        config = str(self._inside / "prosody.cfg.lua")
        command = self._as_prosody("prosodyctl", "--config", config, *words)
        done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=30)
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    def remove(self) -> None:
        self.stop()
        shutil.rmtree(self.folder)

    def _as_prosody(self, *command: str) -> list[str]:
        return ["chroot", "--userspec=prosody:prosody", str(ROOT), *command] if os.geteuid() == 0 else [*command]

    def _listens(self) -> bool:
        for port in (self.http_port, self.component_port, self.c2s_port):
            with socket.socket() as probe:
                if probe.connect_ex(("127.0.0.1", port)) != 0:
                    return False
        return True
