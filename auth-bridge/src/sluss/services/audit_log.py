"""Reading the audit log: show, export, verify."""

from collections import deque
from collections.abc import AsyncIterator, Iterable

from sluss.domain.accounts import AccountRole
from sluss.domain.audit import GENESIS, Action, Damage, Entry, Fault, Head, Line, Verification, parse
from sluss.domain.errors import NotFound, SlussError
from sluss.services import audit
from sluss.services.common import Ground
from sluss.services.sessions import Sessions
from sluss.store.database import Transaction

_PAGE = 1000


class AuditLog:
    """The verbs of whoever reads the log."""

    def __init__(self, ground: Ground, sessions: Sessions | None = None) -> None:
        """`sessions`: for who reads it on a page."""
        self._g = ground
        self._sessions = sessions or Sessions(ground)

    async def shown(self, session: str, meeting_id: str, limit: int) -> list[Entry]:
        """The newest entries, about one meeting if it is named, for the auditor signed in; that is recorded.

        Raises `SignInRequired`, `NotFound` for who is no auditor.
        """
        now = self._g.clock()

        def work(tx: Transaction) -> SlussError | None:
            record = self._sessions.signed_in(tx, session, now)
            if isinstance(record, SlussError):
                return record
            if record.organiser.role is not AccountRole.AUDITOR:
                return NotFound("not an auditor")
            subject = audit.meeting(meeting_id) if meeting_id and tx.meetings.get(meeting_id) else ""
            actor = audit.organiser(record.organiser.id)
            self._g.audit.record(tx, now, Action.AUDIT_READ, actor=actor, subject=subject)
            return None

        await self._g.store.run(work)
        found = await (self.about(meeting_id, limit) if meeting_id else self.newest(limit))
        return found[::-1]

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
