"""How often something may be done: every figure in one place. docs/decisions/0008 says why these.

A limit lets `many` through at once, and as many again spread evenly over `period`: whoever has used it up gets the next
one after `period / many`, and never waits longer (the generic cell rate algorithm, ITU-T I.371).
"""

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum
from ipaddress import IPv6Address, ip_network

from sluss.domain.freshness import LEEWAY


class LockKind(StrEnum):
    """What an organiser is told that somebody, or a meeting, has to wait for."""

    CODES = "codes"
    TRIES = "tries"
    NUMBER = "number"
    MEETING = "meeting"
    DAY = "day"
    BANKID = "bankid"
    PASSWORDS = "passwords"


@dataclass(frozen=True, slots=True)
class Limit:
    """One line of the table. `what` is its name in the store and the log."""

    what: str
    many: int
    period: timedelta
    shown: LockKind | None = None
    """As what the organiser sees it when it is used up."""

    @property
    def interval(self) -> timedelta:
        """How long one of them takes to come back."""
        return self.period / self.many

    def wait(self, free_at: datetime, now: datetime) -> timedelta:
        """How long until one more is let through, if all of it is free again at `free_at`. Zero: now."""
        return max(self._possible(free_at, now) - now - self.period + self.interval, timedelta(0))

    def after(self, free_at: datetime, now: datetime) -> datetime:
        """When all of it is free again, after one more was let through."""
        return max(self._possible(free_at, now), now) + self.interval

    def _possible(self, free_at: datetime, now: datetime) -> datetime:
        """`free_at`, unless it is further ahead than can be: a clock that was set back locks nobody out."""
        return free_at if free_at <= now + self.period + LEEWAY else now


@dataclass(frozen=True, slots=True)
class Lock:
    """A limit that is used up, as the organiser sees it."""

    kind: LockKind
    opens_at: datetime


@dataclass(frozen=True, slots=True)
class SmsRules:
    """What may be sent by SMS: to which country prefixes, and how many in 24 hours."""

    prefixes: tuple[str, ...]
    per_day: int

    def reaches(self, number: str) -> bool:
        """Whether an SMS may go to this E.164 number."""
        return number.startswith(self.prefixes)


_MINUTE, _HOUR, _DAY = timedelta(minutes=1), timedelta(hours=1), timedelta(days=1)

# Asking for a code. Wrong, withdrawn and live links count alike. A browser that was verified for the link before has
# limits of its own, so that nobody else who has the link can use up what the right person needs. In one browser each
# code in a row makes the pause longer: factors/sms.py.
CODE_PAUSE = Limit("code-pause", 1, timedelta(seconds=30))  # a link and purpose
CODES_LINK = Limit("codes-link", 16, 4 * _HOUR, LockKind.CODES)
CODES_LINK_ADDRESS = Limit("codes-link-address", 8, 2 * _HOUR, LockKind.CODES)
CODES_BROWSER = Limit("codes-browser", 8, 40 * _MINUTE, LockKind.CODES)  # a verified one, in place of the two above
CODES_ADDRESS = Limit("codes-address", 1000, timedelta(seconds=100))  # an office with 200 participants behind it
CODES_ALL = Limit("codes-all", 2000, timedelta(seconds=100))

# What really goes out by SMS, to live links. Used up: nothing is sent, the answer is the same, the organiser is told.
SMS_NUMBER = Limit("sms-number", 24, 6 * _HOUR, LockKind.NUMBER)
SMS_MEETING = Limit("sms-meeting", 800, _DAY, LockKind.MEETING)

# Wrong codes. Six digits: 30 guesses at once and 48 a day, in a million.
TRIES_LINK = Limit("tries-link", 30, 15 * _HOUR, LockKind.TRIES)
TRIES_LINK_ADDRESS = Limit("tries-link-address", 10, 5 * _HOUR, LockKind.TRIES)
TRIES_BROWSER = Limit("tries-browser", 10, 50 * _MINUTE, LockKind.TRIES)  # a verified one, in place of all others
# All links together. The first code typed for each one asked for is not held up by these: others' guesses lock nobody.
TRIES_ADDRESS = Limit("tries-address", 200, 200 * _MINUTE)
TRIES_ALL = Limit("tries-all", 1000, 500 * _MINUTE)

# Orders at BankID. Each is a request to others, who may shut us out, and one that is completed costs money.
BANKID_LINK = Limit("bankid-link", 24, 4 * _HOUR, LockKind.BANKID)
BANKID_LINK_ADDRESS = Limit("bankid-link-address", 12, 2 * _HOUR, LockKind.BANKID)
BANKID_BROWSER = Limit("bankid-browser", 12, _HOUR, LockKind.BANKID)  # a verified one, in place of the two above
BANKID_ADDRESS = Limit("bankid-address", 300, 300 * timedelta(seconds=1))
BANKID_ALL = Limit("bankid-all", 600, 120 * timedelta(seconds=1))
# Wrong codes from a person's authenticator, with all links they have. Three codes are right at a moment. As many from
# all verified browsers: whoever has the phone verifies any number of them, and the authenticator may be worth more.
TOTP_PERSON = Limit("totp-person", 30, 15 * _HOUR, LockKind.TRIES)
TOTP_PERSON_BROWSER = Limit("totp-person-browser", 30, 15 * _HOUR, LockKind.TRIES)
# Asking to use a passkey, or for what it is to sign. It cannot be guessed; each asking is a row for five minutes.
PASSKEY_ADDRESS = Limit("passkey-address", 1000, timedelta(seconds=100))

