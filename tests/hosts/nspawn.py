"""Disposable Debian hosts: overlays of a base image booted by systemd-nspawn, and a network for them.

`./sluss demo` and the host tests use the same code, so what a person tries is what the tests prove.
Everything lives below one directory (`SLUSS_CACHE`); the only other traces are a bridge, an nft table
and cgroups, all named `sluss…` and all removed by `Network.down` and `Host.destroy`.
"""

from __future__ import annotations

import contextlib
import fcntl
import ipaddress
import json
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

CACHE = Path(os.environ.get("SLUSS_CACHE", "/var/cache/sluss"))
FORWARDING = Path("/proc/sys/net/ipv4/ip_forward")
SUBNETS = [f"10.213.{n}.0/24" for n in range(0, 64, 4)]


class Problem(Exception):
    """Something a person can mend; its text is one line that says how."""


@contextlib.contextmanager
def one_line() -> Iterator[None]:
    """End a program with one line that says what is wrong, instead of a traceback."""
    try:
        yield
    except Problem as problem:
        sys.exit(f"sluss: {problem}")
    except subprocess.TimeoutExpired as error:
        sys.exit(f"sluss: {Path(error.cmd[0]).name} did not end within {error.timeout:.0f} seconds")
    except subprocess.CalledProcessError as error:
        sys.exit(f"sluss: {Path(error.cmd[0]).name} failed: {last_line(error.stderr)}")
    except AssertionError as error:  # a command on a host
        what, _, said = str(error).partition("\n")
        sys.exit(f"sluss: {what}: {last_line(said)}")
    except OSError as error:
        sys.exit(f"sluss: {error.strerror}{f': {error.filename}' if error.filename else ''}")
    except KeyboardInterrupt:
        sys.exit("\nsluss: stopped; run it again to go on, or `./sluss demo down`")


def last_line(text: str | None) -> str:
    return (text or "").strip().rpartition("\n")[2] or "no reason given"


def sh(*command: str, timeout: float = 60, **options) -> subprocess.CompletedProcess[str]:
    return subprocess.run(command, check=True, text=True, capture_output=True, timeout=timeout, **options)


@contextlib.contextmanager
def cache_in_use():
    """Hold the cache while something boots from it. The last to leave sets the machine's forwarding back."""
    CACHE.mkdir(parents=True, exist_ok=True)
    with (CACHE / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_SH)
        yield lock
        with contextlib.suppress(BlockingIOError):
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            restore_forwarding()


def restore_forwarding() -> None:
    before = CACHE / "ip_forward"
    if before.exists():
        FORWARDING.write_text(before.read_text())
        before.unlink()


@dataclass(frozen=True)
class Network:
    """A bridge with an address for this machine, and a masquerade that lets its hosts out."""

    bridge: str
    subnet: ipaddress.IPv4Network

    @classmethod
    def free(cls, bridge: str) -> Network:
        """Choose the first subnet that this machine has no route into."""
        routes = json.loads(sh("ip", "-j", "-4", "route", "show", "table", "all").stdout)
        taken = [
            ipaddress.ip_network(route["dst"], strict=False)
            for route in routes
            if route["dst"] != "default" and route.get("dev") != bridge
        ]
        for subnet in map(ipaddress.IPv4Network, SUBNETS):
            if not any(subnet.overlaps(other) for other in taken):
                return cls(bridge, subnet)
        raise Problem(f"every network from {SUBNETS[0]} to {SUBNETS[-1]} is taken on this machine")

    @property
    def gateway(self) -> str:
        return str(self.subnet[1])

    def up(self) -> None:
        if self.bridge not in {link["ifname"] for link in json.loads(sh("ip", "-j", "link").stdout)}:
            sh("ip", "link", "add", self.bridge, "type", "bridge")
        sh("ip", "address", "replace", f"{self.gateway}/{self.subnet.prefixlen}", "dev", self.bridge)
        sh("ip", "link", "set", self.bridge, "up", "mtu", str(outside_mtu()))
        masquerade(self.bridge, self.subnet)

    def down(self) -> None:
        for command in (("ip", "link", "delete", self.bridge), ("nft", "delete", "table", "ip", self.bridge)):
            with contextlib.suppress(FileNotFoundError):  # what made it is not installed, so there is none
                subprocess.run(command, check=False, capture_output=True)


