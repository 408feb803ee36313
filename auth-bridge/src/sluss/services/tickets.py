"""Tickets: who may have one, and making it. Claims as RFC 7519, `amr` as RFC 8176."""

from collections.abc import Callable
from datetime import datetime, timedelta
from typing import Any

import structlog

from sluss.domain.assurance import Method, Purpose, worth
from sluss.domain.audit import Action, Outcome
from sluss.domain.errors import NotFound, NotOpen, NotVerified, SignInRefused, SlussError, TooManyTries, Waiting
from sluss.domain.freshness import is_fresh
from sluss.domain.gate import Role
from sluss.domain.meetings import Invitation, InvitationState, Meeting, Ticket
from sluss.domain.policy import WAITING_ALIVE, WAITING_HEARD, Features, Policy, SensitivityClass
from sluss.factors.sign_in import Account
from sluss.keyring.tickets import TicketKeys
from sluss.services import audit
from sluss.services.common import Ground, new_id
from sluss.services.organisers import Organisers
from sluss.services.verification import counts
from sluss.store.access import OrganiserRecord
from sluss.store.database import Transaction
from sluss.store.proof import Verification

TICKET_LIFETIME = timedelta(seconds=60)
AUDIENCE = "jitsi"
"""What Jitsi's own token check expects by default, for whoever runs it as well."""
_NEVER = (
    "livestreaming",
    "transcription",
    "outbound-call",
    "inbound-call",
    "sip-outbound-call",
    "sip-inbound-call",
    "file-upload",
)
"""What Jitsi could do and no class has."""

_log = structlog.get_logger()


