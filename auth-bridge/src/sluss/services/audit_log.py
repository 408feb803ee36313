"""Reading the audit log: show, export, verify."""

from collections import deque
from collections.abc import AsyncIterator, Iterable

from sluss.domain.audit import GENESIS, Damage, Entry, Fault, Head, Line, Verification, parse
from sluss.services.common import Ground

_PAGE = 1000


class AuditLog:
    """The verbs of whoever reads the log."""

    def __init__(self, ground: Ground) -> None:
        self._g = ground

    async def head(self) -> Head | None:
        """The newest entry's number and hash, to be noted elsewhere. None before the first."""
        head, _ = await self._g.store.run(lambda tx: tx.audit.head())
        return head

    async def newest(self, limit: int) -> list[Entry]:
        """The last entries, oldest first."""
        return [parse(line.entry) for line in await self._g.store.run(lambda tx: tx.audit.newest(limit))]

    async def about(self, meeting_id: str, limit: int) -> list[Entry]:
        """The last entries about a meeting and the people invited to it, oldest first."""
        found: deque[Entry] = deque(maxlen=limit)
        people: set[str] = set()
        async for line in self.lines():
            entry = parse(line.entry)
            if meeting_id in (entry.details.get("meeting"), entry.subject.partition(":")[2]):
                people |= {who for who in (entry.actor, entry.subject) if who.startswith("invitation:")}
                found.append(entry)
            elif people & {entry.actor, entry.on_behalf, entry.subject}:
                found.append(entry)
        return list(found)

    async def lines(self, after: int = 0) -> AsyncIterator[Line]:
        """All lines after a number. In pages: people go on entering meanwhile."""
        while page := await self._g.store.run(lambda tx, seq=after: tx.audit.after(seq, _PAGE)):  # type: ignore[misc]
            for line in page:
                yield line
            after = page[-1].seq

    async def verify(self, noted: Iterable[Head] = ()) -> tuple[Head, list[Fault]]:
        """Check the whole log against its head and heads noted elsewhere. Returns its end and what is wrong."""
        check = Verification(noted)
        while True:
            # The head is read with the last page: nothing can be added between the two.
            page, (head, genuine) = await self._g.store.run(
                lambda tx: (tx.audit.after(check.last.seq, _PAGE), tx.audit.head())
            )
            for line in page:
                check.add(line)
            if len(page) < _PAGE:
                break
        check.close(head or Head(0, GENESIS))
        if not genuine and head is not None:
            text = "its MAC is not of this installation's key"
            check.faults.append(Fault(head.seq, Damage.HEAD_FORGED, text))
        return check.last, check.faults