# Signing in: wrong passwords, except where it says every one. A browser that has signed in before has its own limit.
SIGN_IN_BROWSER = Limit("sign-in-browser", 10, 50 * _MINUTE)
SIGN_IN_ACCOUNT_ADDRESS = Limit("sign-in-account-address", 5, 75 * _MINUTE)
SIGN_IN_ACCOUNT = Limit("sign-in-account", 20, 5 * _HOUR)
SIGN_IN_ADDRESS = Limit("sign-in-address", 60, _HOUR)
SIGN_IN_ALL = Limit("sign-in-all", 120, 2 * _MINUTE)  # every one: a password takes 64 MiB and a tenth of a second

# Wrong authenticator or recovery codes
SECOND_BROWSER = Limit("second-browser", 10, 50 * _MINUTE)
SECOND_ACCOUNT_ADDRESS = Limit("second-account-address", 5, 75 * _MINUTE)
SECOND_ACCOUNT = Limit("second-account", 20, 5 * _HOUR)
DOOR_SESSION = Limit("door-session", 5, 25 * _MINUTE)  # at a meeting's door, a signed-in session

# The organisation's own sign-in: going there, and logout tokens that are none. Each may ask the provider something.
PROVIDER_BROWSER = Limit("provider-browser", 20, 10 * _MINUTE)
PROVIDER_ADDRESS = Limit("provider-address", 1000, timedelta(seconds=100))
PROVIDER_ALL = Limit("provider-all", 2000, timedelta(seconds=100))
LOGOUT_ADDRESS = Limit("logout-address", 30, 10 * _MINUTE)

# Passwords of the directory. It locks an account after so many wrong ones, and nobody shall be able to bring that about
# from here. So of an account two at once reach it, whoever types them, and then one in half an hour; and as many from
# browsers that proved it before. Each is taken before the directory is asked; the right password alone gives them back.
LDAP_ACCOUNT = Limit("ldap-account", 2, _HOUR)
LDAP_ACCOUNT_BROWSER = Limit("ldap-account-browser", 2, _HOUR)
# A link's own, each try, whether it is live or not.
LDAP_LINK = Limit("ldap-link", 10, 5 * _HOUR, LockKind.PASSWORDS)
LDAP_LINK_ADDRESS = Limit("ldap-link-address", 5, 75 * _MINUTE, LockKind.PASSWORDS)
LDAP_BROWSER = Limit("ldap-browser", 10, 50 * _MINUTE, LockKind.PASSWORDS)  # a verified one, in place of the two above
LDAP_ADDRESS = Limit("ldap-address", 200, 200 * _MINUTE)
LDAP_ALL = Limit("ldap-all", 600, 10 * _MINUTE)
# Looking up colleagues; of an organiser's looking up one entry in half an hour is in the audit log.
LOOK_UPS = Limit("look-ups", 60, 10 * _MINUTE)
LOOK_UPS_NOTED = Limit("look-ups-noted", 1, 30 * _MINUTE)
ENROL_MAILS = Limit("enrol-mails", 3, 90 * _MINUTE)  # with a link to enrol, after the directory's password
# Setting out to show a card. Each is a row for minutes; it cannot be guessed.
CARD_BROWSER = Limit("card-browser", 20, 10 * _MINUTE)
CARD_ADDRESS = Limit("card-address", 1000, timedelta(seconds=100))
CARD_ALL = Limit("card-all", 2000, timedelta(seconds=100))

ENROL_LINK = Limit("enrol-link", 10, 10 * _MINUTE)  # every try with an enrolment link: each hashes a password
WRONG_ENROL_ADDRESS = Limit("wrong-enrol-address", 30, 30 * _MINUTE)  # enrolment links that are none

LIMITS: dict[str, Limit] = {limit.what: limit for limit in globals().copy().values() if isinstance(limit, Limit)}


def network(address: str) -> str:
    """What counts as one address: all of IPv4, and of IPv6 the /64 that a subscriber has for themselves."""
    try:
        given = ip_network(address)
    except ValueError:
        return address
    if not isinstance(given.network_address, IPv6Address):
        return address
    if (mapped := given.network_address.ipv4_mapped) is not None:
        return str(mapped)
    return str(given.supernet(new_prefix=64))


def longest(locks: Iterable[Lock]) -> tuple[Lock, ...]:
    """Of each kind the lock that opens last."""
    last: dict[LockKind, Lock] = {}
    for lock in locks:
        if lock.kind not in last or last[lock.kind].opens_at < lock.opens_at:
            last[lock.kind] = lock
    return tuple(last.values())
