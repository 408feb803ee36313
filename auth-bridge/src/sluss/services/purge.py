"""Forgetting: what a meeting's class lets us keep for a time is gone after it. The audit log stays: it has only ids."""

from datetime import datetime

import structlog

from sluss.domain.audit import SYSTEM, Action
from sluss.domain.meetings import CLOSES_AFTER
from sluss.services import audit
from sluss.services.common import Ground
from sluss.store.database import Transaction

_log = structlog.get_logger()


async def purge(ground: Ground, now: datetime) -> None:
    """Purge every meeting whose time has come, each in a transaction of its own."""
    for sensitivity in await ground.store.run(lambda tx: tx.purge.classes()):
        ended = now - ground.policy.of(sensitivity).retention
        for meeting_id in await ground.store.run(lambda tx, s=sensitivity, e=ended: _due(tx, s, e)):  # type: ignore[misc]
            await ground.store.run(lambda tx, which=meeting_id: _forget(ground, tx, which, now))  # type: ignore[misc]
            _log.info("meeting_purged", meeting=meeting_id)


def _due(tx: Transaction, sensitivity: str, ended: datetime) -> list[str]:
    return tx.purge.due(sensitivity, ended, CLOSES_AFTER)


def _forget(ground: Ground, tx: Transaction, meeting_id: str, now: datetime) -> None:
    tx.purge.meeting(meeting_id, now)
    ground.audit.record(tx, now, Action.PURGED, actor=SYSTEM, subject=audit.meeting(meeting_id))
