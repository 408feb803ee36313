"""Sessions of the staff: begun when both factors were given, ended by time, by hand, or from everywhere."""

from datetime import datetime, timedelta

import structlog

from sluss.domain.accounts import LIFETIMES, PROVED_LATELY, AccountRole, OpenSession
from sluss.domain.assurance import Method, worth
from sluss.domain.attendance import coarse_origin
from sluss.domain.audit import NOBODY, Action, Outcome
from sluss.domain.errors import ProofRequired, SignInRequired, SlussError, TooManyTries
from sluss.domain.freshness import is_fresh
from sluss.domain.gate import Role
from sluss.domain.meetings import Organiser
from sluss.factors.sign_in import Account, LoggedOut
from sluss.services import audit
from sluss.services.common import Ground
from sluss.store.access import OrganiserRecord, SessionRecord
from sluss.store.database import Transaction

_TOUCH_EVERY = timedelta(seconds=60)

_log = structlog.get_logger()


class Sessions:
    """The verbs about being signed in. How one signs in is organisers.py's."""

    def __init__(self, ground: Ground) -> None:
        self._g = ground

    async def current(self, session: str) -> Organiser:
        """Who is signed in with both factors in this browser. Raises `SignInRequired`."""
        now = self._g.clock()
        record = await self._g.store.run(lambda tx: self.signed_in(tx, session, now))
        return record.organiser

    async def require_proof(self, session: str) -> None:
        """Raise `ProofRequired` unless a factor was given in this session within the last minutes."""
        now = self._g.clock()
        await self._g.store.run(lambda tx: None if self.proved_lately(tx, session, now) else _proof_required())

    async def open_sessions(self, session: str) -> list[OpenSession]:
        """Every live session of who is signed in here, newest first. Raises `SignInRequired`."""
        now, this = self._g.clock(), self._g.session_hash(session)

        def work(tx: Transaction) -> list[OpenSession] | SlussError:
            record = self.signed_in(tx, session, now)
            if isinstance(record, SlussError):
                return record
            live = (one for one in tx.sessions.of(record.organiser.id) if not _lapsed(one, record.organiser.role, now))
            return [OpenSession(o.created_at, o.seen_at, o.network, o.method, o.hash == this) for o in live]

        return await self._g.store.run(work)

    async def sign_out(self, session: str) -> None:
        """Revoke this browser's session."""
        now, hashed = self._g.clock(), self._g.session_hash(session)

        def work(tx: Transaction) -> None:
            found = tx.sessions.get(hashed)
            if found is not None and found.complete:
                self._g.audit.record(tx, now, Action.SIGNED_OUT, actor=audit.organiser(found.organiser_id))
            tx.sessions.remove(hashed)

        await self._g.store.run(work)

    async def sign_out_everywhere(self, organiser: Organiser) -> None:
        """Revoke all of an organiser's sessions."""
        now = self._g.clock()

        def work(tx: Transaction) -> None:
            tx.sessions.remove_all(organiser.id)
            self._g.audit.record(tx, now, Action.SIGNED_OUT, actor=audit.organiser(organiser.id), where="everywhere")

        await self._g.store.run(work)

    def begin_session(  # noqa: PLR0917
        self,
        tx: Transaction,
        record: OrganiserRecord,
        old: str,
        new: str,
        now: datetime,
        method: Method,
        address: str,
        account: Account | None = None,
    ) -> None:
        """Both factors were given: the session `new` in place of the one whose hash is `old`; by an account, if so."""
        tx.sessions.remove(old)
        by = (self.account_hash(account), self.sid_hash(account) or None, account.signed_in_at) if account else ()
        tx.sessions.put(
            self._g.session_hash(new),
            record.organiser.id,
            *by,
            complete=True,
            now=now,
            method=method,
            network=coarse_origin(address),
        )
        tx.organisers.note_sign_in(record.organiser.id, now)
        self._g.audit.record(
            tx,
            now,
            Action.SIGNED_IN,
            actor=audit.organiser(record.organiser.id),
            assurance=worth(method, Role.ORGANISER).acr,
            method=method,
            origin=self._g.origin(address),
        )

    def signed_in(self, tx: Transaction, session: str, now: datetime) -> OrganiserRecord | SignInRequired:
        """The same as `current`, inside a transaction of another verb."""
        hashed = self._g.session_hash(session)
        found = tx.sessions.get(hashed)
        if found is None or not found.complete:
            return SignInRequired("no live session")
        record = tx.organisers.by_id(found.organiser_id)
        if _lapsed(found, record.organiser.role, now):
            return SignInRequired("the session has lapsed")
        if now - found.seen_at > _TOUCH_EVERY:
            tx.sessions.touch(hashed, now)
        return record

    def proved_again(  # noqa: PLR0917
        self,
        tx: Transaction,
        record: OrganiserRecord,
        session: str,
        now: datetime,
        refusal: SlussError | None,
        method: Method,
        address: str,
        proved_at: datetime | None = None,
    ) -> None:
        """Note that who is signed in proved a factor once more (`proved_at`, if that was before), or did not."""
        outcome = Outcome.LOCKED if isinstance(refusal, TooManyTries) else Outcome.REFUSED
        self._g.audit.record(
            tx,
            now,
            Action.VERIFIED,
            outcome if refusal else Outcome.DONE,
            actor=audit.organiser(record.organiser.id),
            assurance="" if refusal else worth(method, Role.ORGANISER).acr,
            purpose="account",
            method=method,
            origin=self._g.origin(address),
        )
        if refusal is None:
            tx.sessions.prove(self._g.session_hash(session), proved_at or now)

    def proved_lately(self, tx: Transaction, session: str, now: datetime) -> bool:
        """Whether a factor was given in this session within the last minutes."""
        found = tx.sessions.get(self._g.session_hash(session))
        return found is not None and found.proved_at is not None and is_fresh(found.proved_at, now, PROVED_LATELY)

    def proved(self, tx: Transaction, session: str, now: datetime) -> OrganiserRecord | SlussError:
        """Who is signed in here and has given a factor within the last minutes."""
        record = self.signed_in(tx, session, now)
        if isinstance(record, SlussError) or self.proved_lately(tx, session, now):
            return record
        return _proof_required()

    def not_signed_in(
        self,
        tx: Transaction,
        now: datetime,
        refusal: SlussError,
        record: OrganiserRecord | None,
        address: str,
        *,
        factor: str,
        reason: str = "",
    ) -> SlussError:
        """Write down who did not sign in; returns the refusal."""
        self._g.audit.record(
            tx,
            now,
            Action.SIGNED_IN,
            Outcome.LOCKED if isinstance(refusal, TooManyTries) else Outcome.REFUSED,
            actor=NOBODY,
            subject=audit.organiser(record.organiser.id if record else None),
            factor=factor,
            origin=self._g.origin(address),
            reason=reason,
        )
        return refusal

    def account_hash(self, account: Account | LoggedOut) -> str:
        """How an account at the provider is known again."""
        return self._g.hasher.digest("account", account.issuer, account.subject)

    def sid_hash(self, account: Account | LoggedOut) -> str:
        """The same of its session there; empty if that has no name."""
        return self._g.hasher.digest("sid", account.issuer, account.session) if account.session else ""


def _proof_required() -> ProofRequired:
    return ProofRequired("no factor just before")


def _lapsed(session: SessionRecord, role: AccountRole, now: datetime) -> bool:
    lasts = LIFETIMES[role]
    return not (is_fresh(session.seen_at, now, lasts.idle) and is_fresh(session.created_at, now, lasts.absolute))
