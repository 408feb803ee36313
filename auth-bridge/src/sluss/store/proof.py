"""Codes that were sent, and verifications that were made."""

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import (
    ColumnElement,
    Connection,
    Row,
    Select,
    bindparam,
    delete,
    insert,
    literal_column,
    select,
    update,
)
from sqlalchemy.dialects.sqlite import insert as upsert

from sluss.domain.assurance import Method, Purpose
from sluss.domain.freshness import LEEWAY
from sluss.store.rows import instant, instant_or_none, seconds
from sluss.store.schema import challenges, invitations, verifications

# Built once: everybody who sees an invitation or enters runs these.
_ADD = insert(verifications)
_NEWEST: tuple[ColumnElement[Any], ...] = (
    verifications.c.verified_at.desc(),
    literal_column("verifications.rowid").desc(),
)
_OF_INVITATION = select(verifications).where(verifications.c.invitation_id == bindparam("invitation")).limit(1)
_LATEST = _OF_INVITATION.where(
    verifications.c.verified_at <= bindparam("until"),
    verifications.c.session_hash == bindparam("session"),
    verifications.c.purpose == bindparam("purpose"),
).order_by(*_NEWEST)
_SEEN_BY = _OF_INVITATION.where(verifications.c.purpose == Purpose.VIEW.value).order_by(*_NEWEST)
_ANY_OF = (
    select(verifications.c.id)
    .join(invitations)
    .where(verifications.c.session_hash == bindparam("session"), invitations.c.link_hash == bindparam("link"))
    .limit(1)
)


@dataclass(frozen=True, slots=True)
class Challenge:
    """A code somebody is expected to type."""

    code_hash: str
    subject: str
    created_at: datetime
    tries: int
    sent: int
    """Which one in a row it is, of which none was used."""


class ChallengeRepository:
    """Rows of `challenges`."""

    def __init__(self, connection: Connection) -> None:
        self._c = connection

    def put(self, key: tuple[str, str, Purpose], code_hash: str, subject: str, now: datetime, *, sent: int = 1) -> None:
        """Expect a new code in place of the old, for (link hash, session hash, purpose)."""
        fresh = {"code_hash": code_hash, "subject": subject, "created_at": seconds(now), "tries": 0, "sent": sent}
        link_hash, session_hash, purpose = key
        self._c.execute(
            upsert(challenges)
            .values(link_hash=link_hash, session_hash=session_hash, purpose=purpose.value, **fresh)
            .on_conflict_do_update(index_elements=list(challenges.primary_key.columns), set_=fresh)
        )

    def get(self, key: tuple[str, str, Purpose]) -> Challenge | None:
        """The outstanding code."""
        row = self._c.execute(select(challenges).where(self._is(key))).one_or_none()
        if row is None:
            return None
        return Challenge(row.code_hash, row.subject, instant(row.created_at), row.tries, row.sent)

    def count_try(self, key: tuple[str, str, Purpose]) -> None:
        """One more try."""
        self._c.execute(update(challenges).where(self._is(key)).values(tries=challenges.c.tries + 1))

    def remove(self, key: tuple[str, str, Purpose]) -> None:
        """Used up."""
        self._c.execute(delete(challenges).where(self._is(key)))

    def let_ask(self, link_hash: str) -> None:
        """Whoever waits to ask for another code for this link need not."""
        self._c.execute(update(challenges).where(challenges.c.link_hash == link_hash).values(sent=0))

    def remove_all(self, link_hash: str) -> None:
        """None that was sent for this link is expected any more."""
        self._c.execute(delete(challenges).where(challenges.c.link_hash == link_hash))

    def purge(self, before: datetime) -> None:
        """Forget what is long over."""
        self._c.execute(delete(challenges).where(challenges.c.created_at < seconds(before)))

    @staticmethod
    def _is(key: tuple[str, str, Purpose]) -> ColumnElement[bool]:
        link_hash, session_hash, purpose = key
        return (
            (challenges.c.link_hash == link_hash)
            & (challenges.c.session_hash == session_hash)
            & (challenges.c.purpose == purpose.value)
        )


@dataclass(frozen=True, slots=True)
class Verification:
    """A completed two-factor proof, bound to browser, invitation and purpose."""

    id: str
    invitation_id: str
    method: Method
    subject: str
    verified_at: datetime
    waited_at: datetime | None = None
    """When the person was last heard of, waiting for the organiser."""


class VerificationRepository:
    """Rows of `verifications`."""

    def __init__(self, connection: Connection) -> None:
        self._c = connection

    def add(self, verification: Verification, session_hash: str, purpose: Purpose) -> None:
        """Store one."""
        self._c.execute(
            _ADD,
            {
                "id": verification.id,
                "invitation_id": verification.invitation_id,
                "session_hash": session_hash,
                "purpose": purpose.value,
                "method": verification.method.value,
                "subject": verification.subject,
                "verified_at": seconds(verification.verified_at),
            },
        )

    def latest(self, invitation_id: str, session_hash: str, purpose: Purpose, now: datetime) -> Verification | None:
        """The newest of this browser for this invitation and purpose, but for any that a wrong clock put ahead."""
        values = {"until": seconds(now + LEEWAY), "session": session_hash, "purpose": purpose.value}
        return self._first(_LATEST, {"invitation": invitation_id, **values})

    def any_of(self, link_hash: str, session_hash: str) -> bool:
        """Whether this browser was ever verified for this link. Takes the same for every link where it was not."""
        return self._c.execute(_ANY_OF, {"session": session_hash, "link": link_hash}).first() is not None

    def seen_by(self, invitation_id: str) -> Verification | None:
        """The newest `view` verification from any browser: who saw the invitation."""
        return self._first(_SEEN_BY, {"invitation": invitation_id})

    def first_seen_by(self, invitation_id: str, method: Method) -> Verification | None:
        """The oldest `view` verification by a method that was not revoked: whom the invitation is bound to by it."""
        query = (
            select(verifications)
            .where(
                verifications.c.invitation_id == invitation_id,
                verifications.c.method == method.value,
                verifications.c.purpose == Purpose.VIEW.value,
                verifications.c.session_hash != "",
            )
            .order_by(verifications.c.verified_at, literal_column("verifications.rowid"))
        )
        return self._first(query.limit(1), {})

    def revoke(self, invitation_id: str, methods: Iterable[Method] = Method) -> None:
        """No browser has any right from them any more; the rows stay, for who was inside and how."""
        theirs = verifications.c.invitation_id == invitation_id, verifications.c.method.in_(m.value for m in methods)
        self._c.execute(update(verifications).where(*theirs).values(session_hash=""))

    def wait(self, verification_id: str, now: datetime) -> None:
        """Note that the person is heard of, and waits."""
        self._c.execute(
            update(verifications).where(verifications.c.id == verification_id).values(waited_at=seconds(now))
        )

    def _first(self, query: Select[Any], values: dict[str, object]) -> Verification | None:
        row = self._c.execute(query, values).one_or_none()
        return self._verification(row) if row else None

    @staticmethod
    def _verification(row: Row[tuple[object, ...]]) -> Verification:
        r = row._mapping
        return Verification(
            r["id"],
            r["invitation_id"],
            Method(r["method"]),
            r["subject"],
            instant(r["verified_at"]),
            instant_or_none(r["waited_at"]),
        )
