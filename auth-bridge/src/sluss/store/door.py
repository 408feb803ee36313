"""Tickets and attendance: what happened at the gate."""

from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import ColumnElement, Connection, func, insert, select, update
from sqlalchemy.dialects.sqlite import insert as upsert

from sluss.domain.assurance import ASSURANCE, Method
from sluss.domain.gate import GateEvent, Occupant, Role
from sluss.domain.meetings import InvitationState, PersonHere
from sluss.store.rows import instant, seconds
from sluss.store.schema import attendance, gate_epochs, invitations, tickets, verifications
from sluss.store.sealing import Sealer


@dataclass(frozen=True, slots=True)
class TicketRecord:
    """A ticket that was issued."""

    jti: str
    invitation_id: str
    verification_id: str
    room: str
    used: bool
    admitted: bool
    dead: bool


class TicketRepository:
    """Rows of `tickets`."""

    def __init__(self, connection: Connection) -> None:
        self._c = connection

    def add(self, jti: str, invitation_id: str, verification_id: str, room: str, now: datetime) -> None:
        """Store a newly issued ticket; never its text."""
        self._c.execute(
            insert(tickets).values(
                jti=jti,
                invitation_id=invitation_id,
                verification_id=verification_id,
                room=room,
                issued_at=seconds(now),
            )
        )

    def get(self, jti: str) -> TicketRecord | None:
        """By its `jti`."""
        return self._one(tickets.c.jti == jti)

    def by_session(self, gate_session: str) -> TicketRecord | None:
        """The one that this XMPP session used up."""
        return self._one(tickets.c.gate_session == gate_session)

    def use(self, jti: str, gate_session: str, now: datetime) -> bool:
        """Use it up for one XMPP session. False if it was used or is dead: exactly one caller gets True."""
        return bool(
            self._c.execute(
                update(tickets)
                .where(tickets.c.jti == jti, tickets.c.used_at.is_(None), tickets.c.dead.is_(False))
                .values(used_at=seconds(now), gate_session=gate_session)
            ).rowcount
        )

    def admit(self, jti: str, now: datetime) -> None:
        """Note that its bearer was let in."""
        self._c.execute(update(tickets).where(tickets.c.jti == jti).values(admitted_at=seconds(now)))

    def issued(self, verification_id: str) -> int:
        """How many tickets a verification has brought."""
        return self._c.execute(
            select(func.count()).select_from(tickets).where(tickets.c.verification_id == verification_id)
        ).scalar_one()

    def kill_unused(self, verification_id: str) -> None:
        """Only the newest ticket of a verification opens anything."""
        self._c.execute(
            update(tickets)
            .where(tickets.c.verification_id == verification_id, tickets.c.used_at.is_(None))
            .values(dead=True)
        )

    def kill(self, invitation_id: str) -> None:
        """Make all of an invitation's tickets worthless, used or not."""
        self._c.execute(update(tickets).where(tickets.c.invitation_id == invitation_id).values(dead=True))

    def _one(self, condition: ColumnElement[bool]) -> TicketRecord | None:
        row = self._c.execute(select(tickets).where(condition)).one_or_none()
        if row is None:
            return None
        return TicketRecord(
            row.jti,
            row.invitation_id,
            row.verification_id,
            row.room,
            row.used_at is not None,
            row.admitted_at is not None,
            row.dead,
        )