class Tickets:
    """The verbs that lead to a ticket."""

    def __init__(self, ground: Ground, keys: TicketKeys, organisers: Organisers) -> None:
        self._g = ground
        self._keys = keys
        self._organisers = organisers

    async def for_participant(self, link: str, session: str) -> Ticket:
        """A ticket for the person behind a link. Raises `NotVerified`; `NotOpen`, `Waiting` to who has verified."""
        now, jti = self._g.clock(), new_id()

        def work(tx: Transaction) -> tuple[Invitation, Meeting, Verification] | SlussError:
            link_hash = self._g.link_hash(link)
            if not tx.verifications.any_of(link_hash, self._g.session_hash(session)):
                return NotVerified("nobody verified with this link in this browser")
            invitation = tx.invitations.by_link(link_hash)
            if invitation is None:
                return NotVerified("no such link")
            return self._issue(tx, invitation, session, jti, now)

        return self._sign(*await self._g.store.run(work), jti, now)

    async def for_organiser(self, session: str, meeting_id: str) -> Ticket:
        """A ticket for the meeting's own organiser. Raises the same, and `SignInRequired`."""
        now, jti = self._g.clock(), new_id()

        def work(tx: Transaction) -> tuple[Invitation, Meeting, Verification] | SlussError:
            own = self.own(tx, session, meeting_id, now)
            return own if isinstance(own, SlussError) else self._issue(tx, own[1], session, jti, now)

        return self._sign(*await self._g.store.run(work), jti, now)

    async def verify_organiser(self, session: str, meeting_id: str, code: str, address: str) -> None:
        """A fresh authenticator code, besides the session's password: the organiser's `join` verification.

        Raises `NotVerified`, `TooManyTries`, `SignInRequired`, `NotFound`.
        """

        def prove(tx: Transaction, record: OrganiserRecord, now: datetime) -> str | SlussError:
            door = self._organisers.door_use(session, record)
            refusal = self._organisers.prove(tx, record, code, now, [door], recovery=False)
            return refusal or self._g.hasher.digest("authenticator", record.organiser.id)

        await self.organiser_proves(session, meeting_id, Method.TOTP, address, prove)

    async def verify_by_account(
        self, session: str, meeting_id: str, account: Account | SignInRefused, address: str
    ) -> None:
        """The same by a fresh sign-in at the organisation's provider. Raises the same."""
        method, proved_at = Method.SIGN_IN, None
        if isinstance(account, Account):
            method, proved_at = account.method, account.signed_in_at

        def prove(_: Transaction, record: OrganiserRecord, _now: datetime) -> str | SlussError:
            if isinstance(account, SlussError):
                return account
            account_hash = self._organisers.account_hash(account)
            return account_hash if account_hash == record.account_hash else NotVerified("another's account")

        await self.organiser_proves(session, meeting_id, method, address, prove, proved_at)

    async def organiser_proves(  # noqa: PLR0917
        self,
        session: str,
        meeting_id: str,
        method: Method,
        address: str,
        prove: Callable[[Transaction, OrganiserRecord, datetime], str | SlussError],
        proved_at: datetime | None = None,
    ) -> None:
        """Keep the organiser's `join` verification that `prove` leads to: the subject, or why not. Raises the same.

        `proved_at`: when it was proved, if that was before.
        """
        now = self._g.clock()

        def work(tx: Transaction) -> SlussError | None:
            own = self.own(tx, session, meeting_id, now)
            if isinstance(own, SlussError):
                return own
            record, invitation = own
            subject = prove(tx, record, now)
            refusal = subject if isinstance(subject, SlussError) else None
            outcome = Outcome.LOCKED if isinstance(refusal, TooManyTries) else Outcome.REFUSED
            self._g.audit.record(
                tx,
                now,
                Action.VERIFIED,
                outcome if refusal else Outcome.DONE,
                actor=audit.organiser(record.organiser.id),
                subject=audit.invitation(invitation.id),
                assurance="" if refusal else worth(method, Role.ORGANISER).acr,
                purpose=Purpose.JOIN,
                method=method,
                meeting=meeting_id,
                origin=self._g.origin(address),
            )
            if isinstance(subject, SlussError):
                return subject
            verification = Verification(new_id(), invitation.id, method, subject, proved_at or now)
            tx.verifications.add(verification, self._g.session_hash(session), Purpose.JOIN)
            tx.sessions.prove(self._g.session_hash(session), verification.verified_at)
            return None

        await self._g.store.run(work)
        origin = self._g.hasher.digest("address", address)[:12]
        _log.info(
            "verified",
            purpose=Purpose.JOIN.value,
            method=method.value,
            meeting=meeting_id,
            origin=origin,
        )

    async def organiser_may_enter(self, session: str, meeting_id: str) -> bool:
        """Whether `for_organiser` would give a ticket now. Raises `SignInRequired`, `NotFound`."""
        now = self._g.clock()

        def work(tx: Transaction) -> bool | SlussError:
            own = self.own(tx, session, meeting_id, now)
            if isinstance(own, SlussError):
                return own
            meeting = tx.meetings.get(meeting_id)
            if meeting is None:
                return NotFound("no such meeting")
            basis = ticket_basis(tx, own[1], meeting, self._g.session_hash(session), now, policy=self._g.policy)
            return not isinstance(basis, SlussError)

        return await self._g.store.run(work)

    def own(
        self, tx: Transaction, session: str, meeting_id: str, now: datetime
    ) -> tuple[OrganiserRecord, Invitation] | SlussError:
        """The organiser signed in here and their own invitation, if the meeting is theirs."""
        record = self._organisers.signed_in(tx, session, now)
        if isinstance(record, SlussError):
            return record
        meeting, invitation = tx.meetings.get(meeting_id), tx.invitations.organisers_own(meeting_id)
        if meeting is None or invitation is None or meeting.organiser_id != record.organiser.id:
            return NotFound("no such meeting of this organiser")
        return record, invitation

    def _issue(
        self, tx: Transaction, invitation: Invitation, session: str, jti: str, now: datetime
    ) -> tuple[Invitation, Meeting, Verification] | SlussError:
        meeting = tx.meetings.get(invitation.meeting_id)
        if meeting is None:
            return NotFound("no such meeting")
        verification = ticket_basis(tx, invitation, meeting, self._g.session_hash(session), now, policy=self._g.policy)
        if isinstance(verification, Waiting):
            tx.verifications.wait(verification.verification_id, now)
            if self._g.policy.of(meeting.sensitivity).waiting_shows_verified:
                waiting = tx.invitations.waiting(meeting.id, now - WAITING_HEARD)
                verification.others = tuple(one for one in waiting if one.invitation_id != invitation.id)
        if isinstance(verification, SlussError):
            return verification
        tx.tickets.kill_unused(verification.id)
        tx.tickets.add(jti, invitation.id, verification.id, meeting.room, now)
        self._g.audit.record(
            tx,
            now,
            Action.TICKET_ISSUED,
            actor=audit.invitation(invitation.id),
            subject=f"ticket:{jti}",
            assurance=worth(verification.method, invitation.role).acr,
            meeting=meeting.id,
            method=verification.method,
            verification=verification.id,
        )
        return invitation, meeting, verification

    def _sign(
        self, invitation: Invitation, meeting: Meeting, verification: Verification, jti: str, now: datetime
    ) -> Ticket:
        expires_at = now + TICKET_LIFETIME
        proved = worth(verification.method, invitation.role)
        claims: dict[str, Any] = {
            "iss": self._g.site.portal,
            "aud": AUDIENCE,
            "sub": self._g.site.meet_host,
            "room": meeting.room,
            "jti": jti,
            "iat": int(now.timestamp()),
            "nbf": int(now.timestamp()),
            "exp": int(expires_at.timestamp()),
            "amr": list(proved.amr),
            "acr": proved.acr.value,
            "auth_time": int(verification.verified_at.timestamp()),
            "context": {
                "user": {
                    "id": invitation.username,
                    "name": invitation.shown_name,
                    "moderator": invitation.role is Role.ORGANISER,
                },
                "features": dict.fromkeys(_NEVER, False) | _features(self._g.policy.of(meeting.sensitivity).features),
            },
        }
        _log.info("ticket_issued", invitation=invitation.id, ticket=jti, verification=verification.id)
        return Ticket(self._keys.sign(claims), meeting.room, self._g.site.meet_host, expires_at)


