"""Meetings: an organiser's verbs. Whoever is not the meeting's organiser is told there is no such meeting."""

import contextlib
from collections.abc import Callable
from datetime import datetime, timedelta
from itertools import chain

import structlog

from sluss.delivery import texts
from sluss.delivery.worker import MAIL, SMS
from sluss.domain.accounts import AccountRole
from sluss.domain.assurance import ADDED, Method
from sluss.domain.attendance import COMING
from sluss.domain.audit import Action
from sluss.domain.drafts import check_count, check_name
from sluss.domain.errors import GateUnavailable, InvalidInput, NotFound, SlussError, Told
from sluss.domain.gate import Door, Role
from sluss.domain.limits import Lock, LockKind, SmsRules, longest
from sluss.domain.meetings import (
    Answer,
    Invitation,
    InvitationState,
    InvitationStatus,
    Meeting,
    MeetingDraft,
    MeetingOnRecord,
    MeetingView,
    Organiser,
    ParticipantDraft,
)
from sluss.domain.policy import WAITING_HEARD, SensitivityClass
from sluss.services import audit, limits
from sluss.services.common import Ground, new_id, new_link, new_username
from sluss.services.expel import expel
from sluss.store.database import Transaction

_WORTH_TELLING = timedelta(days=7)
_CLOSED = {InvitationState.WITHDRAWN: Action.WITHDRAWN, InvitationState.PUT_OUT: Action.PUT_OUT}

KNOWN_BY_NUMBER = ADDED | {Method.SMS}
"""What proves somebody to be who has a number, or was added by who had it."""

_log = structlog.get_logger()


