"""What becomes of the meetings of an organiser who leaves: all handed over, or those to come withdrawn."""

import contextlib
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime

from sluss.domain.audit import Action
from sluss.domain.drafts import check_name
from sluss.domain.errors import GateUnavailable, InvalidInput
from sluss.domain.gate import Door, Role
from sluss.domain.meetings import Invitation, InvitationState, Meeting, Organiser, ParticipantDraft
from sluss.services import audit
from sluss.services.common import Ground
from sluss.services.expel import expel
from sluss.services.meetings import close, live_participants, new_invitation, withdraw_meeting
from sluss.store.database import Transaction


@dataclass(frozen=True, slots=True)
class Out:
    """Who is to be put out of a room; with no invitation everybody, for the meeting is over."""

    room: str
    invitation: Invitation | None = None


def hand_over(  # noqa: PLR0917
    ground: Ground, tx: Transaction, leaver: Organiser, successor: Organiser, now: datetime, actor: str
) -> list[Out]:
    """Give all meetings to another. Raises `InvalidInput` where one that is to come has somebody of that name."""
    outs: list[Out] = []
    for meeting in tx.meetings.of(leaver.id):
        if not meeting.is_over(now):
            outs += _hand_door_over(tx, meeting, successor, now)
        tx.meetings.hand_over(meeting.id, successor.id)
        subject = audit.meeting(meeting.id)
        ground.audit.record(tx, now, Action.MEETING_HANDED_OVER, actor=actor, subject=subject, to=successor.id)
    return outs


def withdraw_all(ground: Ground, tx: Transaction, leaver: Organiser, now: datetime, actor: str) -> list[Out]:
    """End all meetings to come, and tell those who are invited that their link opens nothing."""
    to_come = [meeting for meeting in tx.meetings.of(leaver.id) if not meeting.is_over(now)]
    for meeting in to_come:
        withdraw_meeting(ground, tx, meeting, now, actor)
    return [Out(meeting.room) for meeting in to_come]


async def put_out(ground: Ground, door: Callable[[], Door], outs: list[Out], actor: str) -> None:
    """After the commit. What the gate does not confirm, housekeeping tries again."""
    for out in outs:
        with contextlib.suppress(GateUnavailable):
            if out.invitation is None:
                await door().end(out.room, "The organiser has ended the meeting.")
            else:
                who, text = (out.room, out.invitation.username), "You are no longer this meeting's organiser."
                await expel(ground, door(), who, text, actor=actor, invitation_id=out.invitation.id)


def _hand_door_over(tx: Transaction, meeting: Meeting, successor: Organiser, now: datetime) -> list[Out]:
    """The successor enters as organiser from now on; who leaves does not, nor the successor as a participant."""
    own, live = tx.invitations.organisers_own(meeting.id), live_participants(tx, meeting)
    double = [one for one in live if one.email.casefold() == successor.email.casefold()]
    new = ParticipantDraft(successor.name, successor.email, "")
    try:
        check_name(new, [one.shown_name for one in live if one not in double])
    except InvalidInput:
        raise InvalidInput(
            "successor", "Somebody of the same name is invited to one of the meetings. Choose another person."
        ) from None
    gone = [*double, *([own] if own else [])]
    for one in gone:
        close(tx, one.id, InvitationState.WITHDRAWN)
    tx.invitations.add(new_invitation(meeting, new, Role.ORGANISER), None, now)
    return [Out(meeting.room, one) for one in gone]
