"""A real OpenID provider, npm's oidc-provider, beside the provisioned host."""

import hashlib
import json
import os
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from tests.hosts.nspawn import CACHE
from tests.unit.certificates import Authority

HERE = Path(__file__).parent
NAME = "login.sluss.test"
SECRET = "a client secret of the test alone, 32 or more"
LEVELS = {"mfa": "sign_in", "hwk": "sign_in_high"}


def installed() -> Path:
    """Where it is installed: once for a lock file, each package checked against its hash."""
    lock = HERE / "package-lock.json"
    folder = CACHE / f"provider-{hashlib.sha256(lock.read_bytes()).hexdigest()[:12]}"
    if not (folder / "complete").exists():
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir()
        for file in (lock, HERE / "package.json"):
            shutil.copy(file, folder)
        command = ["npm", "ci", "--ignore-scripts", "--no-audit", "--no-fund", "--cache", str(CACHE / "npm")]
        subprocess.run(command, cwd=folder, check=True, timeout=300)
        (folder / "complete").touch()
    return folder


@dataclass(frozen=True)
class RealProvider:
    authority: Authority
    issuer: str = f"https://{NAME}"

    @property
    def settings(self) -> dict:
        """What an inventory says of it."""
        return {
            "sluss_sign_in": {"issuer": self.issuer, "client_id": "sluss", "levels": LEVELS},
            "sluss_sign_in_secret": SECRET,
        }


@contextmanager
def running(folder: Path, address: str, portal: str, people: dict[str, dict], trust: Path) -> Iterator[RealProvider]:
    """It listens on `address` for `people` (account → claims). `trust`: the authority of the portal's certificate."""
    authority = Authority(folder)
    certificate, key = authority.issue(NAME)
    provider = RealProvider(authority)
    given = {
        "issuer": provider.issuer,
        "address": address,
        "port": 443,
        "key": str(key),
        "certificate": str(certificate),
        "people": people,
        "levels": [],
        "client": {
            "client_id": "sluss",
            "client_secret": SECRET,
            "redirect_uris": [f"{portal}/sign-in/back"],
            "grant_types": ["authorization_code"],
            "response_types": ["code"],
            "id_token_signed_response_alg": "ES256",
            "backchannel_logout_uri": f"{portal}/sign-in/logout",
            "backchannel_logout_session_required": True,
        },
    }
    # Node looks for packages beside the file that asks for them.
    shutil.copy(HERE / "provider.mjs", where := installed())
    with subprocess.Popen(
        ["node", "provider.mjs"],
        cwd=where,
        env=os.environ | {"NODE_EXTRA_CA_CERTS": str(trust)},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as process:
        try:
            process.stdin.write(json.dumps(given))
            process.stdin.close()
            assert process.stdout.readline() == "ready\n"
            yield provider
        finally:
            process.terminate()
