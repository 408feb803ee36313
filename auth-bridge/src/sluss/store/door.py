"""Tickets and attendance: what happened at the gate."""

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import ColumnElement, Connection, Row, bindparam, func, insert, select, update
from sqlalchemy.dialects.sqlite import insert as upsert

from sluss.domain.assurance import Method, worth
from sluss.domain.attendance import Presence
from sluss.domain.gate import Change, GateEvent, Occupant, Role
from sluss.domain.meetings import Hours, InvitationState, PersonHere, shown_name
from sluss.store.meetings import names
from sluss.store.rows import instant, instant_or_none, seconds
from sluss.store.schema import attendance, gate_epochs, invitations, meetings, tickets, verifications
from sluss.store.sealing import Sealer

# Built once, for everybody who enters runs them: building a statement takes four times as long as running it.
_TOLD_WITHIN = 10
"""Seconds from letting somebody in to hearing that they entered, while Prosody and we are both up."""

_TICKETS = (
    select(
        tickets,
        verifications.c.method,
        *(invitations.c[name] for name in ("role", "username", "state", "name", "label")),
        *(meetings.c[name] for name in ("starts_at", "minutes", "ended_at", "sensitivity")),
    )
    .join_from(tickets, verifications)
    .join(invitations, invitations.c.id == tickets.c.invitation_id)
    .join(meetings)
)
_TICKET = _TICKETS.where(tickets.c.jti == bindparam("jti"))
_OF_SESSIONS = _TICKETS.where(tickets.c.gate_session.in_(bindparam("sessions", expanding=True)))
_OTHERS = tickets.alias()
_USE = (
    update(tickets)
    .where(
        tickets.c.jti == bindparam("ticket"),
        tickets.c.used_at.is_(None),
        tickets.c.dead.is_(False),
        ~select(_OTHERS.c.jti).where(_OTHERS.c.gate_session == bindparam("session")).exists(),
    )
    .values(used_at=bindparam("now"), gate_session=bindparam("session"), origin=bindparam("sealed"))
)
_ADMIT = update(tickets).where(tickets.c.jti == bindparam("ticket")).values(admitted_at=bindparam("now"))
_EPOCH = select(gate_epochs.c.seq, gate_epochs.c.seen_at).where(gate_epochs.c.epoch == bindparam("epoch"))
_FIRST_OF_EPOCH = upsert(gate_epochs)
_PUT_EPOCH = _FIRST_OF_EPOCH.on_conflict_do_update(
    index_elements=[gate_epochs.c.epoch],
    set_={"seq": _FIRST_OF_EPOCH.excluded.seq, "seen_at": _FIRST_OF_EPOCH.excluded.seen_at},
)
_IN_OR_COMING = attendance.c.open | (attendance.c.gate_session.is_(None) & (tickets.c.used_at > bindparam("since")))
_OTHER_BROWSERS = (
    select(func.count(verifications.c.session_hash.distinct()))
    .join_from(tickets, verifications)
    .outerjoin(attendance, attendance.c.gate_session == tickets.c.gate_session)
    .where(
        tickets.c.invitation_id == bindparam("invitation"),
        tickets.c.dead.is_(False),
        verifications.c.session_hash
        != select(verifications.c.session_hash).where(verifications.c.id == bindparam("mine")).scalar_subquery(),
        _IN_OR_COMING,
    )
)
_ANY_IN_OR_COMING = (
    select(tickets.c.invitation_id)
    .outerjoin(attendance, attendance.c.gate_session == tickets.c.gate_session)
    .where(tickets.c.invitation_id == bindparam("invitation"), _IN_OR_COMING)
    .limit(1)
)
_ADD = insert(tickets)
_ISSUED = select(func.count()).select_from(tickets).where(tickets.c.verification_id == bindparam("verification"))
_KILL_UNUSED = (
    update(tickets)
    .where(tickets.c.verification_id == bindparam("verification"), tickets.c.used_at.is_(None))
    .values(dead=True)
)
_ENTER = insert(attendance)
_RECORDS = select(attendance.c.gate_session, attendance.c.record).where(
    attendance.c.gate_session.in_(bindparam("sessions", expanding=True))
)
_CHANGE = (
    update(attendance)
    .where(attendance.c.gate_session == bindparam("session"))
    .values(open=bindparam("still"), record=bindparam("sealed"))
)


