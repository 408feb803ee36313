"""Putting a person out of a room, for whatever reason, and noting whether Prosody confirmed it."""

from sluss.domain.audit import SYSTEM, Action, Outcome
from sluss.domain.errors import GateUnavailable
from sluss.domain.gate import Door
from sluss.services import audit
from sluss.services.common import Ground


async def expel(ground: Ground, door: Door, who: tuple[str, str], text: str, *, actor: str, invitation_id: str) -> None:
    """Put every connection of `who` (room and user name) out. Raises `GateUnavailable`."""
    subject = audit.invitation(invitation_id) if invitation_id else f"username:{who[1]}"

    async def record(outcome: Outcome, connections: int = 0) -> None:
        now = ground.clock()
        await ground.store.run(
            lambda tx: ground.audit.record(
                tx, now, Action.EXPELLED, outcome, actor=actor, subject=subject, connections=str(connections)
            )
        )

    try:
        count = await door.expel(*who, text)
    except GateUnavailable:
        if actor != SYSTEM:  # which tries again until it is confirmed
            await record(Outcome.UNCONFIRMED)
        raise
    if count:
        await record(Outcome.DONE, count)