def masquerade(table: str, subnet: ipaddress.IPv4Network) -> None:
    """Let a subnet out through this machine by an nft table of that name."""
    if FORWARDING.read_text().strip() == "0":
        (CACHE / "ip_forward").write_text("0\n")
        FORWARDING.write_text("1\n")
    rules = f"""
        table ip {table}
        delete table ip {table}
        table ip {table} {{
            chain out {{
                type nat hook postrouting priority srcnat
                ip saddr {subnet} ip daddr != {subnet} masquerade
            }}
        }}"""
    sh("nft", "-f", "-", input=rules)


def outside_mtu() -> int:
    """Return the MTU of the way out: hosts take it over, so that no packet of theirs is too large."""
    routes = json.loads(sh("ip", "-j", "-4", "route", "show", "default").stdout)
    if not routes:
        raise Problem("this machine has no default route: a new host needs a way to its package mirror")
    return json.loads(sh("ip", "-j", "link", "show", routes[0]["dev"]).stdout)[0]["mtu"]


def nameservers() -> list[str]:
    """Return the machine's resolvers as a host can reach them: what is behind a stub on loopback."""
    for path in ("/etc/resolv.conf", "/run/systemd/resolve/resolv.conf"):
        with contextlib.suppress(FileNotFoundError):
            found = re.findall(r"^nameserver\s+(\d+\.\d+\.\d+\.\d+)", Path(path).read_text(), re.MULTILINE)
            if found := [address for address in found if not address.startswith("127.")]:
                return found
    raise Problem("this machine's /etc/resolv.conf names no resolver that a host could reach")


