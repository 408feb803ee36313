"""Invariant 9: the audit log is append-only, and `sluss audit verify` finds whatever was done to it.

Tried on a copy of the database, by somebody who may write to it and knows how the chain is made, but has not the key.
"""

from __future__ import annotations

import subprocess
from collections.abc import Iterator

import pytest
from tests.attacks.people import Meeting, Site

COPY, SETTINGS = "/var/lib/sluss/copy.db", "/run/sluss-copy.yml"
TAMPER = """
import hashlib, shutil, sqlite3
db = sqlite3.connect("COPY")
sqlite3.connect("/var/lib/sluss/sluss.db").backup(db)
one = lambda query, *values: db.execute(query, values).fetchone()[0]
last = one("SELECT max(seq) FROM audit")
n = one("SELECT max(seq) FROM audit WHERE entry LIKE '%done%' AND seq < ?", last)
def chain(end):
    for seq in range(n, end + 1):
        before = one("SELECT hash FROM audit WHERE seq = ?", seq - 1)
        made = hashlib.sha256(bytes.fromhex(before) + one("SELECT entry FROM audit WHERE seq = ?", seq).encode())
        db.execute("UPDATE audit SET hash = ? WHERE seq = ?", (made.hexdigest(), seq))
"""
NO_TRIGGERS = "for name in ('no_update', 'no_delete', 'next'): db.execute('DROP TRIGGER audit_' + name)\n"
CHANGE = "db.execute('UPDATE audit SET entry = replace(entry, ?, ?) WHERE seq = ?', ('done', 'refused', n))\n"
HEAD = "db.execute('UPDATE audit_head SET hash = ?', (one('SELECT hash FROM audit WHERE seq = ?', last),))\n"
TAMPERING = {
    "changed": (CHANGE, "changed"),
    "changed_with_its_hash": (f"{CHANGE}chain(n)", "changed"),
    "made_anew": (f"{CHANGE}chain(last)", "rewritten"),
    "made_anew_with_its_head": (f"{CHANGE}chain(last)\n{HEAD}", "head forged"),
    "removed": ("db.execute('DELETE FROM audit WHERE seq = ?', (n,))", "missing"),
    "moved": (
        "for move in ((-1, n), (n, last), (last, -1)): db.execute('UPDATE audit SET seq = ? WHERE seq = ?', move)",
        "reordered",
    ),
    "repeated": (
        "db.execute('INSERT INTO audit SELECT ?, entry, hash FROM audit WHERE seq = ?', (last + 1, n))",
        "duplicated",
    ),
    "cut_off": ("db.execute('DELETE FROM audit WHERE seq = ?', (last,))", "truncated"),
}


def on_copy(site: Site, script: str) -> subprocess.CompletedProcess[str]:
    """Run a Python program on the host, as root, beside a fresh copy of the database that `db` is open on."""
    done = f"\ndb.commit()\nshutil.chown('{COPY}', 'sluss', 'sluss')\n"
    return site.server.run("python3 -", input=TAMPER.replace("COPY", COPY) + script + done, check=False)


@pytest.fixture(scope="module")
def copy(site: Site, meeting: Meeting) -> Iterator[None]:
    """Settings for `sluss` that name the copy; away again with it. The meeting is in the log."""
    site.server.run(f"sed s#/var/lib/sluss/sluss.db#{COPY}# /etc/sluss/sluss.yml >{SETTINGS}")
    assert verify(site, "").stdout.startswith("ok ")
    yield
    site.server.run(f"rm -f {SETTINGS} {COPY}*")


def verify(site: Site, script: str, *noted: str) -> subprocess.CompletedProcess[str]:
    """What `sluss audit verify` says of a copy to which this was done."""
    tampered = on_copy(site, NO_TRIGGERS + script)
    assert tampered.returncode == 0, tampered.stderr
    return site.server.run(f"sluss --config {SETTINGS} audit verify {' '.join(noted)}", check=False)


@pytest.mark.parametrize("name", TAMPERING)
def test_tampering_shows(site: Site, copy: None, name: str):
    script, damage = TAMPERING[name]
    found = verify(site, script)
    assert found.returncode == 1
    assert f": {damage}: " in found.stderr


def test_emptied_log_shows_by_what_the_journal_noted(site: Site, copy: None):
    head = verify(site, "").stdout.removeprefix("ok ").strip()
    found = verify(site, "db.execute('DELETE FROM audit'); db.execute('DELETE FROM audit_head')", f"--head {head}")
    assert found.returncode == 1
    assert ": truncated: " in found.stderr


@pytest.mark.parametrize("name", ["changed", "removed", "moved"])
def test_database_itself_refuses(site: Site, copy: None, name: str):
    tampered = on_copy(site, TAMPERING[name][0])
    assert "audit is append-only" in tampered.stderr
