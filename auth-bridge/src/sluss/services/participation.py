"""A personal link and the person behind it.

A link that is wrong, withdrawn or live goes the same way here until a code that was really sent is typed: the same
writes, the same answers, the same time.
"""

import contextlib
from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import datetime, timedelta

import structlog

from sluss.delivery import texts
from sluss.delivery.worker import MAIL, NOTHING, SMS
from sluss.domain.assurance import ADDED, Method, Purpose
from sluss.domain.audit import NOBODY, Action, Outcome
from sluss.domain.errors import GateUnavailable, NotVerified, SlussError, TooManyTries, Waiting
from sluss.domain.freshness import is_fresh
from sluss.domain.gate import Door
from sluss.domain.limits import (
    CODE_PAUSE,
    CODES_ADDRESS,
    CODES_ALL,
    CODES_BROWSER,
    CODES_LINK,
    CODES_LINK_ADDRESS,
    SMS_MEETING,
    SMS_NUMBER,
)
from sluss.domain.meetings import Answer, Invitation, InvitationState, InvitationView, Meeting
from sluss.factors import sms
from sluss.services import audit, limits
from sluss.services.common import Ground
from sluss.services.expel import expel
from sluss.services.meetings import close, sms_day_opens
from sluss.services.tickets import ticket_basis
from sluss.services.verification import Verifications, counts, live, used
from sluss.store.database import Transaction
from sluss.store.proof import Challenge, Verification

ADDING = timedelta(minutes=15)
"""Whoever proved who they are no longer ago may add a passkey or an authenticator."""
_NOBODY = "nobody"
_ANSWERED = {Answer.ACCEPTED: Action.ACCEPTED, Answer.DECLINED: Action.DECLINED}
_log = structlog.get_logger()


@dataclass(frozen=True, slots=True)
class Owner:
    """For whom a passkey or authenticator is added."""

    id: str
    name: str
    """How it is called on their own device."""
    by: Method
    known_as: str
    """The subject of the verification by it."""
    who: str
    """In the audit log."""
    verification: str = ""
    """Its id."""
    models: frozenset[str] | None = None
    """Of which a passkey must be; None: of any."""
    email: str = ""
    """Where an organiser is told of it."""


