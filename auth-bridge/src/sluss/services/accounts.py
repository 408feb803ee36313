"""What admins do with accounts: invite, unlock, reset, remove. They see neither meetings nor logs.

Where an organiser has meetings of a class whose policy says so, a reset or a hand-over takes two admins: one could give
themselves what they may not see. The host's own commands take nobody else: root is above the bridge.
"""

from collections.abc import Callable
from datetime import datetime
from typing import TypeVar

import structlog

from sluss.delivery.texts import Notice
from sluss.domain import drafts
from sluss.domain.accounts import ENROLMENT_LIFETIME, SECOND_ADMIN, AccountRole, AccountStatus, Act, Asked
from sluss.domain.audit import ADMIN, Action
from sluss.domain.errors import InvalidInput, NotFound, SlussError
from sluss.domain.freshness import is_fresh
from sluss.domain.gate import Door
from sluss.domain.meetings import Organiser
from sluss.factors import totp
from sluss.services import audit, leaving, limits, notices
from sluss.services.common import Ground, new_id, new_link
from sluss.services.leaving import Out
from sluss.services.organisers import Organisers
from sluss.store.access import OrganiserRecord
from sluss.store.database import Transaction

INVITED = (AccountRole.ORGANISER, AccountRole.AUDITOR)
"""What an admin can invite as. An admin who could make another would be two."""

T = TypeVar("T")

_log = structlog.get_logger()


