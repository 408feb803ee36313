"""The policy from a YAML file, typed and checked. Every error names key and file."""

import re
from datetime import timedelta
from functools import cache
from pathlib import Path
from typing import Annotated, Any, Literal, Self
from uuid import UUID

from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding
from msgspec import Meta

from sluss.domain import policy
from sluss.domain.errors import ConfigError
from sluss.domain.policy import Encryption, Features, Policy, PolicyError, Requirement, SensitivityClass
from sluss.yaml_file import Section, read, typed

POLICY_PATH = Path("/etc/sluss/policy.yml")
SHIPPED = Path(__file__).with_name("default-policy.yml")
_CLASS_NAME = re.compile(r"[a-z][a-z0-9_-]{0,31}")


class Duration(str):
    """A length of time such as `90s`, `5m`, `12h`, `30d`. Raises `ValueError` for anything else."""

    __slots__ = ()

    def __new__(cls, value: str) -> Self:
        """Check."""
        if not re.fullmatch(r"[0-9]{1,6}[smhd]", value):
            raise ValueError("must be a length of time such as 90s, 5m, 12h or 30d")
        return super().__new__(cls, value)

    @property
    def length(self) -> timedelta:
        """The same as a value."""
        unit = {"s": "seconds", "m": "minutes", "h": "hours", "d": "days"}[self[-1]]
        return timedelta(**{unit: int(self[:-1])})


Line = Annotated[str, Meta(min_length=1, max_length=400)]
Permission = Literal["allowed", "forbidden"]


class _Text(Section, frozen=True, kw_only=True):
    """What people read, in each language."""

    en: Line
    sv: Line


class _Requirement(Section, frozen=True, kw_only=True):
    methods: tuple[str, ...]
    fresh: Duration


class _Jitsi(Section, frozen=True, kw_only=True):
    recording: Permission
    chat: Permission
    screen_sharing: Permission
    end_to_end_encryption: Encryption


class _Models(Section, frozen=True, kw_only=True):
    """Models of passkeys by their AAGUIDs, and the certificates of those who make them."""

    models: Annotated[tuple[UUID, ...], Meta(min_length=1)]
    makers: Annotated[str, Meta(min_length=1)]


class _Class(Section, frozen=True, kw_only=True):
    title: _Text
    description: _Text
    view: _Requirement
    join: _Requirement
    passkey_authenticators: Literal["any"] | _Models
    grace: Duration
    attendees: Literal["shown", "hidden"]
    waiting_room: bool
    waiting_shows_verified: bool
    devices: int
    keep_origin: bool
    retention: Duration
    two_admins: bool
    jitsi: _Jitsi


class _File(Section, frozen=True, kw_only=True):
    classes: Annotated[dict[Any, Any], Meta(min_length=1)]


def load_policy(path: Path) -> Policy:
    """Read and check a policy. Raises `ConfigError` with one line naming file and key."""
    classes = typed(path, read(path, "a policy"), _File, what="key of a policy").classes
    return Policy({name: _class(path, name, raw) for name, raw in classes.items()}, str(path))


def installed_policy(path: Path | None = None) -> Policy:
    """The policy in force: at `path`, or else where it belongs, or else the shipped one. Raises `ConfigError`."""
    return load_policy(path or (POLICY_PATH if _is_there(POLICY_PATH) else SHIPPED))


def _is_there(path: Path) -> bool:
    """Whether there is anything. What cannot be looked at, or leads nowhere, is not to be passed over in silence."""
    try:
        path.lstat()
    except FileNotFoundError:
        return False
    except OSError:
        return True
    return True


@cache
def default_policy() -> Policy:
    """The shipped one."""
    return load_policy(SHIPPED)


def _class(path: Path, name: object, raw: object) -> SensitivityClass:
    under = f"classes.{name}"
    if not isinstance(name, str) or not _CLASS_NAME.fullmatch(name):
        raise ConfigError(f"{path}: {under}: a class is called by lower-case letters, digits, - and _")
    read = typed(path, raw, _Class, what="key of a class", under=under)
    models = None if isinstance(read.passkey_authenticators, str) else read.passkey_authenticators
    try:
        one = SensitivityClass(
            name,
            {"en": read.title.en, "sv": read.title.sv},
            {"en": read.description.en, "sv": read.description.sv},
            view=_requirement(read.view, "view"),
            join=_requirement(read.join, "join"),
            grace=read.grace.length,
            attendees_shown=read.attendees == "shown",
            waiting_room=read.waiting_room,
            waiting_shows_verified=read.waiting_shows_verified,
            devices=read.devices,
            keeps_origin=read.keep_origin,
            retention=read.retention.length,
            passkey_models=None if models is None else frozenset(map(str, models.models)),
            passkey_makers=() if models is None else _certificates(models.makers),
            features=Features(
                recording=read.jitsi.recording == "allowed",
                chat=read.jitsi.chat == "allowed",
                screen_sharing=read.jitsi.screen_sharing == "allowed",
                end_to_end_encryption=read.jitsi.end_to_end_encryption,
            ),
            two_admins=read.two_admins,
        )
        policy.check(one)
    except PolicyError as error:
        raise ConfigError(f"{path}: {under}.{error.key}: {error.what}") from None
    return one


def _certificates(pem: str) -> tuple[bytes, ...]:
    try:
        found = x509.load_pem_x509_certificates(pem.encode())
    except ValueError:
        raise PolicyError("passkey_authenticators.makers", "must be certificates in PEM") from None
    return tuple(one.public_bytes(Encoding.DER) for one in found)


def _requirement(read: _Requirement, key: str) -> Requirement:
    return Requirement(tuple(policy.method(word, f"{key}.methods") for word in read.methods), read.fresh.length)