@dataclass(frozen=True, slots=True)
class TicketRecord:
    """A ticket that was issued, and what the gate must know of whose it is and of the meeting."""

    jti: str
    invitation_id: str
    verification_id: str
    room: str
    used: bool
    admitted: bool
    dead: bool
    method: Method
    role: Role
    username: str
    state: InvitationState
    hours: Hours
    sensitivity: str
    origin: bytes | None
    """Sealed: the network from which it was used, where the class keeps that."""
    name: bytes
    label: bytes | None
    """Sealed, like the name: see `TicketRepository.shown_name`."""


class TicketRepository:
    """Rows of `tickets`."""

    def __init__(self, connection: Connection, sealer: Sealer) -> None:
        self._c = connection
        self._sealer = sealer

    def add(self, jti: str, invitation_id: str, verification_id: str, room: str, now: datetime) -> None:
        """Store a newly issued ticket; never its text."""
        of = {"invitation_id": invitation_id, "verification_id": verification_id, "room": room}
        self._c.execute(_ADD, {"jti": jti, **of, "issued_at": seconds(now)})

    def get(self, jti: str) -> TicketRecord | None:
        """By its `jti`."""
        row = self._c.execute(_TICKET, {"jti": jti}).one_or_none()
        return self._ticket(row) if row else None

    def by_session(self, gate_session: str) -> TicketRecord | None:
        """The one that this XMPP session used up."""
        return self.by_sessions([gate_session]).get(gate_session)

    def by_sessions(self, gate_sessions: Iterable[str]) -> dict[str, TicketRecord]:
        """The one that each of these XMPP sessions used up, if it did."""
        rows = self._c.execute(_OF_SESSIONS, {"sessions": list(gate_sessions)})
        return {row.gate_session: self._ticket(row) for row in rows}

    def shown_name(self, ticket: TicketRecord) -> str:
        """Its bearer's name as everybody sees it."""
        return shown_name(*names(self._sealer, ticket.invitation_id, ticket.name, ticket.label))

    def use(self, jti: str, gate_session: str, now: datetime, origin: str = "") -> bool:
        """Use it up for one XMPP session, which may enter at once. One caller gets True, and a session one ticket."""
        sealed = self._sealer.seal(origin, "tickets.origin", jti) if origin else None
        used = {"ticket": jti, "now": seconds(now), "session": gate_session, "sealed": sealed}
        return bool(self._c.execute(_USE, used).rowcount)

    def admit(self, jti: str, now: datetime) -> None:
        """Note that its bearer was let in now, who did not enter at once."""
        self._c.execute(_ADMIT, {"ticket": jti, "now": seconds(now)})

    def other_browsers(self, ticket: TicketRecord, since: datetime) -> int:
        """In how many other browsers its bearer is inside, or has used a ticket since then and is not heard of yet."""
        wanted = {"invitation": ticket.invitation_id, "mine": ticket.verification_id, "since": seconds(since)}
        return self._c.execute(_OTHER_BROWSERS, wanted).scalar_one()

    def in_or_coming(self, invitation_id: str, since: datetime) -> bool:
        """Whether somebody is inside by its tickets, good or not, or used one since then and is not heard of yet."""
        wanted = {"invitation": invitation_id, "since": seconds(since)}
        return self._c.execute(_ANY_IN_OR_COMING, wanted).one_or_none() is not None

    def newest(self, invitation_id: str, session_hash: str) -> tuple[TicketRecord, datetime] | None:
        """The one that this browser was given last, and when."""
        query = (
            _TICKETS.where(tickets.c.invitation_id == invitation_id, verifications.c.session_hash == session_hash)
            .order_by(tickets.c.issued_at.desc(), tickets.c.dead)
            .limit(1)
        )
        row = self._c.execute(query).one_or_none()
        return (self._ticket(row), instant(row.issued_at)) if row else None

    def issued(self, verification_id: str) -> int:
        """How many tickets a verification has brought."""
        return self._c.execute(_ISSUED, {"verification": verification_id}).scalar_one()

    def kill_unused(self, verification_id: str) -> None:
        """Only the newest ticket of a verification opens anything."""
        self._c.execute(_KILL_UNUSED, {"verification": verification_id})

    def kill(self, invitation_id: str) -> None:
        """Make all of an invitation's tickets worthless, used or not."""
        self._c.execute(update(tickets).where(tickets.c.invitation_id == invitation_id).values(dead=True))

    @staticmethod
    def _ticket(row: Row[tuple[Any, ...]]) -> TicketRecord:
        return TicketRecord(
            row.jti,
            row.invitation_id,
            row.verification_id,
            row.room,
            row.used_at is not None,
            row.admitted_at is not None,
            row.dead,
            Method(row.method),
            Role(row.role),
            row.username,
            InvitationState(row.state),
            Hours(instant(row.starts_at), row.minutes, instant_or_none(row.ended_at)),
            row.sensitivity,
            row.origin,
            row.name,
            row.label,
        )