@dataclass
class Host:
    """One booted Debian: an overlay of an image, an address, ssh as root with a key of its own."""

    name: str
    folder: Path  # holds the overlay, the ssh key, known_hosts and the console's log
    network: Network
    address: str
    cgroups: list[Path] = field(init=False)
    _loop: subprocess.Popen[bytes] | None = None

    def __post_init__(self) -> None:
        tops = [p for p in map(Path, ("/sys/fs/cgroup/systemd", "/sys/fs/cgroup/unified")) if p.is_dir()]
        # Sharing a cgroup with the caller makes units in the host fail at random.
        name = "-".join(("sluss", *self.folder.relative_to(CACHE).parts))
        self.cgroups = [top / name for top in tops or [Path("/sys/fs/cgroup")]]

    @property
    def root(self) -> Path:
        return self.folder / "root"

    @property
    def key(self) -> Path:
        return self.folder / "key"

    @property
    def known_hosts(self) -> Path:
        return self.folder / "known_hosts"

    @property
    def running(self) -> bool:
        return bool(self._processes())

    def create(self, image: Path) -> None:
        for part in ("upper", "work", "root"):
            (self.folder / part).mkdir(parents=True, exist_ok=True)
        self._mount(image)
        write = {
            "etc/hostname": f"{self.name}\n",
            "etc/hosts": f"127.0.0.1 localhost\n::1 localhost ip6-localhost\n{self.address} {self.name}\n",
            "etc/resolv.conf": "".join(f"nameserver {server}\n" for server in nameservers()),
            "etc/systemd/network/10-host0.network": "\n".join([
                "[Match]\nName=host0", f"[Link]\nMTUBytes={outside_mtu()}",
                f"[Network]\nAddress={self.address}/{self.network.subnet.prefixlen}\nGateway={self.network.gateway}\n",
            ]),
        }  # fmt: skip
        for path, text in write.items():
            (self.root / path).write_text(text)
        sh("ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", "sluss", "-f", str(self.key))
        sh("ssh-keygen", "-A", "-f", str(self.root))
        (self.root / "root/.ssh").mkdir(mode=0o700, exist_ok=True)
        shutil.copy(self.key.with_suffix(".pub"), self.root / "root/.ssh/authorized_keys")
        identity = (self.root / "etc/ssh/ssh_host_ed25519_key.pub").read_text()
        self.known_hosts.write_text(f"{self.address} {identity}")

    def _mount(self, image: Path) -> None:
        (self.folder / "image").write_text(str(image))
        layers = f"lowerdir={image},upperdir={self.folder / 'upper'},workdir={self.folder / 'work'}"
        try:
            sh("mount", "-t", "overlay", "overlay", "-o", layers, str(self.root))
        except subprocess.CalledProcessError as error:
            raise Problem(
                f"no overlay can be made in {self.folder}: point SLUSS_CACHE at a directory on a disk"
            ) from error

    def start(self) -> None:
        """Boot and wait until every unit has started. The cache counts as in use while the host runs."""
        if not os.path.ismount(self.root):
            self._mount(Path((self.folder / "image").read_text()))
        for cgroup in self.cgroups:
            for part in ("loop", "host"):
                (cgroup / part).mkdir(parents=True, exist_ok=True)
        into_loop, into_host = (
            "; ".join(f"echo $$ > {cgroup / part}/cgroup.procs" for cgroup in self.cgroups) for part in ("loop", "host")
        )
        boot = (
            "exec systemd-nspawn --quiet --boot --register=no --keep-unit --kill-signal=SIGRTMIN+3"
            f" --directory={self.root} --machine={self.name} --network-bridge={self.network.bridge}"
            " --console=pipe --resolv-conf=off --timezone=off --link-journal=no"
        )
        # nspawn ends with 133 when the host asks for a reboot.
        loop = f"{into_loop}; while sh -c '{into_host}; {boot}'; [ $? = 133 ]; do :; done"
        with (self.folder / "console.log").open("a") as log, (CACHE / "lock").open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_SH)
            self._loop = subprocess.Popen(
                ["sh", "-c", loop], stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True,
                env=os.environ | {"SYSTEMD_NSPAWN_UNIFIED_HIERARCHY": "1"}, pass_fds=[lock.fileno()],
            )  # fmt: skip
        self.wait()

    def wait(self, seconds: float = 90) -> None:
        until = time.monotonic() + seconds
        while True:
            with contextlib.suppress(OSError), socket.create_connection((self.address, 22), timeout=1):
                break
            if time.monotonic() > until or (self._loop and self._loop.poll() is not None):
                raise Problem(f"{self.name} did not boot; its console is in {self.folder / 'console.log'}")
            time.sleep(0.1)
        self.run("systemctl is-system-running --wait", check=False)

    def ssh(self) -> list[str]:
        options = [
            f"IdentityFile={self.key}", "IdentitiesOnly=yes",
            f"UserKnownHostsFile={self.known_hosts}",
            "StrictHostKeyChecking=yes", "BatchMode=yes", "ConnectTimeout=5", "LogLevel=ERROR",
            "ControlMaster=auto", "ControlPersist=30", f"ControlPath={self.folder / 'ssh-%C'}",
        ]  # fmt: skip
        return [
            "ssh",
            "-F",
            "none",
            *(part for option in options for part in ("-o", option)),
            f"root@{self.address}",
        ]

    def run(
        self, command: str, *, check: bool = True, timeout: float = 60, **options
    ) -> subprocess.CompletedProcess[str]:
        """Run a shell command as root on the host."""
        done = subprocess.run(
            [*self.ssh(), command], text=True, capture_output=True, check=False, timeout=timeout, **options
        )
        if check and done.returncode:
            raise AssertionError(f"{self.name}: {command}: exit {done.returncode}\n{done.stdout}{done.stderr}")
        return done

    def reboot(self) -> None:
        boot = "cat /proc/sys/kernel/random/boot_id"
        before = self.run(boot).stdout
        subprocess.run([*self.ssh(), "-O", "exit"], check=False, capture_output=True)
        self.run("systemctl reboot", check=False)
        until = time.monotonic() + 60
        while self.run(boot, check=False).stdout in ("", before):
            if time.monotonic() > until:
                raise Problem(f"{self.name} did not reboot; its console is in {self.folder / 'console.log'}")
            time.sleep(0.2)
        self.wait()

    def stop(self) -> None:
        """Power off as a machine does, then make sure that nothing is left."""
        self._signal(signal.SIGTERM, "systemd-nspawn")
        until = time.monotonic() + 20
        while self.running and time.monotonic() < until:
            time.sleep(0.1)
        while self.running:
            self._signal(signal.SIGKILL)
        remove_cgroups(self.cgroups)

    def destroy(self) -> None:
        self.stop()
        while os.path.ismount(self.root):
            sh("umount", str(self.root))
        shutil.rmtree(self.folder, ignore_errors=True)

    def _processes(self) -> list[int]:
        found = []
        for folder in (folder for cgroup in self.cgroups for folder, _, _ in os.walk(cgroup)):  # they come and go
            with contextlib.suppress(OSError):
                found += [int(pid) for pid in Path(folder, "cgroup.procs").read_text().split() if pid != "0"]
        return found

    def _signal(self, number: signal.Signals, comm: str = "") -> None:
        for pid in self._processes():
            with contextlib.suppress(OSError):
                if not comm or Path(f"/proc/{pid}/comm").read_text().strip() == comm[:15]:
                    os.kill(pid, number)


def remove_cgroups(tops: list[Path]) -> None:
    for top in tops:
        for folder in [*sorted(top.rglob("*/"), reverse=True), top]:
            with contextlib.suppress(OSError):
                folder.rmdir()
