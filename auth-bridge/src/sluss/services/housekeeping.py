"""What has to happen without anybody asking: rooms whose time is over, rows nobody needs any more."""

import asyncio
import contextlib
from collections.abc import Callable
from datetime import datetime, timedelta

import structlog

from sluss.delivery.worker import NOTHING
from sluss.domain.accounts import LONGEST
from sluss.domain.errors import GateUnavailable
from sluss.factors import sign_in
from sluss.factors.sms import LIFETIME
from sluss.services.admission import Admission
from sluss.services.audit_log import AuditLog
from sluss.services.common import Ground
from sluss.services.directory import EVERY, Directory
from sluss.services.passkeys import UNUSED
from sluss.services.purge import purge
from sluss.store.database import Transaction

_EVERY_SECONDS = 10.0
_HOURLY = timedelta(hours=1)
_STEADY = timedelta(minutes=1)
"""A clock that went otherwise than the machine's own count of seconds, by more than this within an hour, was set."""
_KEEP_MESSAGES = timedelta(days=30)

_log = structlog.get_logger()


class Housekeeping:
    """The task that does it."""

    def __init__(
        self, ground: Ground, admission: Admission, directory: Directory, seconds: Callable[[], float]
    ) -> None:
        """`seconds` counts on and is never set, such as `time.monotonic`."""
        self._g = ground
        self._seconds = seconds
        self._admission = admission
        self._directory = directory
        self._asked_at = timedelta(seconds=seconds())
        self._audit = AuditLog(ground)
        self._hourly_at: tuple[datetime, timedelta] | None = None  # by the clock, and counted
        self._noted = False
        self._task: asyncio.Task[None] | None = None
        self._asking: asyncio.Task[None] | None = None

    def start(self) -> None:
        """Begin, in the running loop."""
        self._task = asyncio.create_task(self._run(), name="housekeeping")

    async def stop(self) -> None:
        """End, and note where the audit log ends."""
        for task in (self._task, self._asking):
            if task:
                task.cancel()
                with contextlib.suppress(asyncio.CancelledError):
                    await task
        await self.note_head()

    async def tick(self) -> None:
        """Once."""
        now, counted = self._g.clock(), timedelta(seconds=self._seconds())
        last = self._hourly_at
        if last is None or counted - last[1] >= _HOURLY:
            await self.note_head()
            self._hourly_at = now, counted
            # What is forgotten too early is gone for good, and a clock that is wrong is soon set: forget only after a
            # whole hour in which it was not.
            if last is not None and abs((now - last[0]) - (counted - last[1])) < _STEADY:
                await self._forget_kept(now)
        elif not self._noted:
            await self.note_head()

        def forget(tx: Transaction) -> None:
            tx.challenges.purge(now - LIFETIME)
            tx.sessions.remove_unseen_since(now - LONGEST)
            tx.outbox.purge(now - LIFETIME, NOTHING)
            tx.sign_ins.purge(now - 2 * sign_in.LIFETIME)

        await self._g.store.run(forget)
        with contextlib.suppress(GateUnavailable):  # tried again at the next tick
            await self._admission.close_overdue()
        if counted - self._asked_at >= EVERY and (self._asking is None or self._asking.done()):
            self._asked_at = counted
            # Beside everything else: it may take long, and meetings have to end meanwhile.
            self._asking = asyncio.create_task(self._ask(), name="directory")

    async def note_head(self) -> None:
        """Write the audit log's newest hash, if any, to the journal: what is cut off after this shows there."""
        if head := await self._audit.head():
            _log.info("audit_head", head=str(head))
            self._noted = True

    async def _forget_kept(self, now: datetime) -> None:
        def forget(tx: Transaction) -> None:
            tx.limits.purge(now)
            tx.passkeys.purge(now - UNUSED)
            tx.authenticators.purge(now - UNUSED)
            tx.outbox.purge(now - _KEEP_MESSAGES)

        await self._g.store.run(forget)
        await purge(self._g, now)

    async def _ask(self) -> None:
        try:
            await self._directory.recheck()
        except Exception:
            _log.exception("recheck_failed")

    async def _run(self) -> None:
        while True:
            try:
                await self.tick()
            except Exception:
                _log.exception("housekeeping_failed")
            await asyncio.sleep(_EVERY_SECONDS)
