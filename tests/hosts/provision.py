"""Runs a playbook against a disposable host, as a person runs it against a real one."""

from __future__ import annotations

import importlib.util
import os
import re
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from tests.hosts.nspawn import Host

REPOSITORY = Path(__file__).resolve().parents[2]


@dataclass(frozen=True)
class Play:
    output: str
    failed: bool
    seconds: float

    @property
    def changed(self) -> int:
        return sum(map(int, re.findall(r"\bchanged=(\d+)", self.output)))

    @property
    def failure(self) -> str:
        """What Ansible said about the task that failed."""
        return "\n".join(re.findall(r"(?:fatal|\[ERROR\]).*(?:\n(?!PLAY|TASK).+)*", self.output)) or self.output[-2000:]


def play(
    host: Host,
    playbook: str = "site.yml",
    inventory: str = "demo",
    *options: str,
    plain: bool = False,
    tell: Callable[[str], object] = lambda _task: None,
) -> Play:
    """Run a playbook, with Mitogen unless `plain`; `tell` gets the name of each task as it begins."""
    command = [str(Path(sys.executable).with_name("ansible-playbook")), "-i", f"inventory/{inventory}"]
    environment = os.environ | {
        "SLUSS_HOST_ADDRESS": host.address,
        "SLUSS_HOST_FOLDER": str(host.folder),
        "ANSIBLE_CONFIG": str(REPOSITORY / "ansible.cfg"),
        "ANSIBLE_NOCOLOR": "1",
        "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
    }
    if not plain:  # the same modules in half the time
        mitogen = Path(importlib.util.find_spec("ansible_mitogen").origin).parent
        environment |= {
            "ANSIBLE_STRATEGY": "mitogen_linear",
            "ANSIBLE_STRATEGY_PLUGINS": str(mitogen / "plugins/strategy"),
        }
    start, lines = time.monotonic(), []
    with subprocess.Popen(
        [*command, f"playbooks/{playbook}", *options],
        cwd=REPOSITORY,
        env=environment,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    ) as process:
        for line in process.stdout:
            lines.append(line)
            if task := re.match(r"(?:TASK|RUNNING HANDLER) \[(.*)\]", line):
                tell(task[1])
    return Play("".join(lines), process.returncode != 0, time.monotonic() - start)
