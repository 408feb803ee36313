"""The audit log: what an entry says, and the chain that shows any tampering with it.

Entry n is kept as canonical JSON (RFC 8785) with hash_n = SHA-256(hash_{n-1} ‖ entry_n). Whoever changes, removes,
moves or repeats one breaks the chain there. The head is the newest entry's number and hash: it tells when the end was
cut off.
"""

import hashlib
import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Self

GENESIS = hashlib.sha256(b"sluss audit log 1").hexdigest()
"""What the first entry is chained to."""

ADMIN = "admin"
"""The actor of commands on the server."""
NOBODY = "nobody"
"""The actor who has not proved who they are."""
SYSTEM = "sluss"
"""The actor where nobody asked."""


class Action(StrEnum):
    """What happened. These words do not change: what was written once is read years later."""

    ORGANISER_ADDED = "organiser-added"
    ENROLLED = "enrolled"
    ACCOUNT_BOUND = "account-bound"
    AUTHENTICATOR_ADDED = "authenticator-added"
    AUTHENTICATOR_REMOVED = "authenticator-removed"
    SECOND_ADMIN_NEEDED = "second-admin-needed"
    ACCOUNT_RESET = "account-reset"
    ACCOUNT_REMOVED = "account-removed"
    SIGNED_IN = "signed-in"
    SIGNED_OUT = "signed-out"
    RECOVERY_CODE_USED = "recovery-code-used"
    PASSKEY_ADDED = "passkey-added"
    PASSKEY_REMOVED = "passkey-removed"
    PASSKEY_LOCKED = "passkey-locked"
    NUMBER_CHANGED = "number-changed"
    MEETING_CREATED = "meeting-created"
    MEETING_ENDED = "meeting-ended"
    MEETING_WITHDRAWN = "meeting-withdrawn"
    MEETING_HANDED_OVER = "meeting-handed-over"
    INVITED = "invited"
    LINK_RESENT = "link-resent"
    WITHDRAWN = "withdrawn"
    PUT_OUT = "put-out"
    UNLOCKED = "unlocked"
    NOT_ME = "not-me"
    ACCEPTED = "accepted"
    DECLINED = "declined"
    CODE_ASKED_FOR = "code-asked-for"
    BANKID_STARTED = "bankid-started"
    VERIFIED = "verified"
    TICKET_ISSUED = "ticket-issued"
    TICKET_USED = "ticket-used"
    ADMITTED = "admitted"
    ENTERED = "entered"
    LEFT = "left"
    EXPELLED = "expelled"
    ATTENDANCE_READ = "attendance-read"
    ATTENDANCE_EXPORTED = "attendance-exported"
    PASSWORD_REMOVED = "password-removed"  # noqa: S105 - a word for what happened
    COLLEAGUES_LOOKED_UP = "colleagues-looked-up"
    AUDIT_READ = "audit-read"
    KEYS_CHANGED = "keys-changed"
    PURGED = "purged"


class Outcome(StrEnum):
    """How it ended."""

    DONE = "done"
    REFUSED = "refused"
    LOCKED = "locked"
    """Refused because of earlier failures, whatever was tried."""
    UNCONFIRMED = "unconfirmed"
    """Ordered, and not confirmed by Prosody."""


@dataclass(frozen=True, slots=True)
class Entry:
    """One line. Actor, `on_behalf` and subject are `kind:id`; nothing here names or reaches a person."""

    at: int
    """Unix seconds."""
    action: Action
    outcome: Outcome
    actor: str
    on_behalf: str = ""
    subject: str = ""
    assurance: str = ""
    """The `acr` of what was used, where somebody proved who they are."""
    request_id: str = ""
    """The id that the visitor's page and the log carry."""
    details: Mapping[str, str] = field(default_factory=dict)
    seq: int = 0
    """Its number, from 1; 0 until it is appended."""

    def canonical(self) -> str:
        """RFC 8785: our keys are ASCII and our values text and integers, so this is all it takes."""
        return canonical({name: getattr(self, name) for name in self.__slots__})


_ENCODER = json.JSONEncoder(sort_keys=True, separators=(",", ":"), ensure_ascii=False)


def canonical(value: Mapping[str, object]) -> str:
    """Sorted keys, no white space, nothing escaped that need not be."""
    return _ENCODER.encode(value)


def parse(text: str) -> Entry:
    """Read a canonical entry. Raises `ValueError`."""
    try:
        values = json.loads(text)
        entry = Entry(**values | {"action": Action(values["action"]), "outcome": Outcome(values["outcome"])})
    except (TypeError, KeyError, RecursionError):
        raise ValueError("not an entry") from None
    if type(entry.seq) is not int:
        raise ValueError("not an entry")
    return entry


def chain(previous: str, entry: str) -> str:
    """The hash of a canonical entry that follows the one with the hash `previous`."""
    return hashlib.sha256(bytes.fromhex(previous) + entry.encode()).hexdigest()