class AttendanceRepository:
    """Rows of `attendance` and `gate_epochs`."""

    def __init__(self, connection: Connection, sealer: Sealer) -> None:
        self._c = connection
        self._sealer = sealer

    def is_new(self, event: GateEvent) -> bool:
        """Whether this numbered event was not heard before; notes it as heard."""
        heard = self._c.execute(
            select(gate_epochs.c.seq).where(gate_epochs.c.epoch == event.epoch)
        ).scalar_one_or_none()
        if heard is not None and event.seq <= heard:
            return False
        self.heard(event.epoch, event.seq, event.at)
        return True

    def heard(self, epoch: str, seq: int, at: int) -> None:
        """Everything up to `seq` of this epoch is known."""
        self._c.execute(
            upsert(gate_epochs)
            .values(epoch=epoch, seq=seq, seen_at=at)
            .on_conflict_do_update(index_elements=[gate_epochs.c.epoch], set_={"seq": seq, "seen_at": at})
        )

    def enter(self, gate_session: str, invitation_id: str, epoch: str, occupant: str, at: int) -> None:
        """Open an interval."""
        self._c.execute(
            upsert(attendance)
            .values(
                gate_session=gate_session,
                invitation_id=invitation_id,
                epoch=epoch,
                occupant=occupant,
                entered_at=at,
            )
            .on_conflict_do_update(index_elements=[attendance.c.gate_session], set_={"entered_at": at})
        )

    def found_inside(self, found: Occupant, invitation_id: str, epoch: str) -> None:
        """Somebody was there when the roll was called: open the interval unless it was closed exactly since."""
        self._c.execute(
            upsert(attendance)
            .values(
                gate_session=found.session,
                invitation_id=invitation_id,
                epoch=epoch,
                occupant=found.occupant,
                entered_at=found.at,
            )
            .on_conflict_do_update(
                index_elements=[attendance.c.gate_session],
                set_={"left_at": None, "end_is_exact": True},
                where=attendance.c.end_is_exact.is_(False),
            )
        )

    def leave(self, gate_session: str, at: int, *, exact: bool = True) -> None:
        """Close an interval. An exact time replaces one that a roll call had to guess."""
        still_open = attendance.c.left_at.is_(None)
        self._c.execute(
            update(attendance)
            .where(
                attendance.c.gate_session == gate_session,
                still_open | attendance.c.end_is_exact.is_(False) if exact else still_open,
            )
            .values(left_at=at, end_is_exact=exact)
        )

    def open_sessions(self) -> set[str]:
        """The XMPP sessions believed to be inside some room."""
        return set(self._c.execute(select(attendance.c.gate_session).where(attendance.c.left_at.is_(None))).scalars())

    def presence(self, verification_id: str) -> tuple[bool, datetime | None]:
        """Whether somebody is inside on this verification, and when they last left."""
        inside, last = self._c.execute(
            select(func.count().filter(attendance.c.left_at.is_(None)), func.max(attendance.c.left_at))
            .join_from(attendance, tickets, tickets.c.gate_session == attendance.c.gate_session)
            .where(tickets.c.verification_id == verification_id)
        ).one()
        return bool(inside), None if last is None else instant(last)

    def rooms_with_people(self) -> set[str]:
        """The rooms in which somebody is now."""
        return set(
            self._c.execute(
                select(tickets.c.room)
                .distinct()
                .join_from(attendance, tickets, tickets.c.gate_session == attendance.c.gate_session)
                .where(attendance.c.left_at.is_(None))
            ).scalars()
        )

    def closed_but_inside(self) -> list[tuple[str, str]]:
        """Room and user name of everybody inside whose invitation is closed, or whose ticket was taken back."""
        query = (
            select(tickets.c.room, invitations.c.username)
            .distinct()
            .join_from(attendance, invitations)
            .join(tickets, tickets.c.gate_session == attendance.c.gate_session)
            .where(attendance.c.left_at.is_(None))
            .where((invitations.c.state != InvitationState.LIVE.value) | tickets.c.dead)
        )
        return [(row.room, row.username) for row in self._c.execute(query)]

    def here(self, meeting_id: str) -> list[PersonHere]:
        """Who is inside a meeting now, each person once, in the order they came."""
        query = (
            select(
                invitations.c.id,
                invitations.c.name,
                invitations.c.role,
                func.min(attendance.c.entered_at).label("since"),
                func.count().label("devices"),
                func.max(verifications.c.method).label("method"),
            )
            .join_from(attendance, invitations)
            .join(tickets, tickets.c.gate_session == attendance.c.gate_session)
            .join(verifications, verifications.c.id == tickets.c.verification_id)
            .where(invitations.c.meeting_id == meeting_id, attendance.c.left_at.is_(None))
            .group_by(invitations.c.id)
            .order_by("since")
        )
        return [
            PersonHere(
                row.id,
                self._sealer.open(row.name, "invitations.name", row.id),
                Role(row.role),
                Method(row.method),
                ASSURANCE[Method(row.method)].value,
                instant(row.since),
                row.devices,
            )
            for row in self._c.execute(query)
        ]
