"""Runs a command in namespaces of its own: a test run, however it ends, leaves nothing on the machine.

Processes, mounts, bridges and nft rules made inside vanish with it. A veth pair leads outside.
`python -m tests.hosts.enclosure pytest …`; inside, `SLUSS_RUN` names a directory that is removed at the end.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

from tests.hosts import nspawn
from tests.hosts.nspawn import CACHE, Network, cache_in_use, one_line, sh


def sweep() -> None:
    """Remove what runs that were killed have left: their directory, nft table and cgroups."""
    for folder in CACHE.glob("run-*"):
        pid = folder.name.removeprefix("run-")
        if not Path("/proc", pid).exists():
            remove(folder, pid)


def remove(folder: Path, pid: str) -> None:
    subprocess.run(["nft", "delete", "table", "ip", f"sluss-{pid}"], check=False, capture_output=True)
    tops = [Path("/sys/fs/cgroup"), Path("/sys/fs/cgroup/systemd"), Path("/sys/fs/cgroup/unified")]
    nspawn.remove_cgroups([cgroup for top in tops for cgroup in top.glob(f"sluss-run-{pid}-*")])
    shutil.rmtree(folder, ignore_errors=True)


def outside(command: list[str]) -> int:
    """Make the namespaces, connect them, run the command in them and return its exit code."""
    sweep()
    pid = str(os.getpid())
    folder = CACHE / f"run-{pid}"
    folder.mkdir()
    network = Network.free(f"sluss-{pid}")
    ready, go = os.pipe(), os.pipe()
    inner = [sys.executable, "-m", "tests.hosts.enclosure", "--inside", str(ready[1]), str(go[0])]
    inner += [f"{network.subnet[2]}/24", network.gateway, *command]
    unshare = ["unshare", "--mount", "--net", "--pid", "--fork", "--mount-proc", "--kill-child=KILL"]
    try:
        process = subprocess.Popen(
            ["setpriv", "--pdeathsig", "KILL", *unshare, *inner],
            pass_fds=[ready[1], go[0]],
            env=os.environ | {"SLUSS_RUN": str(folder)},
        )
        os.close(ready[1])
        os.read(ready[0], 1)
        connect(network, process.pid)
        os.write(go[1], b".")
        return process.wait()
    finally:
        remove(folder, pid)


def connect(network: Network, pid: int) -> None:
    ours, mtu = f"sluss{pid}", str(nspawn.outside_mtu())
    sh(
        "ip",
        "link",
        "add",
        ours,
        "mtu",
        mtu,
        "type",
        "veth",
        "peer",
        "name",
        "outside",
        "mtu",
        mtu,
        "netns",
        str(pid),
    )
    sh("ip", "address", "add", f"{network.gateway}/24", "dev", ours)
    sh("ip", "link", "set", ours, "up")
    nspawn.masquerade(network.bridge, network.subnet)


def inside(ready: str, go: str, address: str, gateway: str, *command: str) -> None:
    """Bring up the inner network, put private copies over what hosts write to, become the command."""
    os.write(int(ready), b".")
    os.read(int(go), 1)
    os.close(int(ready))
    os.close(int(go))
    sh("ip", "link", "set", "lo", "up")
    sh("ip", "address", "add", address, "dev", "outside")
    sh("ip", "link", "set", "outside", "up")
    sh("ip", "route", "add", "default", "via", gateway)
    folder = Path(os.environ["SLUSS_RUN"])
    Path("/etc/hosts").touch()  # a minimal Debian may have none
    shutil.copy("/etc/hosts", folder / "hosts")
    (folder / "resolv.conf").write_text("".join(f"nameserver {server}\n" for server in nspawn.nameservers()))
    for file in ("hosts", "resolv.conf"):
        sh("mount", "--bind", str(folder / file), f"/etc/{file}")
    Path("/run/systemd/nspawn").mkdir(parents=True, exist_ok=True)
    sh("mount", "-t", "tmpfs", "tmpfs", "/run/systemd/nspawn")
    os.execvp(command[0], command)  # noqa: S606 - the caller's own command


def main() -> int:
    if sys.argv[1] == "--inside":
        inside(*sys.argv[2:])
    with cache_in_use():
        return outside(sys.argv[1:])


if __name__ == "__main__":
    with one_line():
        sys.exit(main())
