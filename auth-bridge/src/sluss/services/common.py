"""What every verb needs: the store, the clock, keyed hashes, and a way to wake the outbox."""

import secrets
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import datetime

from sluss.domain.assurance import Method
from sluss.domain.limits import SmsRules, network
from sluss.domain.policy import Policy
from sluss.factors import PARTICIPANT_METHODS
from sluss.keyring.secrets import Hasher
from sluss.services.audit import Recorder
from sluss.store.database import Store

LINK_BYTES = 32
"""Personal and enrolment links carry 256 random bits."""


@dataclass(frozen=True, slots=True)
class Site:
    """Where this installation lives."""

    organisation: str
    portal: str
    """Origin, without a slash at the end."""
    portal_host: str
    meet_host: str
    locale: str
    """Language of mails."""


@dataclass(frozen=True, slots=True)
class Ground:
    """Shared by all services."""

    store: Store
    clock: Callable[[], datetime]
    hasher: Hasher
    site: Site
    wake_outbox: Callable[[], None]
    sms: SmsRules
    policy: Policy
    methods: frozenset[Method] = PARTICIPANT_METHODS
    """What a participant can verify with here."""
    audit: Recorder = field(default_factory=Recorder)

    def link_hash(self, link: str) -> str:
        """How a personal link is stored."""
        return self.hasher.digest("link", link)

    def phone_hash(self, mobile: str) -> str:
        """How a phone is known again: the subject of its verifications, the owner of its limits."""
        return self.hasher.digest("phone", mobile)

    def personal_number_hash(self, personal_number: str) -> str:
        """How a person with a Swedish personal number (twelve digits) is known again: the subject of BankID."""
        return self.hasher.digest("personal-number", personal_number)

    def passkey_owner_hash(self, email: str, mobile: str) -> str:
        """How the owner of a passkey or authenticator is known again, from one invitation to the next: as invited."""
        return self.hasher.digest("person", email.casefold(), mobile)

    def limit_key(self, *values: str, address: str = "") -> str:
        """Whose limit it is, when it is several things together. Of an address its network."""
        return self.hasher.digest("limit", network(address), *values)

    def session_hash(self, session: str) -> str:
        """How a browser's session value is stored."""
        return self.hasher.digest("session", session)

    def origin(self, address: str) -> str:
        """How a visitor's address is logged: the same one can be recognised, none can be read."""
        return self.hasher.digest("address", address)[:12]


def new_id() -> str:
    """128 random bits, lower-case hex."""
    return secrets.token_hex(16)


def new_username() -> str:
    """A person's user name in one meeting: 64 random bits keep people apart, and nobody is trusted for knowing one.

    Short, for Prosody writes it into every stanza to them. "p-" first: Jitsi's client builds a person's nick from eight
    hexadecimal digits if a user name begins with them, and two devices of one person would then share it.
    """
    return f"p-{secrets.token_hex(8)}"


def new_link() -> str:
    """256 random bits, URL-safe."""
    return secrets.token_urlsafe(LINK_BYTES)