class Meetings:
    """The verbs about meetings and invitations."""

    def __init__(self, ground: Ground, door: Callable[[], Door]) -> None:
        self._g = ground
        self._door = door

    def classes(self) -> list[SensitivityClass]:
        """The sensitivity classes that can be chosen here: those some participant can satisfy."""
        return self._g.policy.open_classes(self._g.methods)

    def class_of(self, meeting: Meeting | MeetingOnRecord) -> SensitivityClass:
        """The sensitivity class of a meeting."""
        return self._g.policy.of(meeting.sensitivity)

    async def create(self, organiser: Organiser, draft: MeetingDraft) -> Meeting:
        """Save a meeting and queue each participant's mail, in one transaction. Raises `InvalidInput`, `NotFound`.

        An error about the draft's second participant names `label-1`.
        """
        if organiser.role is not AccountRole.ORGANISER:
            raise NotFound("only organisers have meetings")
        if draft.sensitivity not in self._g.policy.classes:
            raise InvalidInput("sensitivity", "Choose how sensitive the meeting is.")
        if draft.sensitivity not in {c.name for c in self.classes()}:
            raise InvalidInput("sensitivity", "No participant could verify for this class on this installation.")
        names = [organiser.name]
        for index, person in enumerate(draft.participants):
            check_name(person, names, f"label-{index}")
            names.append(person.shown_name)
        now = self._g.clock()
        meeting = Meeting(
            starts_at=draft.starts_at,
            minutes=draft.minutes,
            ended_at=None,
            id=new_id(),
            organiser_id=organiser.id,
            title=draft.title,
            agenda=draft.agenda,
            time_zone=draft.time_zone,
            sensitivity=draft.sensitivity,
            room=new_id(),
        )
        own = ParticipantDraft(organiser.name, organiser.email, "")

        def work(tx: Transaction) -> None:
            tx.meetings.add(meeting, now)
            tx.invitations.add(new_invitation(meeting, own, Role.ORGANISER), None, now)
            self._record(tx, Action.MEETING_CREATED, meeting, None, sensitivity=meeting.sensitivity)
            for person in draft.participants:
                self._invite(tx, meeting, person, now)

        await self._g.store.run(work)
        self._g.wake_outbox()
        _log.info("meeting_created", meeting=meeting.id, participants=len(draft.participants))
        return meeting

    async def list(self, organiser: Organiser) -> list[Meeting]:
        """An organiser's own meetings, latest start first."""
        return await self._g.store.run(lambda tx: tx.meetings.of(organiser.id))

    async def view(self, organiser: Organiser, meeting_id: str) -> MeetingView:
        """A meeting with everyone's status. Raises `NotFound`."""
        now = self._g.clock()

        def work(tx: Transaction) -> MeetingView | SlussError:
            meeting = self._own(tx, organiser, meeting_id)
            if isinstance(meeting, NotFound):
                return meeting
            here = tuple(tx.attendance.here(meeting.id))
            inside = {person.invitation_id for person in here}
            owners = self._owners(tx, meeting.id)
            locked = limits.locks(tx, [meeting.id, *chain.from_iterable(owners.values())], now)
            statuses = tuple(
                self._status(
                    tx,
                    invitation,
                    here=invitation.id in inside,
                    locks=longest(lock for owner in owners[invitation.id] for lock in locked.get(owner, ())),
                )
                for invitation in tx.invitations.participants(meeting.id)
            )
            day = sms_day_opens(tx, self._g.sms, now)
            stopped = locked.get(meeting.id, ()) + ((Lock(LockKind.DAY, day),) if day else ())
            waiting = tuple(tx.invitations.waiting(meeting.id, now - WAITING_HEARD)) if meeting.is_open(now) else ()
            return MeetingView(meeting, statuses, here, meeting.is_open(now), waiting, stopped)

        return await self._g.store.run(work)

    async def invite(self, organiser: Organiser, meeting_id: str, person: ParticipantDraft) -> None:
        """Invite one more. Raises `NotFound`, `InvalidInput`."""
        now = self._g.clock()

        def work(tx: Transaction) -> SlussError | None:
            meeting = self._own(tx, organiser, meeting_id)
            if isinstance(meeting, NotFound):
                return meeting
            others = live_participants(tx, meeting)
            check_count(len(others) + 1)
            for other in others:
                if other.state is InvitationState.LIVE and other.email.casefold() == person.email.casefold():
                    return InvalidInput("email", "This address is already in the list.")
            check_name(person, [organiser.name, *(other.shown_name for other in others)])
            self._invite(tx, meeting, person, now)
            return None

        await self._g.store.run(work)
        self._g.wake_outbox()

    async def resend(self, organiser: Organiser, invitation_id: str) -> str:
        """Send a new personal link; the old one is dead from now on, and who came in with it is put out.

        Returns the meeting's id. Raises `NotFound`; `GateUnavailable` if Prosody did not confirm that they are out.
        """
        now, link = self._g.clock(), new_link()

        def work(tx: Transaction) -> tuple[Meeting, Invitation, bool] | SlussError:
            found = self._own_invitation(tx, organiser, invitation_id)
            if isinstance(found, NotFound):
                return found
            meeting, invitation = found
            if invitation.state is not InvitationState.LIVE:
                return NotFound("the invitation is closed")
            tx.outbox.cancel(invitation.id)
            tx.verifications.revoke(invitation.id)
            tx.tickets.kill(invitation.id)
            tx.invitations.set_link(invitation.id, self._g.link_hash(link))
            self._mail_link(tx, meeting, invitation, link, now)
            inside = tx.tickets.in_or_coming(invitation.id, now - COMING)
            self._record(tx, Action.LINK_RESENT, meeting, invitation)
            return meeting, invitation, inside

        meeting, invitation, inside = await self._g.store.run(work)
        self._g.wake_outbox()
        await self._out(meeting, invitation, "The organiser has sent you a new link.", now, inside=inside)
        return meeting.id

    async def change_number(self, organiser: Organiser, invitation_id: str, mobile: str) -> str:
        """Send codes to another phone from now on. Whoever was known by the old number is not any more, and put out.

        The link stays; the participant is told by mail. `mobile` is E.164. Returns the meeting's id. Raises
        `InvalidInput`, `NotFound`; `GateUnavailable` if Prosody did not confirm that they are out.
        """
        now = self._g.clock()

        def work(tx: Transaction) -> tuple[Meeting, Invitation, bool] | SlussError:
            found = self._own_invitation(tx, organiser, invitation_id)
            if isinstance(found, NotFound):
                return found
            meeting, invitation = found
            if invitation.state is not InvitationState.LIVE or invitation.role is Role.ORGANISER:
                return NotFound("the invitation is closed, or has no number")
            if not self._g.sms.reaches(mobile) or mobile == invitation.mobile:
                return InvalidInput("mobile", "Write another number, to which codes can be sent.")
            who = invitation.id
            tx.invitations.set_mobile(who, mobile)
            tx.challenges.remove_all(tx.invitations.link_hashes(meeting.id)[who])
            tx.verifications.revoke(who, KNOWN_BY_NUMBER)
            tx.tickets.kill(who)
            tx.outbox.cancel(who, SMS)
            subject, body = texts.number_changed(self._g.site.locale)
            message = {"to": invitation.email, "subject": subject, "body": body}
            tx.outbox.put(MAIL, message, None, now=now, expires_at=meeting.closes_at)
            self._record(tx, Action.NUMBER_CHANGED, meeting, invitation)
            inside = tx.tickets.in_or_coming(invitation.id, now - COMING)
            return meeting, invitation, inside

        meeting, invitation, inside = await self._g.store.run(work)
        self._g.wake_outbox()
        _log.info("number_changed", invitation=invitation_id, organiser=organiser.id)
        text = "The organiser has changed the number that codes for you go to."
        await self._out(meeting, invitation, text, now, inside=inside)
        return meeting.id

    async def withdraw(self, organiser: Organiser, invitation_id: str) -> str:
        """Take an invitation back: link, tickets and verifications are dead, the person outside.

        Returns the meeting's id. Raises `NotFound`; `GateUnavailable` if Prosody did not confirm that they are out.
        """
        return await self._shut_out(organiser, invitation_id, InvitationState.WITHDRAWN)

    async def put_out(self, organiser: Organiser, invitation_id: str) -> str:
        """The same for somebody inside, told so on their page."""
        return await self._shut_out(organiser, invitation_id, InvitationState.PUT_OUT)

    async def unlock(self, organiser: Organiser, invitation_id: str) -> str:
        """Undo the limits that hold this person up, who has called. Returns the meeting's id. Raises `NotFound`."""
        now = self._g.clock()

        def work(tx: Transaction) -> str | SlussError:
            found = self._own_invitation(tx, organiser, invitation_id)
            if isinstance(found, NotFound):
                return found
            meeting, invitation = found
            owners = self._owners(tx, meeting.id).get(invitation.id, ())
            limits.undo(tx, owners)
            for owner in owners:
                tx.challenges.let_ask(owner)
            self._g.audit.record(
                tx,
                now,
                Action.UNLOCKED,
                actor=audit.organiser(organiser.id),
                subject=audit.invitation(invitation.id),
                meeting=meeting.id,
            )
            return meeting.id

        meeting_id = await self._g.store.run(work)
        _log.info("limits_undone", invitation=invitation_id, organiser=organiser.id)
        return meeting_id

    async def unlock_meeting(self, organiser: Organiser, meeting_id: str) -> None:
        """Let this meeting send codes again when it has used up its own. Raises `NotFound`."""

        def work(tx: Transaction) -> Meeting | SlussError:
            meeting = self._own(tx, organiser, meeting_id)
            if isinstance(meeting, Meeting):
                limits.undo(tx, [meeting.id])
                self._record(tx, Action.UNLOCKED, meeting, None)
            return meeting

        await self._g.store.run(work)
        _log.info("limits_undone", meeting=meeting_id, organiser=organiser.id)

    async def end(self, organiser: Organiser, meeting_id: str) -> None:
        """Close the meeting for all. Raises `NotFound`, `GateUnavailable`."""
        now = self._g.clock()

        def work(tx: Transaction) -> Meeting | SlussError:
            meeting = self._own(tx, organiser, meeting_id)
            if isinstance(meeting, Meeting):
                tx.meetings.end(meeting.id, now)
                self._record(tx, Action.MEETING_ENDED, meeting, None)
            return meeting

        meeting = await self._g.store.run(work)
        _log.info("meeting_ended", meeting=meeting.id)
        await self._door().end(meeting.room, "The organiser has ended the meeting.")

    async def withdraw_all(self, organiser: Organiser, meeting_id: str) -> None:
        """Take the whole meeting back: all links are dead, and those invited are told so by mail.

        Raises `NotFound`; `GateUnavailable` if people may be inside and Prosody did not confirm that they are out.
        """
        now = self._g.clock()

        def work(tx: Transaction) -> Meeting | SlussError:
            meeting = self._own(tx, organiser, meeting_id)
            if isinstance(meeting, NotFound) or meeting.is_over(now):
                return NotFound("no such meeting of this organiser, or over")
            withdraw_meeting(self._g, tx, meeting, now, audit.organiser(organiser.id))
            return meeting

        meeting = await self._g.store.run(work)
        self._g.wake_outbox()
        _log.info("meeting_withdrawn", meeting=meeting.id)
        if meeting.is_open(now):
            await self._door().end(meeting.room, "The organiser has ended the meeting.")

    async def _shut_out(self, organiser: Organiser, invitation_id: str, state: InvitationState) -> str:
        def work(tx: Transaction) -> tuple[Meeting, Invitation] | SlussError:
            found = self._own_invitation(tx, organiser, invitation_id)
            if isinstance(found, NotFound):
                return found
            if found[1].role is Role.ORGANISER:
                return NotFound("an organiser cannot be put out of their own meeting")
            close(tx, invitation_id, state)
            self._record(tx, _CLOSED[state], *found)
            return found

        meeting, invitation = await self._g.store.run(work)
        _log.info("invitation_closed", invitation=invitation_id, state=state.value)
        await self._expel(meeting, invitation, "The organiser has put you out of the meeting.")
        return meeting.id

    def _status(
        self, tx: Transaction, invitation: Invitation, *, here: bool, locks: tuple[Lock, ...]
    ) -> InvitationStatus:
        delivery, error = tx.outbox.mail_status(invitation.id)
        seen = tx.verifications.seen_by(invitation.id)
        return InvitationStatus(
            invitation,
            delivery,
            error,
            seen.verified_at if seen else None,
            seen.method if seen else None,
            here,
            locks,
            tx.invitations.refused_at(invitation.id, Told.OTHER_PERSON),
            tx.invitations.refused_at(invitation.id, Told.TOO_WEAK),
            any(
                one.locked_at for one in tx.passkeys.of(self._g.passkey_owner_hash(invitation.email, invitation.mobile))
            ),
        )

    def _owners(self, tx: Transaction, meeting_id: str) -> dict[str, tuple[str, str]]:
        """Under whom each participant's limits are found: the personal link and the phone."""
        links = tx.invitations.link_hashes(meeting_id)
        return {i.id: (links[i.id], self._g.phone_hash(i.mobile)) for i in tx.invitations.participants(meeting_id)}

    def _invite(self, tx: Transaction, meeting: Meeting, person: ParticipantDraft, now: datetime) -> None:
        person_hash = self._g.personal_number_hash(person.personal_number) if person.personal_number else ""
        invitation, link = new_invitation(meeting, person, Role.PARTICIPANT, person_hash), new_link()
        tx.invitations.add(invitation, self._g.link_hash(link), now)
        self._record(tx, Action.INVITED, meeting, invitation)
        self._mail_link(tx, meeting, invitation, link, now)

    async def _out(self, meeting: Meeting, invitation: Invitation, text: str, now: datetime, *, inside: bool) -> None:
        """Put out who came in by what counts no more, and who is about to. Raises `GateUnavailable` for the first."""
        if inside:
            await self._expel(meeting, invitation, text)
        elif meeting.is_open(now):
            with contextlib.suppress(GateUnavailable):  # nobody has a yes, and without a link to it nobody gets one
                await self._expel(meeting, invitation, text)

    async def _expel(self, meeting: Meeting, invitation: Invitation, text: str) -> None:
        actor = audit.organiser(meeting.organiser_id)
        who = (meeting.room, invitation.username)
        await expel(self._g, self._door(), who, text, actor=actor, invitation_id=invitation.id)

    def _record(
        self, tx: Transaction, action: Action, meeting: Meeting, invitation: Invitation | None, sensitivity: str = ""
    ) -> None:
        self._g.audit.record(
            tx,
            self._g.clock(),
            action,
            actor=audit.organiser(meeting.organiser_id),
            subject=audit.invitation(invitation.id) if invitation else audit.meeting(meeting.id),
            meeting=meeting.id if invitation else "",
            sensitivity=sensitivity,
        )

    def _mail_link(self, tx: Transaction, meeting: Meeting, invitation: Invitation, link: str, now: datetime) -> None:
        subject, body = texts.invitation(self._g.site.locale, f"{self._g.site.portal}/i/{link}")
        message = {"to": invitation.email, "subject": subject, "body": body}
        tx.outbox.put(MAIL, message, invitation.id, now=now, expires_at=meeting.closes_at)

    @staticmethod
    def _own(tx: Transaction, organiser: Organiser, meeting_id: str) -> Meeting | NotFound:
        meeting = tx.meetings.get(meeting_id)
        if meeting is None or meeting.purged or meeting.organiser_id != organiser.id:
            return NotFound("no such meeting of this organiser")
        return meeting

    def _own_invitation(
        self, tx: Transaction, organiser: Organiser, invitation_id: str
    ) -> tuple[Meeting, Invitation] | NotFound:
        invitation = tx.invitations.get(invitation_id)
        if invitation is None:
            return NotFound("no such invitation")
        meeting = self._own(tx, organiser, invitation.meeting_id)
        return meeting if isinstance(meeting, NotFound) else (meeting, invitation)