class Accounts:
    """The verbs. But for `all`, `one` and those by the host they raise `ProofRequired` without a factor just before."""

    def __init__(self, ground: Ground, organisers: Organisers, door: Callable[[], Door]) -> None:
        self._g = ground
        self._organisers = organisers
        self._door = door

    async def all(self, session: str) -> list[AccountStatus]:
        """Every account. Raises `SignInRequired`, `NotFound` for who is no admin."""
        now = self._g.clock()

        def work(tx: Transaction) -> list[AccountStatus] | SlussError:
            admin = self._admin(tx, session, now, fresh=False)
            if isinstance(admin, SlussError):
                return admin
            return [self._status(tx, record, now) for record in tx.organisers.all()]

        return await self._g.store.run(work)

    async def one(self, session: str, account_id: str) -> AccountStatus:
        """One of them. Raises the same, and `NotFound` for none."""
        for status in await self.all(session):
            if status.id == account_id:
                return status
        raise NotFound("no such account")

    async def invite(self, session: str, name: str, email: str, role: str) -> None:
        """Make an account and mail the link to enrol by, which no admin sees. Raises `InvalidInput`."""
        if role not in INVITED:
            raise InvalidInput("role", "Choose what the account is for.")
        who = Organiser(new_id(), drafts.name(name), drafts.email(email), AccountRole(role))
        token, now = new_link(), self._g.clock()

        def work(tx: Transaction) -> SlussError | None:
            admin = self._admin(tx, session, now)
            if isinstance(admin, SlussError):
                return admin
            self._organisers.register(tx, who, token, now, audit.organiser(admin.organiser.id))
            notices.invite(self._g, tx, who.email, token, now)
            return None

        await self._done(work)

    async def send_link(self, session: str, account_id: str) -> None:
        """Mail another link to who has not enrolled yet. Raises `NotFound` for everybody else.

        Also for who comes by an account elsewhere: a way in besides that takes a reset.
        """
        token, now = new_link(), self._g.clock()

        def work(tx: Transaction) -> SlussError | None:
            found = self._other(tx, session, account_id, now)
            if isinstance(found, SlussError):
                return found
            admin, record = found
            if not record.enrols:
                return NotFound("enrolled already, or has an account elsewhere")
            self._organisers.register(tx, record.organiser, token, now, audit.organiser(admin.organiser.id))
            notices.invite(self._g, tx, record.organiser.email, token, now)
            return None

        await self._done(work)

    async def unlock(self, session: str, account_id: str) -> None:
        """Undo what holds up this account's signing in."""
        now = self._g.clock()

        def work(tx: Transaction) -> SlussError | None:
            found = self._other(tx, session, account_id, now)
            if isinstance(found, SlussError):
                return found
            admin, record = found
            limits.undo(tx, [self._organisers.email_hash(record.organiser.email)])
            actor, subject = audit.organiser(admin.organiser.id), audit.organiser(account_id)
            self._g.audit.record(tx, now, Action.UNLOCKED, actor=actor, subject=subject)
            return None

        await self._done(work)

    async def reset(self, session: str, account_id: str) -> bool:
        """Void all that this account signs in with, and mail a link to set it up anew.

        False: it takes a second admin, who asks for the same within a day.
        """
        now, token = self._g.clock(), new_link()

        def work(tx: Transaction) -> tuple[list[Out], str] | SlussError | None:
            found = self._other(tx, session, account_id, now)
            if isinstance(found, SlussError):
                return found
            admin, record = found
            first = self._first_admin(tx, admin, record, Act.RESET, "", now)
            if first is None:
                return None
            actor = audit.organiser(admin.organiser.id)
            outs = self._reset(tx, record, token, now, actor, first)
            notices.invite(self._g, tx, record.organiser.email, token, now)
            return outs, actor

        return await self._carry_out(work)

    async def remove(self, session: str, account_id: str, successor_id: str = "") -> bool:
        """Remove an account. Its meetings go to another organiser, or those to come are withdrawn.

        All of it is done, or nothing. False: it takes a second admin, who asks for the same within a day. Raises
        `InvalidInput` if the other one cannot have them.
        """
        now = self._g.clock()

        def work(tx: Transaction) -> tuple[list[Out], str] | SlussError | None:
            found = self._other(tx, session, account_id, now)
            if isinstance(found, SlussError):
                return found
            admin, record = found
            successor = _successor(tx, successor_id, record)
            actor = audit.organiser(admin.organiser.id)
            first = self._first_admin(tx, admin, record, Act.REMOVE, successor_id, now)
            return None if first is None else (self._remove(tx, record, successor, now, actor, first), actor)

        return await self._carry_out(work)

    async def reset_by_host(self, email: str) -> str:
        """The same by who has the host: no second one is asked. Returns the link. Raises `NotFound`."""
        now, token = self._g.clock(), new_link()

        def work(tx: Transaction) -> SlussError | None:
            record = tx.organisers.by_email(self._organisers.email_hash(email))
            if record is None:
                return NotFound(f"no organiser {email}")
            self._reset(tx, record, token, now, ADMIN, "")
            return None

        await self._done(work)
        return notices.enrolment_url(self._g, token)

    async def remove_by_host(self, email: str, successor_email: str = "") -> None:
        """The same. Raises `NotFound`, `InvalidInput`.

        Whoever of them is inside is put out by the running bridge, within seconds.
        """
        now, by_email = self._g.clock(), self._organisers.email_hash

        def work(tx: Transaction) -> SlussError | None:
            record = tx.organisers.by_email(by_email(email))
            other = tx.organisers.by_email(by_email(successor_email)) if successor_email else None
            if record is None or (successor_email and other is None):
                return NotFound(f"no organiser {successor_email if record else email}")
            successor = _successor(tx, other.organiser.id if other else "", record)
            self._remove(tx, record, successor, now, ADMIN, "")
            return None

        await self._done(work)

    async def _carry_out(self, work: Callable[[Transaction], tuple[list[Out], str] | SlussError | None]) -> bool:
        done = await self._done(work)
        if done is not None:
            await leaving.put_out(self._g, self._door, *done)
        return done is not None

    async def _done(self, work: Callable[[Transaction], T | SlussError]) -> T:
        result = await self._g.store.run(work)
        self._g.wake_outbox()
        return result

    def _admin(
        self, tx: Transaction, session: str, now: datetime, *, fresh: bool = True
    ) -> OrganiserRecord | SlussError:
        record = self._organisers.signed_in(tx, session, now)
        if isinstance(record, SlussError):
            return record
        if record.organiser.role is not AccountRole.ADMIN:
            return NotFound("not an admin")
        return self._organisers.proved(tx, session, now) if fresh else record

    def _other(
        self, tx: Transaction, session: str, account_id: str, now: datetime
    ) -> tuple[OrganiserRecord, OrganiserRecord] | SlussError:
        """The admin, and whose account it is: never their own, so that there is always an admin left."""
        admin = self._admin(tx, session, now)
        if isinstance(admin, SlussError):
            return admin
        record = tx.organisers.find(account_id)
        if record is None:
            return NotFound("no such account")
        if record.organiser.id == admin.organiser.id:
            return InvalidInput("account", "This is your own account. Another administrator can do this.")
        return admin, record

    def _first_admin(  # noqa: PLR0917
        self,
        tx: Transaction,
        admin: OrganiserRecord,
        record: OrganiserRecord,
        act: Act,
        successor: str,
        now: datetime,
    ) -> str | None:
        """Who asked for it before, if it takes two; empty if one is enough. None: this is the first one, noted."""
        who, by = record.organiser.id, admin.organiser.id
        if not self._takes_two(tx, who, act, successor, now):
            return ""
        asked = tx.admin_requests.get(who)
        if asked is not None and (asked.act, asked.successor) == (act, successor) and asked.by != by:
            first = tx.organisers.find(asked.by)  # who was removed since does not count
            if first is not None and is_fresh(asked.at, now, SECOND_ADMIN):
                return asked.by
        tx.admin_requests.put(who, Asked(act, successor, by, now))
        self._g.audit.record(
            tx,
            now,
            Action.SECOND_ADMIN_NEEDED,
            actor=audit.organiser(by),
            subject=audit.organiser(who),
            act=act,
            to=successor,
        )
        if act is Act.RESET:
            notices.tell(self._g, tx, record.organiser.email, Notice.RESET_ASKED, now)
        return None

    def _takes_two(self, tx: Transaction, who: str, act: Act, successor: str, now: datetime) -> bool:
        """Whether the policy says so of a meeting: one not yet over, or, where all go to another, any that is kept."""
        if act is Act.REMOVE and not successor:
            return False  # nobody gets to see anything
        such = (one for one in tx.meetings.of(who) if self._g.policy.of(one.sensitivity).two_admins)
        return any(act is Act.REMOVE or not one.is_over(now) for one in such)

    def _reset(  # noqa: PLR0917
        self, tx: Transaction, record: OrganiserRecord, token: str, now: datetime, actor: str, first: str
    ) -> list[Out]:
        who = record.organiser.id
        outs = self._void(tx, record, now)
        tx.organisers.reset(who)
        tx.account_authenticators.add(new_id(), who, totp.new_secret(), "", now)
        self._g.audit.record(
            tx, now, Action.ACCOUNT_RESET, actor=actor, subject=audit.organiser(who), first_admin=first
        )
        tx.organisers.add_enrolment(self._g.link_hash(token), who, now + ENROLMENT_LIFETIME)
        notices.tell(self._g, tx, record.organiser.email, Notice.RESET, now)
        _log.info("account_reset", account=who)
        return outs

    def _remove(  # noqa: PLR0917
        self,
        tx: Transaction,
        record: OrganiserRecord,
        successor: Organiser | None,
        now: datetime,
        actor: str,
        first: str,
    ) -> list[Out]:
        leaver, to = record.organiser, successor.id if successor else ""
        if successor is None:
            outs = leaving.withdraw_all(self._g, tx, leaver, now, actor)
        else:
            outs = leaving.hand_over(self._g, tx, leaver, successor, now, actor)
            if tx.meetings.of(successor.id):
                notices.tell(self._g, tx, successor.email, Notice.MEETINGS_TAKEN_OVER, now)
        self._void(tx, record, now)
        notices.tell(self._g, tx, leaver.email, Notice.REMOVED, now)
        tx.organisers.remove(leaver.id, now)
        subject = audit.organiser(leaver.id)
        self._g.audit.record(tx, now, Action.ACCOUNT_REMOVED, actor=actor, subject=subject, first_admin=first, to=to)
        _log.info("account_removed", account=leaver.id)
        return outs

    def _void(self, tx: Transaction, record: OrganiserRecord, now: datetime) -> list[Out]:
        """All that opens anything, sessions and proofs at a meeting's door included. Where they may be inside."""
        who, outs = record.organiser.id, []
        tx.sessions.remove_all(who)
        tx.passkeys.remove_all(who)
        tx.account_authenticators.remove_all(who)
        tx.admin_requests.remove(who)
        for meeting in tx.meetings.of(who):
            own = tx.invitations.organisers_own(meeting.id)
            if own is not None and not meeting.is_over(now):
                tx.verifications.revoke(own.id)
                tx.tickets.kill(own.id)
                if meeting.is_open(now):
                    outs.append(Out(meeting.room, own))
        return outs

    def _status(self, tx: Transaction, record: OrganiserRecord, now: datetime) -> AccountStatus:
        who, asked = record.organiser, tx.admin_requests.get(record.organiser.id)
        return AccountStatus(
            who.id,
            who.name,
            who.email,
            who.role,
            record.enrolled_at,
            record.enrols,
            record.signed_in_at,
            limits.holds_up(tx, self._organisers.email_hash(who.email), now),
            asked if asked is not None and is_fresh(asked.at, now, SECOND_ADMIN) else None,
        )


def _successor(tx: Transaction, successor_id: str, leaver: OrganiserRecord) -> Organiser | None:
    """Who is to have the meetings. Raises `InvalidInput` for who cannot."""
    if not successor_id:
        return None
    found = tx.organisers.find(successor_id)
    fit = found is not None and found.organiser.role is AccountRole.ORGANISER
    if found is None or not fit or found.organiser.id == leaver.organiser.id:
        raise InvalidInput("successor", "Choose another organiser.")
    return found.organiser
