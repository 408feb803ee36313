"""Every protection is needed: without it an attack gets through. See mutations.py."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import tempfile
from xml.etree import ElementTree as ET

import pytest
from tests.attacks.mutations import REPOSITORY, Mutation, chosen, without


def attack(host, paths: list[str]) -> dict[str, str]:
    """How tests end that a pytest of their own runs against the host: `passed`; `through` if an attack got through and
    the test itself said so; or what else went wrong, such as an error on the way or a timeout.
    """
    with tempfile.NamedTemporaryFile() as file:
        command = [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", f"--junitxml={file.name}", *paths]
        ours = {"SLUSS_HOST": f"{host.machine.folder} {host.machine.address}"}
        done = subprocess.run(
            command, cwd=REPOSITORY, env=os.environ | ours, text=True, capture_output=True, check=False, timeout=900
        )
        print(done.stdout[-4000:], done.stderr[-2000:])  # shown if this ends badly
        cases = ET.parse(file).iter("testcase")  # noqa: S314
        return {f"{case.get('classname')}::{case.get('name')}": ending(case) for case in cases}


def ending(case: ET.Element) -> str:
    """How one of them ended."""
    bad = [part for part in case if part.tag in {"failure", "error", "skipped"}]
    if not bad:
        return "passed"
    said = re.search(r"^\S*\btest_\w+\.py:\d+: (?:AssertionError|Failed)$", bad[0].text or "", re.MULTILINE)
    return "through" if said and bad[0].tag == "failure" else str(bad[0].get("message"))


@pytest.fixture(scope="module")
def before(host) -> dict[str, str]:
    """How the attacks end while every protection is there."""
    return attack(host, sorted({mutation.attack for mutation in chosen()}))


@pytest.mark.parametrize("mutation", chosen(), ids=lambda one: one.name)
def test_attack_gets_through_without(host, before: dict[str, str], mutation: Mutation):
    with without(host, mutation):
        after = attack(host, [mutation.attack])
    assert after
    assert {before[test] for test in after} == {"passed"}, "a test that is broken catches nothing"
    assert "through" in after.values(), after
