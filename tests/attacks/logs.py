"""Looking for secrets in everything that the host has written down."""

from __future__ import annotations

import re

from tests.attacks.people import Site
from tests.conftest import TICKET

PATTERNS = {
    "ticket": TICKET,
    "link": r"/(?:i|enrol)/[\w-]{20,}",
    "code": r"@portal\.sluss\.test #\d{6}",
    "number": r"\+46\d{7,}",
    "address": r"[\w.]+@example\.org",
    "cookie": r"__Host-sluss=[\w-]{20,}",
}


def everything_logged(site: Site) -> str:
    """The journal with all its fields, and what stands in /var/log."""
    files = "find /var/log -path /var/log/journal -prune -o -type f -print0 | xargs -0 zcat -f"
    command = f"journalctl --sync; journalctl --no-pager -a -o verbose; {files}"
    return site.server.run(command, check=False, errors="replace").stdout


def secrets_logged(logged: str) -> set[str]:
    """The kinds of secrets that stand in a log."""
    return {kind for kind, pattern in PATTERNS.items() if re.search(pattern, logged)}
