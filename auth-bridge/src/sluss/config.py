"""Typed settings from one YAML file, secrets from systemd credentials. Every error names key and file."""

import base64
import binascii
import os
from collections.abc import Mapping
from email.headerregistry import Address
from email.utils import parseaddr
from pathlib import Path
from typing import Annotated, Literal
from urllib.parse import urlsplit

import yaml
from pydantic import (
    AfterValidator,
    BaseModel,
    ConfigDict,
    Field,
    IPvAnyAddress,
    SecretBytes,
    SecretStr,
    ValidationError,
)

from sluss.domain.errors import ConfigError

DEFAULT_PATH = Path("/etc/sluss/sluss.yml")
MASTER_KEY_BYTES = 32


def _origin(value: str) -> str:
    url = urlsplit(value)
    if not url.hostname or url.username is not None or value.rstrip("/").lower() != f"https://{url.netloc}".lower():
        msg = "must be an origin such as https://meet.example.org"
        raise ValueError(msg)
    return value.rstrip("/").lower()


def _endpoint(value: str) -> str:
    host, _, port = value.rpartition(":")
    if not host or not port.isdigit() or not 0 <= int(port) < 65536:
        msg = "must be an address and a port such as 127.0.0.1:8600"
        raise ValueError(msg)
    return value


def _sender(value: str) -> str:
    name, address = parseaddr(value)
    try:
        Address(name, addr_spec=address)
    except (ValueError, IndexError):
        msg = "must be an address such as Sluss <no-reply@example.org>"
        raise ValueError(msg) from None
    return value


Origin = Annotated[str, AfterValidator(_origin)]
Endpoint = Annotated[str, AfterValidator(_endpoint)]
Port = Annotated[int, Field(ge=1, le=65535)]


class _Section(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class Listen(_Section):
    """Where the two listeners bind. Port 0 takes a free one."""

    portal: Endpoint = "127.0.0.1:8600"
    internal: Endpoint = "127.0.0.1:8601"


class GateSettings(_Section):
    """The component link to Prosody (XEP-0114). `enabled: false` declares it away."""

    component: str
    host: str = "127.0.0.1"
    port: Port = 5347
    enabled: bool = True


class MailSettings(_Section):
    """The organisation's mail relay."""

    host: str
    port: Port = 25
    security: Literal["none", "starttls", "tls"] = "starttls"
    username: str | None = None
    sender: Annotated[str, AfterValidator(_sender)]


class HttpSms(_Section):
    """An SMS operator's HTTP interface. `{to}` and `{text}` are filled in; in headers `{password}` too."""

    kind: Literal["http"]
    url: Annotated[str, Field(pattern=r"^https?://")]
    method: Literal["POST", "PUT"] = "POST"
    headers: dict[str, str] = {}
    json_: Annotated[dict[str, str] | None, Field(alias="json")] = None
    form: dict[str, str] | None = None
    username: str | None = None


class GammuSms(_Section):
    """The organisation's own modem, through Debian's gammu-smsd."""

    kind: Literal["gammu-smsd"]
    inject: Path = Path("/usr/bin/gammu-smsd-inject")
    config: Path = Path("/etc/gammu-smsdrc")


class LogSettings(_Section):
    """How the log looks. Never below `info` in production: there is no more to see."""

    level: Literal["debug", "info", "warning", "error"] = "info"
    format: Literal["json", "text"] = "text"


class Settings(_Section):
    """Everything in sluss.yml."""

    organisation: Annotated[str, Field(min_length=1, max_length=80)]
    portal: Origin
    meet: Origin
    listen: Listen = Listen()
    trusted_proxies: tuple[IPvAnyAddress, ...] = ()
    database: Annotated[str, Field(pattern=r"^sqlite:///")] = "sqlite:////var/lib/sluss/sluss.db"
    gate: GateSettings
    jitsi: bool = False
    mail: MailSettings
    sms: Annotated[HttpSms | GammuSms, Field(discriminator="kind")]
    default_region: Annotated[str, Field(pattern=r"^[A-Z]{2}$")] = "SE"
    default_locale: Literal["sv", "en"] = "sv"
    log: LogSettings = LogSettings()

    @property
    def meet_host(self) -> str:
        """Jitsi's host name, which is the XMPP domain too."""
        return urlsplit(self.meet).hostname or ""


class Credentials(BaseModel):
    """Secrets, read once from the directory systemd hands over. They print as `***`."""

    model_config = ConfigDict(frozen=True)

    master_key: SecretBytes
    component_secret: SecretStr
    ticket_keys: dict[str, SecretBytes]
    """File name (`<kid>.<state>.pem`) → PEM."""
    smtp_password: SecretStr | None = None
    sms_password: SecretStr | None = None


def load_settings(path: Path) -> Settings:
    """Read and check the settings. Raises `ConfigError` with one line naming file and key."""
    try:
        raw = yaml.safe_load(path.read_text("utf-8"))
    except OSError as error:
        raise ConfigError(f"{path}: cannot be read: {error.strerror}") from None
    except (yaml.YAMLError, ValueError) as error:  # ValueError: no UTF-8, or a date such as 2026-13-45
        where = getattr(error, "problem_mark", None)
        line = f" line {where.line + 1}" if where else ""
        raise ConfigError(f"{path}:{line} not valid YAML: {getattr(error, 'problem', error)}") from None
    if not isinstance(raw, dict):
        raise ConfigError(f"{path}: must be a mapping of settings")
    try:
        return Settings.model_validate(raw)
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
        # Pydantic names the chosen kind of SMS after `sms`; no such key is in the file.
        loc = first["loc"][:1] + first["loc"][2:] if first["loc"][:1] == ("sms",) else first["loc"]
        key = ".".join(str(part) for part in loc)
        what = {"extra_forbidden": "is not a setting", "missing": "is missing"}.get(first["type"], first["msg"])
        raise ConfigError(f"{path}: {key}: {what}") from None


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
        keys = {p.name.removeprefix(prefix): SecretBytes(p.read_bytes()) for p in directory.glob(prefix + "*.pem")}
    except OSError as error:
        raise ConfigError(f"{error.filename}: cannot be read: {error.strerror}") from None
    if not keys:
        raise ConfigError(f"{directory}: no ticket key: run sluss keys init and hand the directory over")
    wants_sms_password = isinstance(settings.sms, HttpSms) and (
        settings.sms.username is not None or any("{password}" in v for v in settings.sms.headers.values())
    )
    smtp = secret("smtp-password", required=settings.mail.username is not None)
    sms = secret("sms-password", required=wants_sms_password)
    return Credentials(
        master_key=SecretBytes(master),
        component_secret=SecretStr(secret("component-secret", required=settings.gate.enabled) or ""),
        ticket_keys=keys,
        smtp_password=SecretStr(smtp) if smtp else None,
        sms_password=SecretStr(sms) if sms else None,
    )
