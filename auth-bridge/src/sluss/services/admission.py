"""The gate's rules: who is this, may they enter, who is inside. Every answer that is not a clear yes is a no."""

from collections.abc import Callable, Sequence
from dataclasses import replace
from datetime import datetime
from typing import Any

import structlog

from sluss.domain.assurance import Method, worth
from sluss.domain.attendance import COMING, coarse_origin
from sluss.domain.audit import NOBODY, SYSTEM, Action, Outcome
from sluss.domain.errors import GateUnavailable, NotVerified, SlussError, Waiting
from sluss.domain.gate import Change, Door, Entry, GateEvent, Occupant, OccupantKind, Refusal, Verdict
from sluss.domain.meetings import InvitationState, PersonHere
from sluss.domain.policy import SensitivityClass
from sluss.keyring.tickets import BadTicketError, TicketExpiredError, TicketKeys
from sluss.services import audit
from sluss.services.common import Ground
from sluss.services.expel import expel
from sluss.services.participation import Participation
from sluss.services.tickets import AUDIENCE
from sluss.store.database import Transaction
from sluss.store.door import TicketRecord

_log = structlog.get_logger()


class Admission:
    """What the gate asks and tells."""

    def __init__(
        self, ground: Ground, keys: TicketKeys, participation: Participation, door: Callable[[], Door]
    ) -> None:
        self._g = ground
        self._keys = keys
        self._participation = participation
        self._door = door

    async def authenticate(self, *, token: str, room: str, session: str, transport: str, address: str) -> Verdict:
        """Use a ticket up for one XMPP session. Yes names the person, and admits them if they enter at once."""
        now, origin = self._g.clock(), self._g.origin(address)
        claims, refusal = self._claims(token, room, session, now)

        def use(tx: Transaction, ticket: TicketRecord | None) -> Verdict | Refusal:
            if refusal is not None:
                return refusal
            if ticket is None:
                return Refusal.BAD_TICKET
            rules = self._g.policy.of(ticket.sensitivity)
            if no := _against(ticket, room, now):
                return no
            if too_many_devices(tx, ticket, rules, now):
                return Refusal.DEVICES
            network = coarse_origin(address) if rules.keeps_origin else ""
            if not tx.tickets.use(ticket.jti, session, now, network):
                return Refusal.USED
            allowed = claims["context"]["features"]
            features = tuple(name for name in allowed if allowed[name])
            return replace(_yes(tx, session, ticket), features=features, enter=True)

        def work(tx: Transaction) -> Verdict | Refusal:
            ticket = tx.tickets.get(claims["jti"]) if claims else None
            result = use(tx, ticket)
            self._record(tx, Action.TICKET_USED, ticket, session, result, transport=transport, origin=origin)
            return result

        verdict: Verdict | Refusal = await self._g.store.run(work)
        if isinstance(verdict, Refusal):
            return self._refuse(session, verdict, transport)
        _log.info("ticket_used", ticket=claims["jti"], gate_session=session, transport=transport, origin=origin)
        return verdict

    def _claims(self, token: str, room: str, session: str, now: datetime) -> tuple[dict[str, Any], Refusal | None]:
        """What a ticket of ours says, and why it is refused, if it is: alone, or here."""
        site = self._g.site
        try:
            claims = self._keys.check(token, issuer=site.portal, audience=AUDIENCE, now=now)
        except TicketExpiredError:
            return {}, Refusal.EXPIRED
        except BadTicketError:
            return {}, Refusal.BAD_TICKET if token else Refusal.NO_TICKET
        if claims["sub"] != site.meet_host or not session:
            return claims, Refusal.BAD_TICKET
        return claims, None if claims["room"] == room else Refusal.WRONG_ROOM

    async def admit(self, entry: Entry) -> Verdict:
        """May this one, who did not do so at once, join the room, or make it and join it? A ticket admits once."""
        if entry.kind is OccupantKind.FOCUS:
            return await self._admit_focus(entry.session, entry.room)
        now = self._g.clock()

        def work(tx: Transaction) -> Verdict | Refusal:
            ticket = tx.tickets.by_session(entry.session)
            result = self._admit(tx, ticket, entry, now)
            self._record(tx, Action.ADMITTED, ticket, entry.session, result, stage=entry.stage)
            return result

        verdict: Verdict | Refusal = await self._g.store.run(work)
        if isinstance(verdict, Refusal):
            return self._refuse(entry.session, verdict, entry.stage.value)
        _log.info("admitted", gate_session=entry.session)
        return verdict

    def _admit(self, tx: Transaction, ticket: TicketRecord | None, entry: Entry, now: datetime) -> Verdict | Refusal:
        if ticket is None:
            return Refusal.NOT_KNOWN
        if no := _against(ticket, entry.room, now):
            return no
        if _username(entry.occupant) != ticket.username:
            return Refusal.NOT_KNOWN
        if too_many_devices(tx, ticket, self._g.policy.of(ticket.sensitivity), now):
            return Refusal.DEVICES
        if ticket.admitted or entry.again:
            return Refusal.USED
        tx.tickets.admit(ticket.jti, now)
        return _yes(tx, entry.session, ticket)

    async def _admit_focus(self, session: str, room: str) -> Verdict:
        """Jitsi's focus may be where a meeting is open. That it is the focus, Prosody has checked by its password."""
        now = self._g.clock()
        meeting = await self._g.store.run(lambda tx: tx.meetings.by_room(room))
        if meeting is None or not meeting.is_open(now):
            return self._refuse(session, Refusal.NOT_OPEN, OccupantKind.FOCUS.value)
        return Verdict(allow=True, session=session)

    async def entered(self, event: GateEvent) -> None:
        """Somebody is inside."""
        await self.told([(Change.ENTERED, event)])

    async def left(self, event: GateEvent) -> None:
        """Somebody is outside."""
        await self.told([(Change.LEFT, event)])

    async def told(self, events: Sequence[tuple[Change, GateEvent]]) -> None:
        """Some are inside, some outside, in one start of Prosody. Who was put out, or is not known, is put out."""
        if not events:
            return

        now = self._g.clock()

        def work(tx: Transaction) -> list[GateEvent]:
            epoch, unwelcome = events[0][1].epoch, []
            new = tx.attendance.unheard(epoch, events)
            holders = tx.tickets.by_sessions({event.session for _, event in new})
            tx.attendance.note(epoch, new, holders)
            for change, event in new:
                ticket = holders.get(event.session)
                if change is Change.LEFT:
                    self._record(tx, Action.LEFT, ticket, event.session, reason=event.reason or "")
                elif ticket is not None:
                    self._record(tx, Action.ENTERED, ticket, event.session)
                if change is Change.ENTERED and not _welcome(ticket, now):
                    unwelcome.append(event)
            return unwelcome

        for event in await self._g.store.run(work):
            await self._expel(event.room, _username(event.occupant))

    async def roll_called(self, epoch: str, seq: int, present: Sequence[Occupant]) -> None:
        """Who is inside, by Prosody's own count: what was missed is repaired, and marked as not exact.

        Called when the link comes up, and every minute, so that there is a proof of presence to end an interval at.
        """
        now = self._g.clock()

        def work(tx: Transaction) -> list[tuple[str, str]]:
            sessions, known = {occupant.session for occupant in present}, tx.attendance.open_sessions()
            self._note_untold(tx, epoch, sessions, now)
            heard = tx.attendance.called(epoch, now)
            for session in known.keys() - sessions:
                # Who entered after the roll was called is in a later event, and that one may have overtaken it.
                if known[session] != epoch or heard <= seq:
                    tx.attendance.lose(session, now)
                    self._record(tx, Action.LEFT, tx.tickets.by_session(session), session, reason="roll-call")
            unwelcome = tx.attendance.closed_but_inside()
            for occupant in present:
                if known.get(occupant.session) == epoch:
                    continue  # heard of, and looked at, before
                ticket = tx.tickets.by_session(occupant.session)
                if ticket is not None:
                    tx.attendance.found_inside(occupant, ticket, epoch)
                if not _welcome(ticket, now):
                    unwelcome.append((occupant.room, _username(occupant.occupant)))
            return unwelcome

        for room, username in dict.fromkeys(await self._g.store.run(work)):
            await self._expel(room, username)
        _log.info("roll_called", epoch=epoch, seq=seq, present=len(present))

    def _note_untold(self, tx: Transaction, epoch: str, present: set[str], now: datetime) -> None:
        """Whoever was let in just before Prosody stopped was probably inside: it could not tell any more."""
        for session, let_in_at in tx.attendance.untold(epoch):
            ticket = tx.tickets.by_session(session)
            if ticket is not None and session not in present:
                tx.attendance.enter(session, ticket, epoch="", occupant="", at=let_in_at)
                tx.attendance.lose(session, now)
                self._record(tx, Action.ENTERED, ticket, session, reason="roll-call")

    async def here_for_participant(self, link: str, session: str) -> tuple[str, list[PersonHere]]:
        """Who is inside, for somebody who is inside too or could be now, and their own invitation's id.

        Raises `NotVerified`, `Waiting`.
        """
        now = self._g.clock()

        def work(tx: Transaction) -> tuple[str, list[PersonHere]] | SlussError:
            view = self._participation.look_in(tx, link, session, now)
            if view is None or not view.may_enter:
                return NotVerified("not verified to join")
            if view.waiting:
                return Waiting("the organiser is not inside")
            return view.invitation.id, tx.attendance.here(view.meeting.id)

        return await self._g.store.run(work)

    async def close_overdue(self) -> None:
        """End the rooms of meetings whose time is over, and put out again whoever is still inside uninvited."""
        now = self._g.clock()

        def work(tx: Transaction) -> tuple[list[str], list[tuple[str, str]]]:
            rooms = tx.attendance.rooms_with_people()
            over = [m.room for room in rooms if (m := tx.meetings.by_room(room)) and m.is_over(now)]
            return over, tx.attendance.closed_but_inside()

        over, closed = await self._g.store.run(work)
        for room in over:
            await self._door().end(room, "The meeting's time is over.")
            await self._g.store.run(lambda tx, room=room: self._note_end(tx, room, now))  # type: ignore[misc]
        for room, username in closed:
            await self._expel(room, username)

    def _note_end(self, tx: Transaction, room: str, now: datetime) -> None:
        if meeting := tx.meetings.by_room(room):
            subject = audit.meeting(meeting.id)
            self._g.audit.record(tx, now, Action.MEETING_ENDED, actor=SYSTEM, subject=subject, reason="time")

    def _record(
        self,
        tx: Transaction,
        action: Action,
        ticket: TicketRecord | None,
        session: str,
        result: Verdict | Refusal | None = None,
        **details: str,
    ) -> None:
        refused = result if isinstance(result, Refusal) else None
        yes = result if isinstance(result, Verdict) else None
        self._g.audit.record(
            tx,
            self._g.clock(),
            action,
            Outcome.REFUSED if refused else Outcome.DONE,
            actor=audit.invitation(ticket.invitation_id) if ticket else NOBODY,
            subject=f"ticket:{ticket.jti}" if ticket else "",
            assurance=worth(Method(yes.method), yes.role).acr if yes and yes.method and yes.role else "",
            session=session,
            method=(yes and yes.method) or "",
            **{"reason": refused} if refused else {},
            **details,
        )

    async def _expel(self, room: str, username: str) -> None:
        text = "You are no longer invited to this meeting."
        try:
            await expel(self._g, self._door(), (room, username), text, actor=SYSTEM, invitation_id="")
        except GateUnavailable:
            _log.warning("expel_not_confirmed", username=username)  # the roll call and housekeeping try again

    def _refuse(self, session: str, reason: Refusal, where: str) -> Verdict:
        _log.info("refused", reason=reason.value, where=where, gate_session=session)
        return Verdict.no(session, reason)


