"""Why somebody is not inside: Jitsi's page only says that they are not, and the person is to know."""

from collections.abc import Callable
from datetime import datetime

from sluss.domain.errors import NotVerified, SlussError
from sluss.domain.gate import Door, Refusal
from sluss.domain.meetings import Invitation
from sluss.services.admission import too_many_devices
from sluss.services.common import Ground
from sluss.services.tickets import TICKET_LIFETIME, Tickets
from sluss.store.database import Transaction


class Outside:
    """What the room page asks when it is over. Whoever was put out is no longer known, and is told `NotVerified`."""

    def __init__(self, ground: Ground, tickets: Tickets, door: Callable[[], Door]) -> None:
        self._g = ground
        self._tickets = tickets
        self._door = door

    async def participant(self, link: str, session: str) -> Refusal:
        """What speaks against the ticket that this browser had last. Raises `NotVerified`, to a link alone as well."""
        now = self._g.clock()

        def work(tx: Transaction) -> Refusal | SlussError:
            link_hash = self._g.link_hash(link)
            if not tx.verifications.any_of(link_hash, self._g.session_hash(session)):
                return NotVerified("nobody verified with this link in this browser")
            invitation = tx.invitations.by_link(link_hash)
            return self._why(tx, invitation, session, now) if invitation else NotVerified("no such link")

        return await self._g.store.run(work)

    async def organiser(self, session: str, meeting_id: str) -> Refusal:
        """The same for the meeting's own organiser. Raises `SignInRequired`, `NotFound`, `NotVerified`."""
        now = self._g.clock()

        def work(tx: Transaction) -> Refusal | SlussError:
            own = self._tickets.own(tx, session, meeting_id, now)
            return own if isinstance(own, SlussError) else self._why(tx, own[1], session, now)

        return await self._g.store.run(work)

    def _why(self, tx: Transaction, invitation: Invitation, session: str, now: datetime) -> Refusal | SlussError:
        """In the gate's own order. What nothing speaks against has not been asked about: the door did not answer."""
        newest = tx.tickets.newest(invitation.id, self._g.session_hash(session))
        if newest is None:
            return NotVerified("this browser never had a ticket")
        ticket, issued_at = newest
        if not ticket.hours.is_open(now):
            return Refusal.NOT_OPEN
        if not self._door().connected:
            return Refusal.UNAVAILABLE
        if not ticket.admitted and too_many_devices(tx, ticket, self._g.policy.of(ticket.sensitivity), now):
            return Refusal.DEVICES
        if ticket.used:
            return Refusal.USED
        return Refusal.EXPIRED if now >= issued_at + TICKET_LIFETIME else Refusal.UNAVAILABLE