@dataclass(slots=True)
class _Record:
    """What is sealed in a row of `attendance`. Times are Unix seconds."""

    occupant: str
    method: str
    origin: str
    entered_at: int
    left_at: int | None = None
    exact: bool = True
    closed_at: int | None = None
    """When the end was heard of; for a grace after it."""

    def leave(self, at: int) -> None:
        """Close the interval at an exact time, which replaces one that a roll call had to guess.

        By a clock that was set back meanwhile nobody leaves before they came, and how long they stayed is not known.
        """
        if self.left_at is None or not self.exact:
            self.left_at, self.exact, self.closed_at = max(self.entered_at, at), at >= self.entered_at, at


class AttendanceRepository:
    """Rows of `attendance` and `gate_epochs`. In plain is only what queries need: whose, which start, still open."""

    def __init__(self, connection: Connection, sealer: Sealer) -> None:
        self._c = connection
        self._sealer = sealer

    def unheard(self, epoch: str, events: Sequence[tuple[Change, GateEvent]]) -> list[tuple[Change, GateEvent]]:
        """Those of some numbered events of one epoch, in order, that were not heard before; notes them as heard."""
        seq, seen_at = self._epoch(epoch)
        new = [(change, event) for change, event in events if event.seq > seq]
        if new:
            self._put_epoch(epoch, new[-1][1].seq, max(seen_at, *(event.at for _, event in new)))
        return new

    def called(self, epoch: str, now: datetime) -> int:
        """The roll was called: all that are in it are inside now. How far this start of Prosody has been heard."""
        seq, _ = self._epoch(epoch)
        self._put_epoch(epoch, seq, seconds(now))  # even if that is earlier: the clock was set back
        return seq

    def note(self, epoch: str, events: Sequence[tuple[Change, GateEvent]], holders: Mapping[str, TicketRecord]) -> None:
        """Open and close intervals as told, in order. `holders`: each session's ticket, which says how it was verified.

        Many at once cost little more than one: everybody who comes passes here.
        """
        records = self._read_all({event.session for _, event in events})
        before = set(records)
        for change, event in events:
            record, ticket = records.get(event.session), holders.get(event.session)
            if record is None and ticket is not None and change is Change.ENTERED:
                records[event.session] = self._opened(ticket, event.occupant, event.at)
            elif record is not None and change is Change.ENTERED:
                record.entered_at = event.at
            elif record is not None:
                record.leave(event.at)
        new = [self._row(one, holders[one], epoch, record) for one, record in records.items() if one not in before]
        known = [self._changed(one, record) for one, record in records.items() if one in before]
        if new:
            self._c.execute(_ENTER, new)
        if known:
            self._c.execute(_CHANGE, known)

    def enter(self, gate_session: str, ticket: TicketRecord, epoch: str, occupant: str, at: int) -> None:
        """Open the interval of a session that has none, as what its ticket was verified with."""
        record = self._opened(ticket, occupant, at)
        self._c.execute(_ENTER, self._row(gate_session, ticket, epoch, record))

    def found_inside(self, found: Occupant, ticket: TicketRecord, epoch: str) -> None:
        """Somebody was there when the roll was called: open the interval unless it was closed exactly since."""
        known = self._read(found.session)
        if known is None:
            self.enter(found.session, ticket, epoch, found.occupant, found.at)
        elif not known.exact:
            known.left_at, known.exact, known.closed_at = None, True, None
            self._update(found.session, known)

    def lose(self, gate_session: str, now: datetime) -> None:
        """Close an interval whose end nobody saw, at the last proof that it went on."""
        known = self._read(gate_session)
        if known is None or known.left_at is not None:
            return
        epoch = select(attendance.c.epoch).where(attendance.c.gate_session == gate_session)
        _, seen_at = self._epoch(self._c.execute(epoch).scalar_one())
        last = min(seen_at, seconds(now))  # later than now: the clock was set back
        known.left_at, known.exact, known.closed_at = max(known.entered_at, last), False, seconds(now)
        self._update(gate_session, known)

    def untold(self, epoch: str) -> list[tuple[str, int]]:
        """Who was let in and never told of, now that Prosody has started again: session, when.

        Only those near the last that was heard: who was let in before it and did not come would have been told of.
        """
        if self._c.execute(_EPOCH, {"epoch": epoch}).one_or_none():
            return []
        last = self._c.execute(select(func.max(gate_epochs.c.seen_at))).scalar_one() or 0
        let_in = func.coalesce(tickets.c.admitted_at, tickets.c.used_at)
        query = (
            select(tickets.c.gate_session, let_in.label("let_in"))
            .outerjoin(attendance, attendance.c.gate_session == tickets.c.gate_session)
            .where(attendance.c.gate_session.is_(None), let_in >= last - _TOLD_WITHIN)
        )
        return [(row.gate_session, row.let_in) for row in self._c.execute(query)]

    def open_sessions(self) -> dict[str, str]:
        """The XMPP sessions believed to be inside some room, and in which start of Prosody each is."""
        query = select(attendance.c.gate_session, attendance.c.epoch).where(attendance.c.open)
        return {row.gate_session: row.epoch for row in self._c.execute(query)}

    def presence(self, verification_id: str) -> tuple[bool, datetime | None]:
        """Whether somebody is inside on this verification, and when the last of them was heard to leave."""
        records = self._records(tickets.c.verification_id == verification_id)
        closed = [record.closed_at for _, record in records if record.closed_at is not None]
        return any(record.left_at is None for _, record in records), instant(max(closed)) if closed else None

    def rooms_with_people(self) -> set[str]:
        """The rooms in which somebody is now."""
        return set(
            self._c.execute(
                select(tickets.c.room)
                .distinct()
                .join_from(attendance, tickets, tickets.c.gate_session == attendance.c.gate_session)
                .where(attendance.c.open)
            ).scalars()
        )

    def closed_but_inside(self) -> list[tuple[str, str]]:
        """Room and user name of everybody inside whose invitation is closed, or whose ticket was taken back."""
        query = (
            select(tickets.c.room, invitations.c.username)
            .distinct()
            .join_from(attendance, invitations)
            .join(tickets, tickets.c.gate_session == attendance.c.gate_session)
            .where(attendance.c.open)
            .where((invitations.c.state != InvitationState.LIVE.value) | tickets.c.dead)
        )
        return [(row.room, row.username) for row in self._c.execute(query)]

    def is_inside(self, invitation_id: str) -> bool:
        """Whether this person is inside now."""
        query = select(attendance.c.gate_session).where(attendance.c.invitation_id == invitation_id, attendance.c.open)
        return self._c.execute(query.limit(1)).first() is not None

    def here(self, meeting_id: str) -> list[PersonHere]:
        """Who is inside a meeting now, each person once, in the order they came. A device is a browser."""
        inside: dict[str, list[_Record]] = {}
        for invitation_id, record in self._records((invitations.c.meeting_id == meeting_id) & attendance.c.open):
            inside.setdefault(invitation_id, []).append(record)
        browsers = (
            select(attendance.c.invitation_id, func.count(verifications.c.session_hash.distinct()).label("n"))
            .join(tickets, tickets.c.gate_session == attendance.c.gate_session)
            .join(verifications, verifications.c.id == tickets.c.verification_id)
            .where(attendance.c.open, attendance.c.invitation_id.in_(inside))
            .group_by(attendance.c.invitation_id)
            .subquery()
        )
        query = select(
            invitations.c.id, invitations.c.name, invitations.c.label, invitations.c.role, browsers.c.n
        ).join(browsers, browsers.c.invitation_id == invitations.c.id)
        here = []
        for row in self._c.execute(query):
            records = inside[row.id]
            method, since = Method(max(r.method for r in records)), instant(min(r.entered_at for r in records))
            shown, role = shown_name(*names(self._sealer, row.id, row.name, row.label)), Role(row.role)
            acr = worth(method, role).acr.value
            here.append(PersonHere(row.id, shown, role, method, acr, since, row.n))
        return sorted(here, key=lambda person: person.entered_at)

    def of(self, meeting_id: str) -> list[Presence]:
        """Every connection to a meeting, ever."""
        return [
            Presence(
                invitation_id,
                instant(record.entered_at),
                instant_or_none(record.left_at),
                record.exact,
                Method(record.method),
                record.origin,
            )
            for invitation_id, record in self._records(invitations.c.meeting_id == meeting_id)
        ]

    def _epoch(self, epoch: str) -> tuple[int, int]:
        row = self._c.execute(_EPOCH, {"epoch": epoch}).one_or_none()
        return (row.seq, row.seen_at) if row else (0, 0)

    def _put_epoch(self, epoch: str, seq: int, seen_at: int) -> None:
        self._c.execute(_PUT_EPOCH, {"epoch": epoch, "seq": seq, "seen_at": seen_at})

    def _records(self, condition: ColumnElement[bool]) -> list[tuple[str, _Record]]:
        query = (
            select(attendance.c.gate_session, attendance.c.invitation_id, attendance.c.record)
            .join_from(attendance, invitations)
            .join(tickets, tickets.c.gate_session == attendance.c.gate_session)
            .where(condition)
        )
        return [(row.invitation_id, self._open(row.gate_session, row.record)) for row in self._c.execute(query)]

    def _read(self, gate_session: str) -> _Record | None:
        return self._read_all({gate_session}).get(gate_session)

    def _read_all(self, gate_sessions: set[str]) -> dict[str, _Record]:
        rows = self._c.execute(_RECORDS, {"sessions": list(gate_sessions)})
        return {row.gate_session: self._open(row.gate_session, row.record) for row in rows}

    def _opened(self, ticket: TicketRecord, occupant: str, at: int) -> _Record:
        origin = self._sealer.open(ticket.origin, "tickets.origin", ticket.jti) if ticket.origin else ""
        return _Record(occupant, ticket.method.value, origin, at)

    def _row(self, gate_session: str, ticket: TicketRecord, epoch: str, record: _Record) -> dict[str, Any]:
        sealed, still = self._seal(gate_session, record), record.left_at is None
        of = {"gate_session": gate_session, "invitation_id": ticket.invitation_id, "epoch": epoch}
        return {**of, "open": still, "record": sealed}

    def _changed(self, gate_session: str, record: _Record) -> dict[str, Any]:
        sealed = self._seal(gate_session, record)
        return {"session": gate_session, "still": record.left_at is None, "sealed": sealed}

    def _update(self, gate_session: str, record: _Record) -> None:
        self._c.execute(_CHANGE, self._changed(gate_session, record))

    def _seal(self, gate_session: str, record: _Record) -> bytes:
        return self._sealer.seal(json.dumps(asdict(record)), "attendance.record", gate_session)

    def _open(self, gate_session: str, sealed: bytes) -> _Record:
        return _Record(**json.loads(self._sealer.open(sealed, "attendance.record", gate_session)))