def too_many_devices(tx: Transaction, ticket: TicketRecord, rules: SensitivityClass, now: datetime) -> bool:
    """Whether its bearer is on as many other devices as the class allows. A device is a browser: whoever comes back
    in one, because the connection dropped and nobody has noticed yet, is not one more.
    """
    return tx.tickets.other_browsers(ticket, now - COMING) >= rules.devices


def _against(ticket: TicketRecord, room: str, now: datetime) -> Refusal | None:
    """What must hold of a ticket at every step, and does not: this room, a live invitation, an open meeting."""
    if ticket.room != room:
        return Refusal.WRONG_ROOM
    if ticket.dead or ticket.state is not InvitationState.LIVE:
        return Refusal.WITHDRAWN
    return None if ticket.hours.is_open(now) else Refusal.NOT_OPEN


def _welcome(ticket: TicketRecord | None, now: datetime) -> bool:
    """Whether its bearer may be inside the room that it was made for."""
    return ticket is not None and _against(ticket, ticket.room, now) is None


def _yes(tx: Transaction, session: str, ticket: TicketRecord) -> Verdict:
    """Let them in, as who they are."""
    return Verdict(
        allow=True,
        session=session,
        username=ticket.username,
        name=tx.tickets.shown_name(ticket),
        role=ticket.role,
        method=ticket.method.value,
    )


def _username(occupant: str) -> str:
    return occupant.partition("@")[0]
