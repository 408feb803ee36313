"""The audit log's table. Entries are appended in the transaction of what they record, and never touched again.

The head is kept with a MAC, so that cutting the end off or making the chain anew shows; and a running bridge remembers
the last head it wrote, so that an older one put back shows as well.
"""

import hmac
from collections.abc import Sequence
from dataclasses import replace

from sqlalchemy import Connection, insert, select
from sqlalchemy.dialects.sqlite import insert as upsert

from sluss.domain.audit import GENESIS, Entry, Head, Line, chain
from sluss.store.schema import audit, audit_head

_ONLY = 1  # the one row of `audit_head`

# Built once: every entry into a meeting runs these.
_READ_HEAD = select(audit_head.c.seq, audit_head.c.hash, audit_head.c.mac).where(audit_head.c.id == _ONLY)
_ADD_LINE = insert(audit)
_FIRST_HEAD = upsert(audit_head)
_WRITE_HEAD = _FIRST_HEAD.on_conflict_do_update(
    index_elements=[audit_head.c.id], set_={name: _FIRST_HEAD.excluded[name] for name in ("seq", "hash", "mac")}
)


class AuditBrokenError(Exception):
    """The head is not one that this installation wrote last. Nothing more is recorded, and so nothing more is done."""


class AuditRepository:
    """Rows of `audit` and `audit_head`."""

    def __init__(self, connection: Connection, key: bytes, remembered: Head | None = None) -> None:
        """`remembered`: the head that this process saw committed last."""
        self._c = connection
        self._key = key
        self._remembered = remembered
        self._waiting: list[Entry] = []

    def append(self, entry: Entry) -> None:
        """Add an entry; it is written when the transaction's work is done."""
        self._waiting.append(entry)

    def mark(self) -> int:
        """Where `forget_since` goes back to."""
        return len(self._waiting)

    def forget_since(self, mark: int) -> None:
        """Drop what was appended since: it did not happen."""
        del self._waiting[mark:]

    def flush(self) -> Head | None:
        """Write what was appended. Returns the new head, None if nothing was. Raises `AuditBrokenError`."""
        if not self._waiting:
            return None
        head = self._trusted_head()
        rows = []
        for entry in self._waiting:
            text = replace(entry, seq=head.seq + 1).canonical()
            head = Head(head.seq + 1, chain(head.hash, text))
            rows.append({"seq": head.seq, "entry": text, "hash": head.hash})
        self._c.execute(_ADD_LINE, rows)
        self._c.execute(_WRITE_HEAD, {"id": _ONLY, "seq": head.seq, "hash": head.hash, "mac": self._mac(head)})
        self._waiting.clear()
        return head

    def head(self) -> tuple[Head | None, bool]:
        """The head as it stands, and whether its MAC is right. None: nothing was ever recorded."""
        row = self._c.execute(_READ_HEAD).one_or_none()
        if row is None:
            return None, True
        head = Head(row.seq, row.hash)
        return head, hmac.compare_digest(row.mac, self._mac(head))

    def after(self, seq: int, limit: int) -> Sequence[Line]:
        """Up to `limit` lines after `seq`, in their order."""
        query = select(audit).where(audit.c.seq > seq).order_by(audit.c.seq).limit(limit)
        return [Line(row.seq, row.entry, row.hash) for row in self._c.execute(query)]

    def newest(self, limit: int) -> Sequence[Line]:
        """The last `limit` lines, in their order."""
        rows = self._c.execute(select(audit).order_by(audit.c.seq.desc()).limit(limit)).all()
        return [Line(row.seq, row.entry, row.hash) for row in reversed(rows)]

    def _trusted_head(self) -> Head:
        head, genuine = self.head()
        if head is not None and head == self._remembered:
            return head
        if head is None:
            if self._remembered is not None or self.after(0, 1):
                raise AuditBrokenError("audit: the head is gone: run sluss audit verify")
            return Head(0, GENESIS)
        if not genuine:
            raise AuditBrokenError("audit: the head is not ours: run sluss audit verify")
        if self._remembered is not None and head.seq <= self._remembered.seq:
            raise AuditBrokenError(f"audit: the head was set back from {self._remembered.seq}: run sluss audit verify")
        return head

    def _mac(self, head: Head) -> str:
        return hmac.digest(self._key, str(head).encode(), "sha256").hex()