def _features(allowed: Features) -> dict[str, bool]:
    """What a class has, in Jitsi's words. Our own Prosody module holds people to `send-groupchat`."""
    return {
        "recording": allowed.recording,
        "screen-sharing": allowed.screen_sharing,
        "send-groupchat": allowed.chat,
        "send-private-message": allowed.chat,
        "create-polls": allowed.chat,
    }


def ticket_basis(
    tx: Transaction, invitation: Invitation, meeting: Meeting, session_hash: str, now: datetime, *, policy: Policy
) -> Verification | SlussError:
    """The verification on which a ticket can be given now, or why there is none (invariant 2).

    It must be for this invitation, for `join`, from this browser, by a method of the class, and fresh; after that it
    lasts while the person is inside, while they wait for the organiser, and for the class's grace after the connection
    dropped. `Waiting` if only the organiser is missing: that is asked before a ticket is given, and not again at the
    door, for a ticket lives a minute and the organiser was inside when it was made.
    """
    if invitation.state is not InvitationState.LIVE:
        return NotVerified("the invitation is closed")
    # First who, then when: a link alone must not tell whether its meeting is open.
    verification = tx.verifications.latest(invitation.id, session_hash, Purpose.JOIN, now)
    if verification is None:
        return NotVerified("no join verification in this browser")
    if not meeting.is_open(now):
        return NotOpen("outside its time, or ended")
    rules = policy.of(meeting.sensitivity)
    if invitation.role is Role.PARTICIPANT and not counts(tx, verification, Purpose.JOIN, rules):
        return NotVerified("method not accepted for this class")
    if not _lasts(tx, verification, rules, now):
        return NotVerified("the join verification is too old")
    if rules.waiting_room and invitation.role is Role.PARTICIPANT:
        own = tx.invitations.organisers_own(meeting.id)
        if own is None or not tx.attendance.is_inside(own.id):
            return Waiting("the organiser is not inside", verification_id=verification.id)
    return verification


def _lasts(tx: Transaction, verification: Verification, rules: SensitivityClass, now: datetime) -> bool:
    """Whether a join verification is good for a ticket now, or once the organiser is there."""
    reusable = bool(rules.grace)
    waited = verification.waited_at is not None and is_fresh(verification.waited_at, now, WAITING_ALIVE)
    fresh = is_fresh(verification.verified_at, now, rules.join.fresh)
    if (fresh or waited) and (reusable or not tx.tickets.issued(verification.id)):
        return True
    if not reusable:
        return False
    inside, last_left = tx.attendance.presence(verification.id)
    return inside or (last_left is not None and is_fresh(last_left, now, rules.grace))
