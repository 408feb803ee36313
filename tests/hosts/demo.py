"""`./sluss demo`: a disposable Debian host, provisioned by the playbook of real ones, with something on it.

`./sluss demo down` takes all of it away again. Called by `./sluss`, which has made the Python environment.
"""

from __future__ import annotations

import contextlib
import datetime as dt
import fcntl
import ipaddress
import json
import os
import re
import shutil
import sys
import time
from pathlib import Path

from tests.hosts.image import Image
from tests.hosts.nspawn import CACHE, SUBNETS, Host, Network, Problem, cache_in_use, one_line, restore_forwarding
from tests.hosts.provision import play

FOLDER = CACHE / "demo"
NOTES = FOLDER / "notes.json"  # what was made on the host and cannot be asked for again: the one-time link
BRIDGE = "sluss-demo"
NAMES = "portal.sluss.test meet.sluss.test outbox.sluss.test"
MARK = "# made by ./sluss demo"
HOSTS = Path("/etc/hosts")
ORGANISER = "olga@sluss.test"


OURS = ("images", "venv-*", "run-*", "pip", "ansible", "bridge-*", "wheels-*", "*.log", "lock")


class Progress:
    """One line on a terminal that says what is being done; a line a step where there is none."""

    def __init__(self) -> None:
        self._start = time.monotonic()
        self._terminal = sys.stdout.isatty()

    def __call__(self, text: str) -> None:
        if ": Validating arguments" in text:
            return
        line = f"{time.monotonic() - self._start:4.0f} s  {text}"
        if self._terminal:
            width = shutil.get_terminal_size().columns - 1
            print(f"\r\033[K{line[:width]}", end="", flush=True)
        else:
            print(line, flush=True)

    def done(self, text: str) -> None:
        self(text)
        if self._terminal:
            print()


def find() -> Host:
    """Return the demo's host: the one that there is, or one at an address that is free."""
    with contextlib.suppress(FileNotFoundError):
        network = Network(BRIDGE, ipaddress.IPv4Network((FOLDER / "subnet").read_text()))
        return Host("sluss-demo", FOLDER, network, str(network.subnet[2]))
    # Without iproute2 there never was a demo to take down.
    network = Network.free(BRIDGE) if shutil.which("ip") else Network(BRIDGE, ipaddress.IPv4Network(SUBNETS[0]))
    return Host("sluss-demo", FOLDER, network, str(network.subnet[2]))


def up() -> None:
    tell = Progress()
    host = find()
    with cache_in_use():
        if not host.known_hosts.exists():
            tell("Making a Debian 13 to boot (once; about a minute)")
            image = Image("trixie").build()
            host.destroy()
            host.create(image)
            (FOLDER / "subnet").write_text(str(host.network.subnet))
        host.network.up()
        if not host.running:
            tell("Booting it")
            host.start()
        result = play(host, tell=tell)
        (FOLDER / "ansible.log").write_text(result.output)
        if result.failed:
            print(f"\n{result.failure}\n", file=sys.stderr)
            raise Problem(f"the playbook stopped at the task above; all it said is in {FOLDER / 'ansible.log'}")
        (FOLDER / "ca.pem").write_text(host.run("cat /etc/sluss/tls/ca.pem").stdout)
        write_names(f"{host.address} {NAMES} {MARK}\n")
        tell("Making an organiser and a meeting")
        notes = fill(host)
    tell.done(f"Ready: {result.changed} changes in {result.seconds:.0f} s of Ansible")
    print(GUIDE.format(address=host.address, ca=FOLDER / "ca.pem", key=host.key, machine=os.uname().nodename, **notes))


def fill(host: Host) -> dict[str, str]:
    """Make the first organiser, once, and a sample meeting whenever the last one is over."""
    notes = json.loads(NOTES.read_text()) if NOTES.exists() else {}
    if "enrol" not in notes:
        made = host.run(f"sluss organiser add --name 'Olga Organiser' --email {ORGANISER}").stdout
        notes["enrol"] = re.search(r"https://\S+", made)[0]
    now = dt.datetime.now(dt.UTC)
    if notes.get("over", "") < now.isoformat():
        start = now + dt.timedelta(minutes=10)
        host.run(
            f"sluss meeting add --organiser {ORGANISER} --title 'Sample meeting'"
            f" --start {start:%Y-%m-%dT%H:%M}Z --minutes 120"
            " --participant 'Anna Lindberg,anna@sluss.test,+46701740605'"
            " --participant 'Bo Ek,bo@sluss.test,+46701740606'"
        )
        notes["over"] = (start + dt.timedelta(minutes=120)).isoformat()
    NOTES.touch(mode=0o600)
    NOTES.write_text(json.dumps(notes))
    return notes


def write_names(line: str) -> None:
    """Have exactly this line of ours in /etc/hosts; written in place, for it may be a mount."""
    HOSTS.touch()  # a minimal Debian may have none
    others = [old for old in HOSTS.read_text().splitlines(keepends=True) if MARK not in old]
    HOSTS.write_text("".join([*others, line]))


def down() -> None:
    host = find()
    host.destroy()
    host.network.down()
    write_names("")
    if not CACHE.exists():
        return
    with (CACHE / "lock").open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            print(f"The demo is gone. {CACHE} stays: a test run is using it. Run this again afterwards.")
            return
        restore_forwarding()
        for path in (path for pattern in OURS for path in CACHE.glob(pattern)):
            shutil.rmtree(path) if path.is_dir() else path.unlink()
    for folder in (Path.home() / ".ansible/tmp", Path.home() / ".ansible", CACHE):
        with contextlib.suppress(OSError):  # somebody keeps other things there
            folder.rmdir()
    print(f"The demo is gone: host, network, names, keys, image and Python environment ({CACHE}).")
    print("Debian packages that it installed stay, since others may need them by now; apt-get can remove them.")


GUIDE = """
Sluss runs on a host of its own on this machine, at {address}.

  Portal    https://portal.sluss.test/
  Outbox    https://outbox.sluss.test/      every mail and SMS lands here
  The CA    {ca}

1. Let your browser trust the CA: in Firefox, Settings > Certificates > Authorities > Import; in Chromium,
   chrome://certificate-manager > Custom. Remove it again after `./sluss demo down`.
   The browser on another computer: ssh -D 1080 root@{machine}, then let the browser use the SOCKS proxy
   localhost:1080, with names resolved by the proxy (Firefox: "Proxy DNS when using SOCKS v5").
2. You are the organiser. Set a password and an authenticator app (the link works once):
   {enrol}
3. You are Anna, who is invited. Open the outbox, press the link in her mail, have an SMS sent, and find its
   code in the outbox. You see the agenda. From 15 minutes before the start you can go in.
4. You are the organiser again: see who has proved who they are, put Anna out, invite somebody else.

There is no video here: the gate is real, Jitsi is not installed. `./sluss demo` again brings everything up to
date, `./sluss demo down` removes it, and `ssh -i {key} root@{address}`
looks inside.
"""


def main() -> None:
    {"up": up, "down": down}[sys.argv[1]]()


if __name__ == "__main__":
    with one_line():
        main()
