"""An account's own authenticators: adding a further one, and removing one that is not the last way in."""

from dataclasses import dataclass
from datetime import datetime

from sluss.delivery.texts import Notice
from sluss.domain import drafts
from sluss.domain.accounts import MOST_AUTHENTICATORS, NEW_AUTHENTICATOR, Authenticator
from sluss.domain.audit import Action
from sluss.domain.errors import InvalidInput, NotFound, SlussError
from sluss.domain.freshness import is_fresh
from sluss.factors import totp
from sluss.services import audit, limits, notices
from sluss.services.common import Ground, new_id
from sluss.services.organisers import Organisers, digits
from sluss.store.access import OrganiserRecord
from sluss.store.database import Transaction


@dataclass(frozen=True, slots=True)
class NewAuthenticator:
    """What the page shows of one that waits for its first code."""

    name: str
    secret: str
    otpauth_uri: str


class AccountAuthenticators:
    """The verbs of whoever is signed in."""

    def __init__(self, ground: Ground, organisers: Organisers) -> None:
        self._g = ground
        self._organisers = organisers

    async def of(self, session: str) -> list[Authenticator]:
        """One's own, oldest first. Raises `SignInRequired`."""
        now = self._g.clock()

        def work(tx: Transaction) -> list[Authenticator] | SlussError:
            record = self._organisers.signed_in(tx, session, now)
            return record if isinstance(record, SlussError) else tx.account_authenticators.of(record.organiser.id)

        return await self._g.store.run(work)

    async def begin(self, session: str, name: str) -> None:
        """Make a further one, which proves nothing before its first code.

        Raises `ProofRequired`, `SignInRequired`, `InvalidInput`, `NotFound` for who has no password here.
        """
        now, name = self._g.clock(), drafts.name(name)

        def work(tx: Transaction) -> SlussError | None:
            record = self._enrolled(tx, session, now)
            if isinstance(record, SlussError):
                return record
            if len(tx.account_authenticators.of(record.organiser.id)) >= MOST_AUTHENTICATORS:
                return InvalidInput("name", "There are five authenticators already. Remove one first.")
            tx.account_authenticators.remove_waiting(record.organiser.id)
            tx.account_authenticators.add(new_id(), record.organiser.id, totp.new_secret(), name, now)
            return None

        await self._g.store.run(work)

    async def waiting(self, session: str) -> NewAuthenticator:
        """The one that waits. Raises `NotFound` if there is none, and what `begin` does."""
        now = self._g.clock()

        def work(tx: Transaction) -> NewAuthenticator | SlussError:
            found = self._waiting(tx, session, now)
            if isinstance(found, SlussError):
                return found
            record, new = found
            return NewAuthenticator(new.name, new.secret, self._organisers.otpauth_uri(record.organiser, new.secret))

        return await self._g.store.run(work)

    async def confirm(self, session: str, code: str) -> None:
        """Take it on after a right code of it. Raises the same, `InvalidInput` naming `code`, `TooManyTries`."""
        now = self._g.clock()

        def work(tx: Transaction) -> SlussError | None:
            waiting = self._waiting(tx, session, now)
            if isinstance(waiting, SlussError):
                return waiting
            record, new = waiting
            uses = [self._organisers.door_use(session, record)]
            if refusal := limits.refusal(tx, uses, now):
                return refusal
            if (found := totp.match(new.secret, digits(code), now)) is None:
                limits.take(tx, uses, now)
                return InvalidInput(
                    "code", "That code is not right. Check that the phone's clock is, and try the next one."
                )
            tx.account_authenticators.confirm(new.id, now)
            tx.account_authenticators.use_step(new.id, found.step, found.drift, now)
            self._changed(tx, record, new, Notice.AUTHENTICATOR_ADDED, now)
            return None

        await self._g.store.run(work)
        self._g.wake_outbox()

    async def remove(self, session: str, authenticator_id: str) -> None:
        """Remove one. Raises `InvalidInput` for the last, and what `begin` does."""
        now = self._g.clock()

        def work(tx: Transaction) -> SlussError | None:
            record = self._organisers.proved(tx, session, now)
            if isinstance(record, SlussError):
                return record
            own = tx.account_authenticators.of(record.organiser.id)
            found = [one for one in own if one.id == authenticator_id]
            if not found:
                return NotFound("no such authenticator of this account")
            if len(own) == 1:
                return InvalidInput("authenticator", "This is your last authenticator. Add another one first.")
            tx.account_authenticators.remove(authenticator_id)
            self._changed(tx, record, found[0], Notice.AUTHENTICATOR_REMOVED, now)
            return None

        await self._g.store.run(work)
        self._g.wake_outbox()

    def _waiting(
        self, tx: Transaction, session: str, now: datetime
    ) -> tuple[OrganiserRecord, Authenticator] | SlussError:
        record = self._enrolled(tx, session, now)
        if isinstance(record, SlussError):
            return record
        new = tx.account_authenticators.waiting(record.organiser.id)
        if new is None or not is_fresh(new.created_at, now, NEW_AUTHENTICATOR):
            return NotFound("no authenticator that waits for a code")
        return record, new

    def _enrolled(self, tx: Transaction, session: str, now: datetime) -> OrganiserRecord | SlussError:
        """Who has just proved a factor, and has a password here: an authenticator is the second factor to it."""
        record = self._organisers.proved(tx, session, now)
        if not isinstance(record, SlussError) and record.enrolled_at is None:
            return NotFound("an authenticator would outlive the account at the provider, which is all that they have")
        return record

    def _changed(
        self, tx: Transaction, record: OrganiserRecord, which: Authenticator, what: Notice, now: datetime
    ) -> None:
        who, action = audit.organiser(record.organiser.id), Action(what.value)
        self._g.audit.record(tx, now, action, actor=who, subject=f"authenticator:{which.id}")
        notices.tell(self._g, tx, record.organiser.email, what, now)
