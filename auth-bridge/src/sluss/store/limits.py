"""What has been used of each limit. A row whose time has come says nothing any more."""

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta

from sqlalchemy import Connection, bindparam, delete, select, tuple_
from sqlalchemy.dialects.sqlite import insert as upsert

from sluss.store.schema import limits

_OF_USES = select(limits.c.what, limits.c.key, limits.c.free_at).where(
    tuple_(limits.c.what, limits.c.key).in_(bindparam("uses", expanding=True))
)
_FIRST = upsert(limits)
_PUT = _FIRST.on_conflict_do_update(
    index_elements=list(limits.primary_key.columns),
    set_={"free_at": _FIRST.excluded.free_at, "owner": _FIRST.excluded.owner},
)
_EPOCH = datetime.fromtimestamp(0, UTC)
_MILLISECOND = timedelta(milliseconds=1)


class LimitRepository:
    """Rows of `limits`."""

    def __init__(self, connection: Connection) -> None:
        self._c = connection

    def free_at(self, uses: Sequence[tuple[str, str]]) -> dict[tuple[str, str], datetime]:
        """When each (what, key) is wholly free again; those that are not here are."""
        found = self._c.execute(_OF_USES, {"uses": list(uses)})
        return {(row.what, row.key): _instant(row.free_at) for row in found}

    def put(self, rows: Sequence[tuple[str, str, str, datetime]]) -> None:
        """Note (what, key, owner, when it is wholly free again)."""
        self._c.execute(
            _PUT,
            [{"what": w, "key": k, "owner": o, "free_at": (at - _EPOCH) // _MILLISECOND} for w, k, o, at in rows],
        )

    def of(self, owners: Sequence[str]) -> list[tuple[str, str, datetime]]:
        """(what, owner, when it is wholly free again) of these owners."""
        query = select(limits.c.what, limits.c.owner, limits.c.free_at).where(limits.c.owner.in_(owners))
        return [(row.what, row.owner, _instant(row.free_at)) for row in self._c.execute(query)]

    def clear(self, owners: Sequence[str]) -> None:
        """Forget what they used."""
        self._c.execute(delete(limits).where(limits.c.owner.in_(owners)))

    def purge(self, now: datetime) -> None:
        """Forget what is wholly free again: nothing is lost."""
        self._c.execute(delete(limits).where(limits.c.free_at <= (now - _EPOCH) // _MILLISECOND))


def _instant(milliseconds: int) -> datetime:
    return _EPOCH + milliseconds * _MILLISECOND
