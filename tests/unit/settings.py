"""A settings file and a directory of secrets, as provisioning leaves them."""

import base64
from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory

import yaml
from tests.unit.world import MASTER

from sluss.keyring.ring import create_first_key

COMPONENT_SECRET, SMS_PASSWORD, SMTP_PASSWORD = "component secret 7f3a", "sms password 91bc", "smtp password 55de"
SIGN_IN_SECRET = "client secret 20c7"
LDAP_PASSWORD = "directory password 4e8a"
SIGN_IN = {
    "issuer": "https://login.sluss.test/realms/staff",
    "client_id": "sluss",
    "levels": {"mfa": "sign_in", "hwk": "sign_in_high"},
}


@cache
def _key() -> tuple[str, bytes]:
    with TemporaryDirectory() as folder:
        kid, _ = create_first_key(Path(folder))
        return f"{kid}.active.pem", Path(folder, f"{kid}.active.pem").read_bytes()


def valid(folder: Path) -> dict:
    """The settings, to change as a test needs."""
    return {
        "organisation": "Demo Ltd",
        "portal": "https://portal.sluss.test",
        "meet": "https://meet.sluss.test",
        "listen": {"portal": "127.0.0.1:0", "internal": "127.0.0.1:0"},
        "trusted_proxies": ["127.0.0.1"],
        "database": f"sqlite:///{folder}/state/sluss.db",
        "gate": {"component": "sluss.meet.sluss.test", "host": "127.0.0.1", "port": 9, "enabled": False},
        "mail": {"host": "127.0.0.1", "port": 9, "security": "none", "sender": "Sluss <no-reply@sluss.test>"},
        "sms": {"kind": "http", "url": "http://127.0.0.1:9/sms", "json": {"to": "{to}", "text": "{text}"}},
        "log": {"level": "info", "format": "text"},
    }


LDAP = {
    "kind": "openldap",
    "servers": ["ldaps://ldap.sluss.test", "ldap://ldap2.sluss.test:1389"],
    "authority": "/etc/sluss/ldap-authority.pem",
    "account": "cn=sluss,dc=sluss,dc=test",
    "base": "dc=sluss,dc=test",
}
BANKID = {"environment": "test", "authority": "/etc/sluss/bankid-authority.pem"}


def written(folder: Path, settings: dict) -> Path:
    """The path of the settings, written down."""
    path = folder / "sluss.yml"
    path.write_text(yaml.safe_dump(settings), "utf-8")
    return path


def credentials(folder: Path) -> Path:
    """The directory that systemd would hand over."""
    directory = folder / "credentials"
    directory.mkdir(exist_ok=True)
    name, pem = _key()
    (directory / "master-key").write_bytes(base64.b64encode(MASTER) + b"\n")
    (directory / "component-secret").write_text(COMPONENT_SECRET)
    (directory / "sms-password").write_text(SMS_PASSWORD)
    (directory / "smtp-password").write_text(SMTP_PASSWORD)
    (directory / "sign-in-secret").write_text(SIGN_IN_SECRET)
    (directory / "ldap-password").write_text(LDAP_PASSWORD)
    (directory / f"ticket-keys_{name}").write_bytes(pem)
    return directory