def live_participants(tx: Transaction, meeting: Meeting) -> list[Invitation]:
    """Those whose links work."""
    return [one for one in tx.invitations.participants(meeting.id) if one.state is InvitationState.LIVE]


def withdraw_meeting(ground: Ground, tx: Transaction, meeting: Meeting, now: datetime, actor: str) -> None:
    """End it, close all invitations, and queue the mails that say that a link opens nothing any more."""
    subject, body = texts.link_closed(ground.site.locale)
    for person in live_participants(tx, meeting):
        close(tx, person.id, InvitationState.WITHDRAWN)
        message = {"to": person.email, "subject": subject, "body": body}
        tx.outbox.put(MAIL, message, person.id, now=now, expires_at=now + _WORTH_TELLING)
    tx.meetings.end(meeting.id, now)
    ground.audit.record(tx, now, Action.MEETING_WITHDRAWN, actor=actor, subject=audit.meeting(meeting.id))


def close(tx: Transaction, invitation_id: str, state: InvitationState) -> bool:
    """Make an invitation worthless: link, tickets, verifications, waiting messages. False if it was already."""
    tx.tickets.kill(invitation_id)
    tx.verifications.revoke(invitation_id)
    tx.outbox.cancel(invitation_id)
    return tx.invitations.close(invitation_id, state)


def new_invitation(meeting: Meeting, person: ParticipantDraft, role: Role, person_hash: str = "") -> Invitation:
    """A person's, live, and not yet stored."""
    return Invitation(
        new_id(),
        meeting.id,
        role,
        person.name,
        person.email,
        person.mobile,
        Answer.PENDING,
        InvitationState.LIVE,
        new_username(),
        person.label,
        person_hash,
    )


def sms_day_opens(tx: Transaction, rules: SmsRules, now: datetime) -> datetime | None:
    """When the next SMS may go out, if those of 24 hours are used up."""
    nth = tx.outbox.nth_newest(SMS, rules.per_day)
    opens_at = nth + timedelta(days=1) if nth else now
    return opens_at if now < opens_at else None
