"""Typed settings from one YAML file, secrets from systemd credentials. Every error names key and file."""

import base64
import binascii
import os
import re
from collections.abc import Mapping
from dataclasses import dataclass
from email.headerregistry import Address
from email.utils import parseaddr
from ipaddress import ip_address
from pathlib import Path
from typing import Annotated, Literal, Self
from urllib.parse import urlsplit

from msgspec import Meta
from phonenumbers import SUPPORTED_REGIONS

from sluss import yaml_file
from sluss.domain.assurance import SIGN_INS, Method, Risk
from sluss.domain.drafts import country_prefix
from sluss.domain.errors import ConfigError
from sluss.domain.limits import SmsRules
from sluss.factors import PARTICIPANT_METHODS
from sluss.yaml_file import Section

DEFAULT_PATH = Path("/etc/sluss/sluss.yml")
MASTER_KEY_BYTES = 32


class Origin(str):
    """A web origin, `https://host`, in lower case. Raises `ValueError` for anything else."""

    __slots__ = ()

    def __new__(cls, value: str) -> Self:
        """Check and normalise."""
        url = urlsplit(value)
        if not url.hostname or url.username is not None or value.rstrip("/").lower() != f"https://{url.netloc}".lower():
            raise ValueError("must be an origin such as https://meet.example.org")
        return super().__new__(cls, value.rstrip("/").lower())


class Endpoint(str):
    """Where to listen: `address:port`. Raises `ValueError` for anything else."""

    __slots__ = ()

    def __new__(cls, value: str) -> Self:
        """Check."""
        host, _, port = value.rpartition(":")
        if not host or not port.isdigit() or not 0 <= int(port) < 65536:
            raise ValueError("must be an address and a port such as 127.0.0.1:8600")
        return super().__new__(cls, value)


class Sender(str):
    """Whom mail is from: `Name <address>` or an address (RFC 5322). Raises `ValueError` for anything else."""

    __slots__ = ()

    def __new__(cls, value: str) -> Self:
        """Check."""
        name, address = parseaddr(value)
        try:
            Address(name, addr_spec=address)
        except (ValueError, IndexError):
            raise ValueError("must be an address such as Sluss <no-reply@example.org>") from None
        return super().__new__(cls, value)


class Proxy(str):
    """The IP address of a proxy whose X-Forwarded-For is believed. Raises `ValueError` for anything else."""

    __slots__ = ()

    def __new__(cls, value: str) -> Self:
        """Check and normalise."""
        return super().__new__(cls, str(ip_address(value)))


class Region(str):
    """A country (ISO 3166-1) whose numbering plan is known. Raises `ValueError` for anything else."""

    __slots__ = ()

    def __new__(cls, value: str) -> Self:
        """Check."""
        if value not in SUPPORTED_REGIONS:
            raise ValueError("must be an ISO country code such as SE")
        return super().__new__(cls, value)


Port = Annotated[int, Meta(ge=1, le=65535)]


class Listen(Section, frozen=True, kw_only=True):
    """Where the listeners bind. Port 0 takes a free one."""

    portal: Endpoint = Endpoint("127.0.0.1:8600")
    internal: Endpoint = Endpoint("127.0.0.1:8601")
    keys: Path | None = None
    """Where root hands over other ticket keys, a socket. None: the bridge takes them when it starts."""


class GateSettings(Section, frozen=True, kw_only=True):
    """The component link to Prosody (XEP-0114). `enabled: false` declares it away."""

    component: str
    host: str = "127.0.0.1"
    port: Port = 5347
    enabled: bool = True


class MailSettings(Section, frozen=True, kw_only=True):
    """The organisation's mail relay."""

    host: str
    port: Port = 25
    security: Literal["none", "starttls", "tls"] = "starttls"
    username: str | None = None
    sender: Sender


Prefix = Annotated[str, Meta(pattern=r"^\+[1-9][0-9]{0,14}$")]


class _Sms(Section, frozen=True, kw_only=True):
    """What holds whichever way an SMS goes."""

    prefixes: Annotated[tuple[Prefix, ...], Meta(min_length=1)] | None = None
    """Numbers that codes are sent to begin with one of these. None: with the country code of `default_region`."""
    per_day: Annotated[int, Meta(ge=1, le=1_000_000)] = 2000
    """How many SMS go out within 24 hours, at most."""