class Participation:
    """The verbs of a participant."""

    def __init__(self, ground: Ground, door: Callable[[], Door], verifications: Verifications) -> None:
        self._g = ground
        self._door = door
        self._verifications = verifications

    async def look(self, link: str, session: str, *, others: bool = True) -> InvitationView | None:
        """The invitation, if this browser was verified for it; None for every other link, alike.

        Not `others`: without who else is invited.
        """
        now = self._g.clock()

        def work(tx: Transaction) -> InvitationView | None:
            view = self.look_in(tx, link, session, now)
            if not others or view is None or not self._g.policy.of(view.meeting.sensitivity).attendees_shown:
                return view
            people = tx.invitations.participants(view.meeting.id)
            there = [one for one in people if one.id != view.invitation.id and one.state is InvitationState.LIVE]
            return replace(view, others=tuple(one.shown_name for one in there))

        return await self._g.store.run(work)

    async def methods(self, link: str) -> tuple[Method, ...]:
        """By what the neutral page offers to show the invitation, for every link there is and is not."""
        link_hash = self._g.link_hash(link)
        return await self._g.store.run(lambda tx: self._verifications.offered(tx, link_hash, Purpose.VIEW))

    async def send_code(self, link: str, session: str, purpose: Purpose, locale: str, address: str) -> None:
        """Send a code by SMS to the invited person's phone, if there is one. Raises `TooManyTries` only."""
        now, code = self._g.clock(), sms.new_code()
        link_hash, session_hash = self._g.link_hash(link), self._g.session_hash(session)

        def work(tx: Transaction) -> str | TooManyTries | None:
            known = tx.verifications.any_of(link_hash, session_hash)
            asks = self._asks(link_hash, session_hash, purpose, address, known=known)
            before = self._outstanding(tx, (link_hash, session_hash, purpose), now)
            if soon := _too_soon(before, now):
                return soon
            if refusal := limits.spend(tx, asks, now):
                return refusal
            invitation, meeting = self._accepting(tx, link_hash, purpose)
            subject = self._phone(invitation) if invitation else ""
            code_hash = self._code_hash(link_hash, session_hash, purpose, code)
            sent = before.sent + 1 if before else 1
            tx.challenges.put((link_hash, session_hash, purpose), code_hash, subject, now, sent=sent)
            withheld = self._withheld(tx, invitation, meeting, link_hash, now, known=known)
            text = texts.code(locale, code, self._g.site.portal_host)
            message = {"to": invitation.mobile if invitation else "", "text": text}
            expires_at = now + sms.LIFETIME
            invitation_id = invitation.id if invitation else None
            tx.outbox.put(NOTHING if withheld else SMS, message, invitation_id, now=now, expires_at=expires_at)
            self._g.audit.record(
                tx,
                now,
                Action.CODE_ASKED_FOR,
                Outcome.REFUSED if withheld else Outcome.DONE,
                subject=audit.invitation(invitation_id),
                purpose=purpose,
                origin=self._g.origin(address),
                withheld="" if withheld in (None, _NOBODY) else withheld,
            )
            return withheld

        withheld = await self._g.store.run(work)
        self._g.wake_outbox()
        _log.info("code_asked_for", purpose=purpose.value, origin=self._g.origin(address))
        if withheld and withheld != _NOBODY:
            _log.warning("sms_withheld", reason=withheld)

    async def pause(self, link: str, session: str, purpose: Purpose) -> timedelta | None:
        """How long after the last code this browser may ask for another; None if none is expected."""
        now, key = self._g.clock(), (self._g.link_hash(link), self._g.session_hash(session), purpose)
        last = await self._g.store.run(lambda tx: self._outstanding(tx, key, now))
        return sms.pause(last.sent) if last else None

    async def verify(self, link: str, session: str, purpose: Purpose, code: str, address: str) -> None:
        """Complete a verification with the code. Raises `NotVerified` for every reason, `TooManyTries`."""
        asked = self._verifications.asked(link, session, purpose, Method.SMS, address)
        key = (asked.link_hash, asked.session_hash, purpose)
        typed = "".join(code.split())

        def prove(tx: Transaction, invitation: Invitation | None) -> str | SlussError:
            challenge = self._answered(tx, key, typed, address, asked.at)
            if isinstance(challenge, SlussError):
                return challenge
            if invitation is None or challenge.subject != self._phone(invitation):
                return NotVerified("nobody to verify")
            tx.challenges.remove(key)
            return challenge.subject

        await self._verifications.verify(asked, prove)

    def _answered(
        self, tx: Transaction, key: tuple[str, str, Purpose], typed: str, address: str, now: datetime
    ) -> Challenge | SlussError:
        """The challenge to which the code is the answer, or the refusal. A try is counted, a wrong one limited."""
        link_hash, session_hash, _ = key
        known = tx.verifications.any_of(link_hash, session_hash)
        challenge = tx.challenges.get(key)
        own, shared = self._verifications.tries(link_hash, session_hash, address, known=known)
        first = challenge is None or not challenge.tries
        if refusal := limits.refusal(tx, own if first else own + shared, now):
            return refusal
        if challenge is None or not is_fresh(challenge.created_at, now, sms.LIFETIME):
            return NotVerified("no code, or too old")
        if challenge.tries >= sms.MAX_TRIES:
            return NotVerified("too many tries with this code")
        tx.challenges.count_try(key)
        if self._g.hasher.matches(challenge.code_hash, "sms-code", *key, typed):
            return challenge
        limits.take(tx, own, now)
        if shared:
            limits.spend(tx, shared, now)
        return NotVerified("wrong code")

    @staticmethod
    def _outstanding(tx: Transaction, key: tuple[str, str, Purpose], now: datetime) -> Challenge | None:
        found = tx.challenges.get(key)
        return found if found is not None and is_fresh(found.created_at, now, sms.LIFETIME) else None

    async def answer(self, link: str, session: str, answer: Answer) -> None:
        """Accept or decline. Raises `NotVerified`."""
        now = self._g.clock()

        def work(tx: Transaction) -> SlussError | None:
            if (view := self.look_in(tx, link, session, now)) is None:
                return NotVerified("not verified to see this")
            tx.invitations.set_answer(view.invitation.id, answer)
            who = audit.invitation(view.invitation.id)
            self._g.audit.record(tx, now, _ANSWERED[answer], actor=who, subject=who, meeting=view.meeting.id)
            return None

        await self._g.store.run(work)

    async def not_me(self, link: str, address: str) -> None:
        """Lock the link and tell the organiser. Nothing is said of whether there was such a link."""
        now = self._g.clock()

        def work(tx: Transaction) -> tuple[Invitation, Meeting] | None:
            invitation = tx.invitations.by_link(self._g.link_hash(link))
            if invitation is None or not close(tx, invitation.id, InvitationState.NOT_ME):
                return None
            meeting = tx.meetings.get(invitation.meeting_id)
            if meeting is None:
                return None
            organiser = tx.organisers.by_id(meeting.organiser_id).organiser
            subject, body = texts.not_me(self._g.site.locale, self._g.site.portal)
            message = {"to": organiser.email, "subject": subject, "body": body}
            if organiser.email:  # none if they have left
                tx.outbox.put(MAIL, message, None, now=now, expires_at=now + timedelta(days=3))
            self._g.audit.record(
                tx,
                now,
                Action.NOT_ME,
                subject=audit.invitation(invitation.id),
                meeting=meeting.id,
                origin=self._g.origin(address),
            )
            return invitation, meeting

        closed = await self._g.store.run(work)
        self._g.wake_outbox()
        if closed:
            invitation, meeting = closed
            origin = self._g.hasher.digest("address", address)[:12]
            _log.warning("invitation_closed", invitation=invitation.id, state="not-me", origin=origin)
            with contextlib.suppress(GateUnavailable):  # the answer is the same; housekeeping tries again
                who = (meeting.room, invitation.username)
                text = "This link was reported and is closed."
                await expel(self._g, self._door(), who, text, actor=NOBODY, invitation_id=invitation.id)

    def look_in(self, tx: Transaction, link: str, session: str, now: datetime) -> InvitationView | None:
        """The same, inside a transaction of another verb."""
        found = self.verified(tx, link, session, now)
        if found is None:
            return None
        invitation, meeting, verification = found
        own = tx.invitations.organisers_own(meeting.id)
        basis = ticket_basis(tx, invitation, meeting, self._g.session_hash(session), now, policy=self._g.policy)
        waiting = isinstance(basis, Waiting)
        may_enter = waiting or not isinstance(basis, SlussError)
        methods = self._verifications.offered(tx, self._g.link_hash(link), Purpose.JOIN)
        owner = self._g.passkey_owner_hash(invitation.email, invitation.mobile)
        passkeys, authenticator = tuple(tx.passkeys.of(owner)), tx.authenticators.of(owner)
        may_add = self._may_add(meeting) if is_fresh(verification.verified_at, now, ADDING) else frozenset()
        return InvitationView(
            invitation,
            meeting,
            own.name if own else "",
            meeting.is_open(now),
            may_enter,
            waiting,
            methods,
            passkeys=passkeys,
            may_add_passkey=Method.PASSKEY in may_add and not passkeys,
            authenticator=authenticator,
            may_add_authenticator=Method.TOTP in may_add and authenticator is None,
        )

    def adding(self, tx: Transaction, link: str, session: str, method: Method, now: datetime) -> Owner | SlussError:
        """For whom `method` is added: who proved just before who they are, where the class accepts it."""
        found = self.verified(tx, link, session, now)
        if found is None or not is_fresh(found[2].verified_at, now, ADDING):
            return NotVerified("no verification just before")
        invitation, meeting, verification = found
        if method not in self._may_add(meeting):
            return NotVerified("not accepted for this class")
        by, known_as = verification.method, verification.subject
        if before := used(tx, verification):
            by, known_as = before.enrolled_by, before.enrolled_as  # one after the other lifts nothing either
        owner = self._g.passkey_owner_hash(invitation.email, invitation.mobile)
        models = self._g.policy.of(meeting.sensitivity).passkey_models
        who = audit.invitation(invitation.id)
        return Owner(owner, invitation.name, by, known_as, who, verification.id, models)

    def _may_add(self, meeting: Meeting) -> frozenset[Method]:
        view = self._g.policy.of(meeting.sensitivity).view
        return frozenset(method for method in ADDED & self._g.methods if view.accepts(method))

    def verified(
        self, tx: Transaction, link: str, session: str, now: datetime
    ) -> tuple[Invitation, Meeting, Verification] | None:
        """The live invitation behind a link that this browser may see, and the verification because of which it may."""
        link_hash, session_hash = self._g.link_hash(link), self._g.session_hash(session)
        if not tx.verifications.any_of(link_hash, session_hash):
            return None
        invitation, meeting = live(tx, link_hash)
        if invitation is None or meeting is None:
            return None
        rules = self._g.policy.of(meeting.sensitivity)
        for purpose in Purpose:
            verification = tx.verifications.latest(invitation.id, session_hash, purpose, now)
            if (
                verification is not None
                and is_fresh(verification.verified_at, now, rules.view.fresh)
                and counts(tx, verification, Purpose.VIEW, rules)
                and self._is_still_theirs(tx, verification, invitation)
            ):
                return invitation, meeting, verification
        return None

    def _is_still_theirs(self, tx: Transaction, verification: Verification, invitation: Invitation) -> bool:
        """A code proves who has the phone; whose phone that is, the invitation says, and may say otherwise now."""
        if verification.method in ADDED:
            added = used(tx, verification)
            return added is not None and added.owner == self._g.passkey_owner_hash(invitation.email, invitation.mobile)
        return verification.method is not Method.SMS or verification.subject == self._phone(invitation)

    def _accepting(self, tx: Transaction, link_hash: str, purpose: Purpose) -> tuple[Invitation | None, Meeting | None]:
        """The same if its class accepts SMS for this purpose."""
        invitation, meeting = live(tx, link_hash)
        if meeting is None or not self._g.policy.of(meeting.sensitivity).requirement(purpose).accepts(Method.SMS):
            return None, None
        return invitation, meeting

    def _asks(
        self, link_hash: str, session_hash: str, purpose: Purpose, address: str, *, known: bool
    ) -> list[limits.Use]:
        """What asking for a code uses. A browser `known` to be the right person's shares nothing with others."""
        browser = session_hash if known else ""
        pause = limits.Use(CODE_PAUSE, self._g.limit_key(link_hash, purpose, browser), link_hash)
        if known:
            return [pause, limits.Use(CODES_BROWSER, self._g.limit_key(link_hash, browser), link_hash)]
        return [
            pause,
            limits.Use(CODES_LINK, link_hash, link_hash),
            limits.Use(CODES_LINK_ADDRESS, self._g.limit_key(link_hash, address=address), link_hash),
            limits.Use(CODES_ADDRESS, self._g.limit_key(address=address)),
            limits.Use(CODES_ALL, ""),
        ]

    def _withheld(
        self,
        tx: Transaction,
        invitation: Invitation | None,
        meeting: Meeting | None,
        link_hash: str,
        now: datetime,
        *,
        known: bool,
    ) -> str | None:
        """Why no SMS goes out, if none does. A dead link uses limits of its own, so that it takes as long."""
        number = self._g.phone_hash(invitation.mobile) if invitation else link_hash
        budget = meeting.id if meeting else link_hash
        uses = [limits.Use(SMS_MEETING, budget, budget)]
        if not known:  # others' asking must not cost the right person the code to enter
            uses.append(limits.Use(SMS_NUMBER, number, number))
        used_up = limits.refusal(tx, uses, now)
        day = sms_day_opens(tx, self._g.sms, now)
        reason = None
        if invitation is None or meeting is None or now >= meeting.closes_at:
            reason = _NOBODY
        elif not self._g.sms.reaches(invitation.mobile):
            reason = "prefix"
        elif day or used_up:
            reason = "day" if day else str(used_up)
        if reason:
            uses = [limits.Use(use.limit, link_hash) for use in uses]
        limits.take(tx, uses, now)
        return reason

    def _phone(self, invitation: Invitation) -> str:
        return self._g.phone_hash(invitation.mobile)

    def _code_hash(self, link_hash: str, session_hash: str, purpose: Purpose, code: str) -> str:
        return self._g.hasher.digest("sms-code", link_hash, session_hash, purpose, code)


def _too_soon(last: Challenge | None, now: datetime) -> TooManyTries | None:
    """The refusal if another code was sent just before; each in a row makes the wait longer."""
    wait = last.created_at + sms.pause(last.sent) - now if last else timedelta(0)
    return TooManyTries(-(-wait // timedelta(seconds=1)), CODE_PAUSE.what) if wait > timedelta(0) else None
