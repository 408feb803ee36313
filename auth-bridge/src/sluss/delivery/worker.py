"""Hands over what waits in the outbox: soon, in order, again if it failed, never after it has expired.

A message can arrive twice if the machine stops between handing over and noting it; it is never lost.
"""

import asyncio
import contextlib
from collections.abc import Callable
from datetime import datetime, timedelta

import structlog

from sluss.delivery.mail import MailSender, RefusedForGood
from sluss.delivery.sms import SmsSender
from sluss.domain.errors import DeliveryFailed
from sluss.store.database import Store
from sluss.store.outbox import Waiting

_log = structlog.get_logger()

MAIL, SMS, NOTHING = "mail", "sms", "nothing"
"""`NOTHING` is queued for a link that is not ours, so that it takes the same time as one that is."""
_AT_ONCE = 8
_LOOK_SECONDS = 15.0
_FIRST_RETRY = timedelta(seconds=5)
_LONGEST_RETRY = timedelta(minutes=2)
"""So long after the other side is back a message still waits, at most: nobody has to press anything."""


class OutboxWorker:
    """The task that empties the outbox."""

    def __init__(self, store: Store, mail: MailSender, sms: SmsSender, clock: Callable[[], datetime]) -> None:
        self._store, self._mail, self._sms, self._clock = store, mail, sms, clock
        self._wake = asyncio.Event()
        self._task: asyncio.Task[None] | None = None

    def wake(self) -> None:
        """Something was queued."""
        self._wake.set()

    def start(self) -> None:
        """Begin, in the running loop."""
        self._task = asyncio.create_task(self._run(), name="outbox")

    async def stop(self) -> None:
        """End now. A message that was just being handed over is tried again after the next start."""
        if self._task:
            self._task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._task

    async def deliver_due(self) -> int:
        """Try everything that is due once; how many there were."""
        now = self._clock()
        waiting = await self._store.run(lambda tx: tx.outbox.due(now, _LONGEST_RETRY, _AT_ONCE))
        await asyncio.gather(*(self._deliver(message) for message in waiting))
        return len(waiting)

    async def _run(self) -> None:
        while True:
            self._wake.clear()
            try:
                if await self.deliver_due() == _AT_ONCE:
                    continue
            except Exception:
                # A full disk or a locked database ends by itself; the outbox must go on afterwards.
                _log.exception("outbox_failed")
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._wake.wait(), _LOOK_SECONDS)

    async def _deliver(self, item: Waiting) -> None:
        now = self._clock()
        if item.expires_at <= now:
            await self._store.run(lambda tx: tx.outbox.give_up(item.id, "expired"))
            _log.warning("message_expired", kind=item.kind, message=item.id)
            return
        try:
            if item.kind == MAIL:
                await self._mail.send(**item.message)
            elif item.kind == SMS:
                await self._sms.send(**item.message)
        except RefusedForGood as error:
            reason = str(error)
            await self._store.run(lambda tx: tx.outbox.give_up(item.id, reason))
            _log.warning("message_refused", kind=item.kind, message=item.id, error=reason)
        except Exception as error:
            # Whatever went wrong with this one, the others must not wait behind it. Only our own errors' texts are
            # free of links and numbers.
            reason = str(error) if isinstance(error, DeliveryFailed) else type(error).__name__
            retry = now + min(_FIRST_RETRY * 2 ** min(item.attempts, 16), _LONGEST_RETRY)  # 2**45 is past any date
            await self._store.run(lambda tx: tx.outbox.try_again(item.id, retry, reason))
            _log.warning("message_failed", kind=item.kind, message=item.id, error=reason, attempts=item.attempts + 1)
        else:
            await self._store.run(lambda tx: tx.outbox.sent(item.id, self._clock()))
            if item.kind != NOTHING:
                _log.info("message_sent", kind=item.kind, message=item.id)