class HttpSms(_Sms, frozen=True, kw_only=True, tag_field="kind", tag="http"):
    """An SMS operator's HTTP interface. `{to}` and `{text}` are filled in; in headers `{password}` too."""

    url: Annotated[str, Meta(pattern=r"^https?://")]
    method: Literal["POST", "PUT"] = "POST"
    headers: dict[str, str] = {}  # noqa: RUF012 - msgspec copies it
    json: dict[str, str] | None = None
    form: dict[str, str] | None = None
    username: str | None = None


class GammuSms(_Sms, frozen=True, kw_only=True, tag_field="kind", tag="gammu-smsd"):
    """The organisation's own modem, through Debian's gammu-smsd."""

    inject: Path = Path("/usr/bin/gammu-smsd-inject")
    config: Path = Path("/etc/gammu-smsdrc")


class BankIdSettings(Section, frozen=True, kw_only=True):
    """Swedish BankID. The client certificate and its key are the credentials `bankid-certificate` and `bankid-key`."""

    environment: Literal["production", "test"]
    authority: Path
    """The authority of BankID's own server in that environment, PEM. No other is trusted."""
    url: Annotated[str, Meta(pattern=r"^https://")] | None = None
    """Where its API is, if not at BankID's own address: a proxy on the way out, or a test."""
    accepted_risk: Risk = Risk.MODERATE
    """The highest risk indication with which a person is let through."""


class Issuer(str):
    """An OpenID Connect issuer: an https address without query or fragment. Raises `ValueError` for anything else."""

    __slots__ = ()

    def __new__(cls, value: str) -> Self:
        """Check. It is compared letter by letter with what tokens say, so nothing is changed."""
        url = urlsplit(value)
        if url.scheme != "https" or not url.hostname or "@" in url.netloc or "?" in value or "#" in value:
            raise ValueError("must be an https address such as https://login.example.org/realms/staff")
        return super().__new__(cls, value)


class SignInMethod(str):
    """What a sign-in comes to. Raises `ValueError` for anything but `sign_in` and `sign_in_high`."""

    __slots__ = ()

    def __new__(cls, value: str) -> Self:
        """Check."""
        if value not in SIGN_INS:
            raise ValueError("must be sign_in or sign_in_high")
        return super().__new__(cls, value)


Word = Annotated[str, Meta(min_length=1, max_length=255)]


class Groups(Section, frozen=True, kw_only=True):
    """What makes an account an organiser or auditor at its first sign-in, and what it must still have at later ones."""

    claim: Word
    organiser: Word
    auditor: str = ""


class SignInSettings(Section, frozen=True, kw_only=True):
    """The organisation's identity provider (OpenID Connect)."""

    issuer: Issuer
    client_id: Word
    levels: Annotated[dict[Word, SignInMethod], Meta(min_length=1)]
    """What values of `acr` and `amr` come to. A sign-in with none of them is refused."""
    acr_values: tuple[Word, ...] = ()
    scopes: tuple[Word, ...] = ("openid", "email", "profile")
    email_claim: Word = "email"
    email_trusted: bool = False
    hosts: tuple[Word, ...] = ()
    organisers: Groups | None = None

    @property
    def methods(self) -> dict[str, Method]:
        """The levels, as methods."""
        return {value: Method(level) for value, level in self.levels.items()}


class DirectoryServer(str):
    """`ldaps://host`, or `ldap://host` (StartTLS), perhaps with a port. Raises `ValueError` for anything else."""

    __slots__ = ()

    def __new__(cls, value: str) -> Self:
        """Check."""
        found = re.fullmatch(r"(?i)ldaps?://(?:[a-z0-9.-]+|\[[0-9a-f:.]+\])(?::([0-9]{1,5}))?/?", value)
        if found is None or not 0 < int(found[1] or 1) < 65536:
            raise ValueError("must be ldaps:// or ldap:// and a host, such as ldaps://ldap.example.org")
        return super().__new__(cls, value)


