"""Meetings and invitations."""

from datetime import datetime
from typing import Any

from sqlalchemy import (
    Connection,
    Row,
    Select,
    bindparam,
    exists,
    func,
    insert,
    literal_column,
    select,
    update,
)

from sluss.domain.assurance import Method
from sluss.domain.errors import Told
from sluss.domain.gate import Role
from sluss.domain.meetings import (
    Answer,
    Invitation,
    InvitationState,
    Meeting,
    MeetingOnRecord,
    PersonWaiting,
    shown_name,
)
from sluss.store.rows import instant, instant_or_none, seconds
from sluss.store.schema import attendance, invitations, meetings, verifications
from sluss.store.sealing import Sealer

_LABEL = "invitations.label"
_MEETING = select(meetings).where(meetings.c.id == bindparam("id"))
_INVITATION = select(invitations).where(invitations.c.id == bindparam("id"))
_BY_LINK = select(invitations).where(invitations.c.link_hash == bindparam("link"))
_ID_OF = select(invitations.c.id).where(invitations.c.link_hash == bindparam("link"))
_OF = (
    select(invitations)
    .where(invitations.c.meeting_id == bindparam("meeting"), invitations.c.role == bindparam("role"))
    .order_by(invitations.c.created_at, literal_column("invitations.rowid"))
)


def names(sealer: Sealer, invitation_id: str, name: bytes, label: bytes | None) -> tuple[str, str]:
    """The name and the label of whom an invitation is for, opened."""
    opened = sealer.open(label, _LABEL, invitation_id) if label else ""
    return sealer.open(name, "invitations.name", invitation_id), opened


class MeetingRepository:
    """Rows of `meetings`."""

    def __init__(self, connection: Connection, sealer: Sealer) -> None:
        self._c = connection
        self._sealer = sealer

    def add(self, meeting: Meeting, now: datetime) -> None:
        """Store a new meeting."""
        self._c.execute(
            insert(meetings).values(
                id=meeting.id,
                organiser_id=meeting.organiser_id,
                title=self._sealer.seal(meeting.title, "meetings.title", meeting.id),
                agenda=self._sealer.seal(meeting.agenda, "meetings.agenda", meeting.id),
                starts_at=seconds(meeting.starts_at),
                minutes=meeting.minutes,
                time_zone=meeting.time_zone,
                sensitivity=meeting.sensitivity,
                room=meeting.room,
                created_at=seconds(now),
            )
        )

    def get(self, meeting_id: str) -> Meeting | None:
        """By id."""
        row = self._c.execute(_MEETING, {"id": meeting_id}).one_or_none()
        return self._meeting(row) if row else None

    def by_room(self, room: str) -> Meeting | None:
        """By the exact room name."""
        row = self._c.execute(select(meetings).where(meetings.c.room == room)).one_or_none()
        return self._meeting(row) if row else None

    def of(self, organiser_id: str) -> list[Meeting]:
        """An organiser's meetings, latest start first."""
        query = select(meetings).where(meetings.c.organiser_id == organiser_id, meetings.c.purged_at.is_(None))
        return [self._meeting(row) for row in self._c.execute(query.order_by(meetings.c.starts_at.desc()))]

    def on_record(self) -> list[MeetingOnRecord]:
        """Every meeting there was, latest start first."""
        columns = (
            meetings.c.id,
            meetings.c.starts_at,
            meetings.c.minutes,
            meetings.c.sensitivity,
            meetings.c.purged_at,
        )
        return [
            MeetingOnRecord(row.id, instant(row.starts_at), row.minutes, row.sensitivity, row.purged_at is not None)
            for row in self._c.execute(select(*columns).order_by(meetings.c.starts_at.desc()))
        ]

    def hand_over(self, meeting_id: str, organiser_id: str) -> None:
        """From now on it is another organiser's."""
        self._c.execute(update(meetings).where(meetings.c.id == meeting_id).values(organiser_id=organiser_id))

    def end(self, meeting_id: str, now: datetime) -> None:
        """Close it for good."""
        self._c.execute(
            update(meetings)
            .where(meetings.c.id == meeting_id, meetings.c.ended_at.is_(None))
            .values(ended_at=seconds(now))
        )

    def _meeting(self, row: Row[tuple[object, ...]]) -> Meeting:
        r = row._mapping
        return Meeting(
            starts_at=instant(r["starts_at"]),
            minutes=r["minutes"],
            ended_at=instant_or_none(r["ended_at"]),
            id=r["id"],
            organiser_id=r["organiser_id"],
            title=self._sealer.open(r["title"], "meetings.title", r["id"]),
            agenda=self._sealer.open(r["agenda"], "meetings.agenda", r["id"]),
            time_zone=r["time_zone"],
            sensitivity=r["sensitivity"],
            room=r["room"],
            purged=r["purged_at"] is not None,
        )


