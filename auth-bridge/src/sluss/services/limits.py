"""Guessing and flooding do not pay: what is done too often has to wait, for a time that the table of limits bounds."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from sluss.domain.errors import TooManyTries
from sluss.domain.limits import LIMITS, Limit, Lock, longest
from sluss.store.database import Transaction


@dataclass(frozen=True, slots=True)
class Use:
    """One use of a limit. `key` is whose it is; `owner` is by whom it is found again to be shown and undone."""

    limit: Limit
    key: str
    owner: str = ""


def refusal(tx: Transaction, uses: Sequence[Use], now: datetime) -> TooManyTries | None:
    """The refusal if any of them is used up; its text names which. Takes nothing from the others then."""
    free_at = tx.limits.free_at([(use.limit.what, use.key) for use in uses])
    waits = {use.limit.what: use.limit.wait(free_at.get((use.limit.what, use.key), now), now) for use in uses}
    what = max(waits, key=lambda name: waits[name])
    if not waits[what]:
        return None
    return TooManyTries(-(-waits[what] // timedelta(seconds=1)), what)


def take(tx: Transaction, uses: Sequence[Use], now: datetime) -> None:
    """Use each of them once more."""
    free_at = tx.limits.free_at([(use.limit.what, use.key) for use in uses])
    tx.limits.put(
        [
            (use.limit.what, use.key, use.owner, use.limit.after(free_at.get((use.limit.what, use.key), now), now))
            for use in uses
        ]
    )


def spend(tx: Transaction, uses: Sequence[Use], now: datetime) -> TooManyTries | None:
    """Use each of them once more, or say why not."""
    if (refused := refusal(tx, uses, now)) is None:
        take(tx, uses, now)
    return refused


def locks(tx: Transaction, owners: Sequence[str], now: datetime) -> dict[str, tuple[Lock, ...]]:
    """What an organiser should know is used up, by owner."""
    found: dict[str, list[Lock]] = {}
    for what, owner, free_at in tx.limits.of(owners):
        limit = LIMITS[what]
        if limit.shown and (wait := limit.wait(free_at, now)):
            found.setdefault(owner, []).append(Lock(limit.shown, now + wait))
    return {owner: longest(waiting) for owner, waiting in found.items()}


def holds_up(tx: Transaction, owner: str, now: datetime) -> bool:
    """Whether anything of this owner's is used up."""
    return any(LIMITS[what].wait(free_at, now) for what, _, free_at in tx.limits.of([owner]))


def undo(tx: Transaction, owners: Sequence[str]) -> None:
    """Give all of it back."""
    tx.limits.clear(owners)