@dataclass(frozen=True, slots=True)
class Line:
    """An entry as it is kept: its place, its canonical text, its hash."""

    seq: int
    entry: str
    hash: str


@dataclass(frozen=True, slots=True)
class Head:
    """The newest entry's number and hash, written `seq:hash`."""

    seq: int
    hash: str

    @classmethod
    def parse(cls, text: str) -> Self:
        """Read `seq:hash`. Raises `ValueError`."""
        seq, _, digest = text.strip().partition(":")
        if not seq.isdecimal() or len(bytes.fromhex(digest)) != hashlib.sha256().digest_size:
            raise ValueError("must be a number, a colon and 64 hexadecimal digits")
        return cls(int(seq), digest.lower())

    def __str__(self) -> str:
        """The form that is noted elsewhere."""
        return f"{self.seq}:{self.hash}"


class Damage(StrEnum):
    """What may have been done to the log."""

    CHANGED = "changed"
    MISSING = "missing"
    REORDERED = "reordered"
    DUPLICATED = "duplicated"
    TRUNCATED = "truncated"
    ADDED = "added"
    REWRITTEN = "rewritten"
    HEAD_FORGED = "head forged"


@dataclass(frozen=True, slots=True)
class Fault:
    """One finding: at which number, what, in words."""

    seq: int
    damage: Damage
    text: str

    def __str__(self) -> str:
        """As the command prints it."""
        return f"entry {self.seq}: {self.damage}: {self.text}"


class Verification:
    """Takes the lines in the order in which they are kept, then the head; `faults` holds what it found."""

    def __init__(self, noted: Iterable[Head] = ()) -> None:
        """`noted`: heads that were written down elsewhere, such as the journal's."""
        self.faults: list[Fault] = []
        self.last = Head(0, GENESIS)
        self._noted = {head.seq: head for head in noted}
        self._hashes = {0: GENESIS}
        self._displaced: set[int] = set()  # places that do not hold their own entry
        self._astray: set[int] = set()  # entries found in another place
        self._missing: list[range] = []
        self._anchored = True  # whether the place before is known to be what it was

    def add(self, line: Line) -> None:
        """The next line."""
        due = self.last.seq + 1
        if line.seq < due:
            self._fault(line.seq, Damage.DUPLICATED if self._seen(line.seq) else Damage.REORDERED, "stands too late")
            return
        if line.seq > due:
            gap = range(due, line.seq)
            self._missing.append(gap)
            self._fault(due, Damage.MISSING, f"{len(gap)} removed, up to {line.seq - 1}")
            self._anchored = False
        self._check(line)
        self.last = Head(line.seq, line.hash)
        if line.seq in self._noted:
            self._hashes[line.seq] = line.hash

    def close(self, head: Head | None) -> None:
        """The end. `head` None: there is none to compare with, as in an export."""
        if head is not None:
            self._compare(head, Damage.REWRITTEN, "the head says otherwise: the chain was made anew up to here")
            if head.seq < self.last.seq:
                self._fault(head.seq + 1, Damage.ADDED, f"the head ends at {head.seq}")
        for noted in sorted(self._noted.values(), key=lambda one: one.seq):
            self._compare(noted, Damage.REWRITTEN, "not the hash that was noted: changed here or before")

    def _check(self, line: Line) -> None:
        try:
            own: int | None = parse(line.entry).seq
        except ValueError:
            own = None
        if own is not None and own != line.seq:
            damage = Damage.DUPLICATED if self._seen(own) or own in self._astray else Damage.REORDERED
            self._fault(line.seq, damage, f"entry {own} stands here")
            self._displaced.add(line.seq)
            self._astray.add(own)
            self._anchored = False
            return
        if own is None or (self._anchored and chain(self.last.hash, line.entry) != line.hash):
            self._fault(
                line.seq, Damage.CHANGED, "this is not what its hash says, or the one before was changed with its hash"
            )
        self._anchored = True

    def _compare(self, head: Head, damage: Damage, text: str) -> None:
        if head.seq > self.last.seq:
            self._fault(self.last.seq + 1, Damage.TRUNCATED, f"{head.seq - self.last.seq} cut off, up to {head.seq}")
        else:
            found = self.last.hash if head.seq == self.last.seq else self._hashes.get(head.seq)
            if found is not None and found != head.hash:
                self._fault(head.seq, damage, text)

    def _seen(self, seq: int) -> bool:
        """Whether this entry stood in its own place."""
        return seq <= self.last.seq and seq not in self._displaced and not any(seq in gap for gap in self._missing)

    def _fault(self, seq: int, damage: Damage, text: str) -> None:
        self.faults.append(Fault(seq, damage, text))


def verify(lines: Iterable[Line], head: Head | None, noted: Iterable[Head] = ()) -> list[Fault]:
    """Everything that is wrong with the log, in the order of the lines; nothing if nothing is."""
    verification = Verification(noted)
    for line in lines:
        verification.add(line)
    verification.close(head)
    return verification.faults
