"""Guessing does not pay: failures are counted, and after some a lock holds for a while, then opens by itself."""

from datetime import datetime, timedelta

from sluss.domain.errors import TooManyTries
from sluss.store.database import Transaction

FREE_FAILURES = 5
_FIRST = timedelta(seconds=30)
_LONGEST = timedelta(minutes=15)
_FORGET = timedelta(hours=24)


def locked(tx: Transaction, subject: str, now: datetime) -> TooManyTries | None:
    """The refusal if `subject` is locked now. The lock doubles from 30 s to a quarter of an hour."""
    if (known := tx.attempts.failures(subject)) is None:
        return None
    count, last = known
    if count < FREE_FAILURES:
        return None
    opens = last + min(_FIRST * 2 ** min(count - FREE_FAILURES, 16), _LONGEST)
    return TooManyTries(int((opens - now).total_seconds()) + 1, "locked after failures") if now < opens else None


def failed(tx: Transaction, subject: str, now: datetime) -> None:
    """Count one failure; old ones no longer weigh."""
    known = tx.attempts.failures(subject)
    tx.attempts.fail(subject, now, start=known is None or now - known[1] > _FORGET)


def succeeded(tx: Transaction, subject: str) -> None:
    """Forget the failures of `subject`."""
    tx.attempts.clear(subject)