class DirectoryFilter(str):
    """A search filter in its parentheses (RFC 4515). Raises `ValueError` for what cannot be one."""

    __slots__ = ()

    def __new__(cls, value: str) -> Self:
        """Check that every parenthesis is closed, so that what is added around it stays around it."""
        depth = 0
        for place, letter in enumerate(value):
            depth += {"(": 1, ")": -1}.get(letter, 0)
            if depth < 1 and place < len(value) - 1:
                break
        else:
            if value.startswith("(") and depth == 0:
                return super().__new__(cls, value)
        raise ValueError("must be a filter in parentheses such as (objectClass=inetOrgPerson)")


AttributeName = Annotated[str, Meta(pattern=r"^[A-Za-z][A-Za-z0-9-]*$")]


class LdapSettings(Section, frozen=True, kw_only=True):
    """The organisation's directory. The service account's password is the credential `ldap-password`."""

    kind: Literal["openldap", "active-directory"]
    servers: Annotated[tuple[DirectoryServer, ...], Meta(min_length=1)]
    authority: Path
    """Who signed their certificates, PEM. No other is trusted."""
    account: Word
    base: Word
    people: DirectoryFilter | None = None
    """Who may sign in. None: what the kind has."""
    mail: AttributeName | None = None
    mobile: AttributeName = "mobile"
    name: AttributeName = "displayName"
    organisers: Word | None = None
    auditors: Word | None = None


class Oid(str):
    """An object identifier in dotted numbers. Raises `ValueError` for anything else."""

    __slots__ = ()

    def __new__(cls, value: str) -> Self:
        """Check."""
        parts = value.split(".")
        if len(parts) < 2 or not all(part.isascii() and part.isdecimal() for part in parts):
            raise ValueError("must be dotted numbers such as 1.2.752.74.4.1")
        return super().__new__(cls, value)


class SmartcardSettings(Section, frozen=True, kw_only=True):
    """Certificates on cards, from the organisation's own authorities."""

    origin: Origin
    """Where nginx asks for one."""
    authorities: Path
    crl: Path
    """The lists of revoked certificates. nginx reads them; only their end is looked at here, for the metrics."""
    policies: tuple[Oid, ...] = ()
    """Policies in a certificate that say that its key is on a card."""
    cards_only: bool = False
    """Whether the authorities issue to cards and to nothing else, so that no policy has to say it."""
    address: Literal["email", "upn"] = "email"
    """What invitations go to."""
    socket: Path = Path("/run/sluss-card/socket")
    """Where nginx hands over what it was shown. Only nginx may reach it."""

    def __post_init__(self) -> None:
        """A key that is in a file can be used without a PIN: it would be one factor."""
        if not self.policies and not self.cards_only:
            raise ValueError("needs policies that say that a key is on a card, or cards_only: true")


class LogSettings(Section, frozen=True, kw_only=True):
    """How the log looks. Never below `info` in production: there is no more to see."""

    level: Literal["debug", "info", "warning", "error"] = "info"
    format: Literal["json", "text"] = "text"


class Settings(Section, frozen=True, kw_only=True):
    """Everything in sluss.yml."""

    organisation: Annotated[str, Meta(min_length=1, max_length=80)]
    portal: Origin
    meet: Origin
    listen: Listen = Listen()
    trusted_proxies: tuple[Proxy, ...] = ()
    certificate: Path | None = None
    """What nginx shows visitors. Only its end is looked at, for the metrics."""
    database: Annotated[str, Meta(pattern=r"^sqlite:///")] = "sqlite:////var/lib/sluss/sluss.db"
    gate: GateSettings
    jitsi: bool = False
    mail: MailSettings
    sms: HttpSms | GammuSms
    bankid: BankIdSettings | None = None
    sign_in: SignInSettings | None = None
    ldap: LdapSettings | None = None
    smartcard: SmartcardSettings | None = None
    default_region: Region = Region("SE")
    default_locale: Literal["sv", "en"] = "sv"
    log: LogSettings = LogSettings()

    @property
    def sms_rules(self) -> SmsRules:
        """What may be sent by SMS."""
        return SmsRules(self.sms.prefixes or (country_prefix(self.default_region),), self.sms.per_day)

    @property
    def methods(self) -> frozenset[Method]:
        """How a participant can verify here."""
        bankid = frozenset({Method.BANKID} if self.bankid else ())
        ldap = frozenset({Method.LDAP} if self.ldap else ())
        smartcard = frozenset({Method.SMARTCARD} if self.smartcard else ())
        sign_in = frozenset(self.sign_in.methods.values() if self.sign_in else ())
        return PARTICIPANT_METHODS | bankid | ldap | smartcard | sign_in

    @property
    def meet_host(self) -> str:
        """Jitsi's host name, which is the XMPP domain too."""
        return urlsplit(self.meet).hostname or ""


