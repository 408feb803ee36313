"""The policy: sensitivity classes, what opens a meeting of each, how fresh, and what is kept how long."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import timedelta
from enum import StrEnum

from sluss.domain.assurance import ADDED, SINGLE_FACTORS, STRONGER, Method, Purpose, worth


class PolicyError(ValueError):
    """A class that may not be. `key` is where in the class, as the file names it."""

    def __init__(self, key: str, what: str) -> None:
        super().__init__(f"{key}: {what}")
        self.key, self.what = key, what


class Encryption(StrEnum):
    """Whether people in a meeting may encrypt from one to the other, so that the server hears nothing."""

    FORBIDDEN = "forbidden"
    ALLOWED = "allowed"
    REQUIRED = "required"


@dataclass(frozen=True, slots=True)
class Features:
    """What people may do in the meeting besides seeing and hearing each other. docs/assurance.md says what holds it."""

    recording: bool
    chat: bool
    screen_sharing: bool
    end_to_end_encryption: Encryption


@dataclass(frozen=True, slots=True)
class Requirement:
    """What a verification for one purpose must be."""

    methods: tuple[Method, ...]
    """Those that are accepted, in the order of the file."""
    fresh: timedelta
    """For so long it opens what it is for."""

    def accepts(self, method: Method) -> bool:
        """Whether a participant's verification by `method` counts."""
        return method in self.methods or any(STRONGER.get(listed) is method for listed in self.methods)


@dataclass(frozen=True, slots=True)
class SensitivityClass:
    """One class. The organiser's password and authenticator always open the organiser's own meetings."""

    name: str
    title: Mapping[str, str]
    """By language."""
    description: Mapping[str, str]
    view: Requirement
    join: Requirement
    grace: timedelta
    """After a dropped connection, for so long a new ticket needs no new verification. None: each gives one ticket."""
    attendees_shown: bool
    """Whether those invited see who else is, before they enter."""
    waiting_room: bool
    """Whether participants wait until the organiser is inside."""
    waiting_shows_verified: bool
    """Whether those who wait see who else has verified and waits."""
    devices: int
    """On so many at once may one person be inside."""
    keeps_origin: bool
    """Whether the attendance says from which network each person came."""
    retention: timedelta
    """So long after its end a meeting's personal data is kept."""
    features: Features
    two_admins: bool
    """Whether it takes two admins to reset the sign-in of who organises such a meeting, or to hand it to another."""
    passkey_models: frozenset[str] | None = None
    """The AAGUIDs of which participants' passkeys must be. None: of any, attested or not."""
    passkey_makers: tuple[bytes, ...] = ()
    """Whose certificates (DER) attest these."""

    def requirement(self, purpose: Purpose) -> Requirement:
        """What opens the invitation, or the meeting."""
        return self.view if purpose is Purpose.VIEW else self.join

    def accepts_model(self, model: str) -> bool:
        """Whether a participant's passkey counts whose attested AAGUID is `model`; empty if there is none."""
        return self.passkey_models is None or model in self.passkey_models

    def accepts_added(self, enrolled_by: Method) -> bool:
        """Whether a passkey or authenticator counts that was added after a verification by `enrolled_by`.

        It says that it is the same person as then, and lifts nothing: who that was is known no better than it was then.
        """
        return self.view.accepts(enrolled_by)

    def ways_in(self, available: Iterable[Method]) -> tuple[Method, ...]:
        """The available methods that lead a participant all the way: into the meeting, known from the invitation."""
        have = tuple(available)
        if not any(self.accepts_added(method) for method in have if method not in ADDED):
            have = tuple(method for method in have if method not in ADDED)
        seen_by = {worth(method).identity for method in have if self.view.accepts(method)}
        return tuple(method for method in have if self.join.accepts(method) and worth(method).identity in seen_by)