class InvitationRepository:
    """Rows of `invitations`."""

    def __init__(self, connection: Connection, sealer: Sealer) -> None:
        self._c = connection
        self._sealer = sealer

    def add(self, invitation: Invitation, link_hash: str | None, now: datetime) -> None:
        """Store a new invitation; only the hash of its personal link."""
        self._c.execute(
            insert(invitations).values(
                id=invitation.id,
                meeting_id=invitation.meeting_id,
                role=invitation.role.value,
                name=self._sealer.seal(invitation.name, "invitations.name", invitation.id),
                email=self._sealer.seal(invitation.email, "invitations.email", invitation.id),
                mobile=self._sealer.seal(invitation.mobile, "invitations.mobile", invitation.id),
                label=self._sealer.seal(invitation.label, _LABEL, invitation.id) if invitation.label else None,
                link_hash=link_hash,
                answer=invitation.answer.value,
                state=invitation.state.value,
                username=invitation.username,
                created_at=seconds(now),
                person_hash=invitation.person_hash or None,
            )
        )

    def by_link(self, link_hash: str) -> Invitation | None:
        """Whose personal link this is, in whatever state."""
        return self._one(_BY_LINK, {"link": link_hash})

    def get(self, invitation_id: str) -> Invitation | None:
        """By id."""
        return self._one(_INVITATION, {"id": invitation_id})

    def id_of(self, link_hash: str) -> str | None:
        """Whose personal link this is: the invitation's id alone."""
        return self._c.execute(_ID_OF, {"link": link_hash}).scalar_one_or_none()

    def organisers_own(self, meeting_id: str) -> Invitation | None:
        """The organiser's invitation to their own meeting. If it was handed over: the last one's."""
        found = self.organisers_ever(meeting_id)
        return found[-1] if found else None

    def organisers_ever(self, meeting_id: str) -> list[Invitation]:
        """That of each organiser whose meeting it was, in their order."""
        return self._of(meeting_id, Role.ORGANISER)

    def participants(self, meeting_id: str) -> list[Invitation]:
        """Everyone invited, in the order they were."""
        return self._of(meeting_id, Role.PARTICIPANT)

    def waiting(self, meeting_id: str, since: datetime) -> list[PersonWaiting]:
        """Whose verification was heard of waiting since then and who is not inside, in the order they verified."""
        query = (
            select(
                invitations.c.id, invitations.c.name, invitations.c.label, func.max(verifications.c.method).label("how")
            )
            .join(verifications)
            .where(invitations.c.meeting_id == meeting_id, invitations.c.state == InvitationState.LIVE.value)
            .where(verifications.c.session_hash != "", verifications.c.waited_at > seconds(since))
            .where(~exists().where(attendance.c.invitation_id == invitations.c.id, attendance.c.open))
            .group_by(invitations.c.id)
            .order_by(func.min(verifications.c.verified_at))
        )
        return [
            PersonWaiting(row.id, shown_name(*names(self._sealer, row.id, row.name, row.label)), Method(row.how))
            for row in self._c.execute(query)
        ]

    def link_hashes(self, meeting_id: str) -> dict[str, str]:
        """The hash of each participant's personal link, by invitation."""
        query = select(invitations.c.id, invitations.c.link_hash).where(
            invitations.c.meeting_id == meeting_id, invitations.c.link_hash.is_not(None)
        )
        return {row.id: row.link_hash for row in self._c.execute(query)}

    def set_answer(self, invitation_id: str, answer: Answer) -> None:
        """Note the answer."""
        self._c.execute(update(invitations).where(invitations.c.id == invitation_id).values(answer=answer.value))

    def close(self, invitation_id: str, state: InvitationState) -> bool:
        """Make the link dead for good. False if it was already."""
        return bool(
            self._c.execute(
                update(invitations)
                .where(invitations.c.id == invitation_id, invitations.c.state == InvitationState.LIVE.value)
                .values(state=state.value)
            ).rowcount
        )

    def set_link(self, invitation_id: str, link_hash: str) -> None:
        """Replace the personal link; the old one is from now on unknown."""
        self._c.execute(update(invitations).where(invitations.c.id == invitation_id).values(link_hash=link_hash))

    def set_mobile(self, invitation_id: str, mobile: str) -> None:
        """Replace the phone number."""
        sealed = self._sealer.seal(mobile, "invitations.mobile", invitation_id)
        self._c.execute(update(invitations).where(invitations.c.id == invitation_id).values(mobile=sealed))

    def note_refused(self, link_hash: str, told: Told, now: datetime) -> bool:
        """Note of a live link that a right proof was refused, the last time of each kind. Whether it is a live one."""
        live = invitations.c.state == InvitationState.LIVE.value
        noted = {f"{told}_at": seconds(now)}
        done = self._c.execute(update(invitations).where(invitations.c.link_hash == link_hash, live).values(noted))
        return bool(done.rowcount)

    def refused_at(self, invitation_id: str, told: Told) -> datetime | None:
        """When that last was."""
        query = select(invitations.c[f"{told}_at"]).where(invitations.c.id == invitation_id)
        return instant_or_none(self._c.execute(query).scalar_one())

    def _of(self, meeting_id: str, role: Role) -> list[Invitation]:
        found = self._c.execute(_OF, {"meeting": meeting_id, "role": role.value})
        return [self._invitation(row) for row in found]

    def _one(self, query: Select[Any], values: dict[str, str]) -> Invitation | None:
        row = self._c.execute(query, values).one_or_none()
        return self._invitation(row) if row else None

    def _invitation(self, row: Row[tuple[object, ...]]) -> Invitation:
        r = row._mapping
        name, label = names(self._sealer, r["id"], r["name"], r["label"])
        return Invitation(
            r["id"],
            r["meeting_id"],
            Role(r["role"]),
            name,
            self._sealer.open(r["email"], "invitations.email", r["id"]),
            self._sealer.open(r["mobile"], "invitations.mobile", r["id"]),
            Answer(r["answer"]),
            InvitationState(r["state"]),
            r["username"],
            label,
            r["person_hash"] or "",
        )