@dataclass(frozen=True, slots=True, repr=False)
class Credentials:
    """Secrets, read once from the directory systemd hands over. They do not print themselves."""

    master_key: bytes
    component_secret: str
    ticket_keys: dict[str, bytes]
    """File name (`<kid>.<state>.pem`) → PEM."""
    smtp_password: str | None = None
    sms_password: str | None = None
    bankid: tuple[Path, Path] | None = None
    """The files of BankID's client certificate and its key, which OpenSSL reads by itself."""
    sign_in_secret: str | None = None
    """The client secret at the identity provider."""
    ldap_password: str | None = None
    """That of the service account in the directory."""


def load_settings(path: Path) -> Settings:
    """Read and check the settings. Raises `ConfigError` with one line naming file and key."""
    return yaml_file.typed(path, yaml_file.read(path, "settings"), Settings)


def load_credentials(settings: Settings, environ: Mapping[str, str] = os.environ) -> Credentials:
    """Read the secrets from `$CREDENTIALS_DIRECTORY`. Raises `ConfigError` naming what is missing."""
    if not (where := environ.get("CREDENTIALS_DIRECTORY")):
        raise ConfigError("CREDENTIALS_DIRECTORY is not set: start through systemd or the sluss command")
    directory = Path(where)

    def secret(name: str, *, required: bool) -> str | None:
        try:
            value = (directory / name).read_text("ascii").strip()
        except FileNotFoundError:
            value = ""
        except (OSError, UnicodeDecodeError) as error:
            raise ConfigError(f"{directory / name}: cannot be read: {error}") from None
        if not value and required:
            raise ConfigError(f"{directory / name}: secret is missing")
        return value or None

    try:
        master = base64.b64decode(secret("master-key", required=True) or "", validate=True)
    except binascii.Error:
        master = b""
    if len(master) != MASTER_KEY_BYTES:
        raise ConfigError(f"{directory / 'master-key'}: must be {MASTER_KEY_BYTES} bytes in base64")
    prefix = "ticket-keys_"
    try:
        keys = {p.name.removeprefix(prefix): p.read_bytes() for p in directory.glob(prefix + "*.pem")}
    except OSError as error:
        raise ConfigError(f"{error.filename}: cannot be read: {error.strerror}") from None
    if not keys:
        raise ConfigError(f"{directory}: no ticket key: run sluss keys init and hand the directory over")
    wants_sms_password = isinstance(settings.sms, HttpSms) and (
        settings.sms.username is not None or any("{password}" in v for v in settings.sms.headers.values())
    )
    return Credentials(
        master_key=master,
        component_secret=secret("component-secret", required=settings.gate.enabled) or "",
        ticket_keys=keys,
        smtp_password=secret("smtp-password", required=settings.mail.username is not None),
        sms_password=secret("sms-password", required=wants_sms_password),
        bankid=_bankid_files(settings, directory),
        sign_in_secret=secret("sign-in-secret", required=settings.sign_in is not None),
        ldap_password=secret("ldap-password", required=settings.ldap is not None),
    )


def _bankid_files(settings: Settings, directory: Path) -> tuple[Path, Path] | None:
    if settings.bankid is None:
        return None
    files = directory / "bankid-certificate", directory / "bankid-key"
    for path in files:
        if not path.is_file() or not path.stat().st_size:
            raise ConfigError(f"{path}: secret is missing")
    return files