@dataclass(frozen=True, slots=True)
class Policy:
    """All classes, in the order of the file."""

    classes: Mapping[str, SensitivityClass]
    source: str
    """The file."""

    def of(self, name: str) -> SensitivityClass:
        """The class called `name`. One that is no longer in the policy, but has meetings, opens to no participant."""
        return self.classes.get(name) or self._gone(name)

    def open_classes(self, participant_methods: Iterable[Method]) -> list[SensitivityClass]:
        """The classes that some participant can satisfy with the methods this installation has."""
        methods = tuple(participant_methods)
        return [c for c in self.classes.values() if c.ways_in(methods)]

    def _gone(self, name: str) -> SensitivityClass:
        nothing, title = Requirement((), BOUNDS["join.fresh"][0]), dict.fromkeys(LANGUAGES, name)
        return SensitivityClass(
            name,
            title,
            title,
            view=nothing,
            join=nothing,
            grace=timedelta(0),
            attendees_shown=False,
            waiting_room=True,
            waiting_shows_verified=False,
            devices=1,
            keeps_origin=False,
            retention=min(c.retention for c in self.classes.values()),
            features=Features(
                recording=False, chat=False, screen_sharing=False, end_to_end_encryption=Encryption.REQUIRED
            ),
            two_admins=True,
        )


LANGUAGES = ("en", "sv")
"""What a class must have its texts in."""
WAITING_ALIVE = timedelta(seconds=60)
"""Who waits and was heard of within this keeps the verification to enter."""
WAITING_HEARD = timedelta(seconds=15)
"""Who was heard of within this is shown as waiting."""

BOUNDS: dict[str, tuple[timedelta, timedelta]] = {
    "view.fresh": (timedelta(minutes=1), timedelta(days=7)),
    # Longer, and it would be the browser that enters, and not the person.
    "join.fresh": (timedelta(minutes=1), timedelta(minutes=30)),
    "grace": (timedelta(0), timedelta(minutes=15)),
    "retention": (timedelta(days=1), timedelta(days=3650)),
}
"""How short and how long each may be."""
MAX_DEVICES = 10


def method(word: str, key: str) -> Method:
    """The method called so in a policy. Raises `PolicyError`."""
    if word in SINGLE_FACTORS:
        raise PolicyError(key, f"“{word}” is one factor, and two are needed")
    try:
        return Method(word)
    except ValueError:
        raise PolicyError(key, f"there is no method “{word}”; there are {', '.join(Method)}") from None


def check(one: SensitivityClass) -> None:
    """Raise `PolicyError` for a class that is weaker than two factors, or that nobody could ever enter."""
    for purpose in Purpose:
        _check_methods(one.requirement(purpose).methods, f"{purpose}.methods")
    seen_by = {worth(m).identity for m in one.view.methods}
    for m in one.join.methods:
        if worth(m).identity not in seen_by:
            what = f"“{m}” could never be used: no method of view knows the person by the same {worth(m).identity}"
            raise PolicyError("join.methods", what)
    values = {
        "view.fresh": one.view.fresh,
        "join.fresh": one.join.fresh,
        "grace": one.grace,
        "retention": one.retention,
    }
    for key, value in values.items():
        least, most = BOUNDS[key]
        if not least <= value <= most:
            raise PolicyError(key, f"must be from {written(least)} to {written(most)}")
    if not 1 <= one.devices <= MAX_DEVICES:
        raise PolicyError("devices", f"must be from 1 to {MAX_DEVICES}")


def _check_methods(methods: tuple[Method, ...], key: str) -> None:
    if not methods:
        raise PolicyError(key, "must name at least one method")
    if len(set(methods)) < len(methods):
        raise PolicyError(key, "names a method twice")
    for m in methods:
        if len(worth(m).factors) < 2:
            raise PolicyError(key, f"“{m}” is one factor, and two are needed")


def written(length: timedelta) -> str:
    """A length of time as a policy has it: `90s`, `5m`, `12h`, `30d`."""
    seconds = int(length.total_seconds())
    for unit, size in (("d", 86400), ("h", 3600), ("m", 60)):
        if seconds and seconds % size == 0:
            return f"{seconds // size}{unit}"
    return f"{seconds}s"
