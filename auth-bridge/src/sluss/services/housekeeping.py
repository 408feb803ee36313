"""What has to happen without anybody asking: rooms whose time is over, rows nobody needs any more."""

import asyncio
import contextlib
from datetime import datetime, timedelta

import structlog

from sluss.delivery.worker import NOTHING
from sluss.domain.errors import GateUnavailable
from sluss.factors.sms import LIFETIME
from sluss.services.admission import Admission
from sluss.services.audit import AuditLog
from sluss.services.common import Ground
from sluss.services.organisers import ABSOLUTE
from sluss.services.purge import purge
from sluss.store.database import Transaction

_EVERY_SECONDS = 10.0
_HOURLY = timedelta(hours=1)
_KEEP_MESSAGES = timedelta(days=30)

_log = structlog.get_logger()


class Housekeeping:
    """The task that does it."""

    def __init__(self, ground: Ground, admission: Admission) -> None:
        self._g = ground
        self._admission = admission
        self._audit = AuditLog(ground)
        self._hourly_at: datetime | None = None
        self._task: asyncio.Task[None] | None = None

    def start(self) -> None:
        """Begin, in the running loop."""
        self._task = asyncio.create_task(self._run(), name="housekeeping")

    async def stop(self) -> None:
        """End, and note where the audit log ends."""
        if self._task:
            self._task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._task
        await self.note_head()

    async def tick(self) -> None:
        """Once."""
        now = self._g.clock()
        if self._hourly_at is None or now - self._hourly_at >= _HOURLY:
            self._hourly_at = now
            await self.note_head()
            await purge(self._g, now)

        def forget(tx: Transaction) -> None:
            tx.challenges.purge(now - LIFETIME)
            tx.sessions.remove_unseen_since(now - ABSOLUTE)
            tx.limits.purge(now)
            tx.outbox.purge(now - LIFETIME, NOTHING)
            tx.outbox.purge(now - _KEEP_MESSAGES)

        await self._g.store.run(forget)
        with contextlib.suppress(GateUnavailable):  # tried again at the next tick
            await self._admission.close_overdue()

    async def note_head(self) -> None:
        """Write the audit log's newest hash to the journal: what is cut off after this shows there."""
        head = await self._audit.head()
        _log.info("audit_head", head=str(head or "0"))

    async def _run(self) -> None:
        while True:
            try:
                await self.tick()
            except Exception:
                _log.exception("housekeeping_failed")
            await asyncio.sleep(_EVERY_SECONDS)
