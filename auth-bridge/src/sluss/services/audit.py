"""Writing the audit log, from every verb, and reading it: show, export, verify."""

from collections import deque
from collections.abc import AsyncIterator, Iterable
from contextvars import ContextVar
from datetime import datetime
from typing import TYPE_CHECKING

from sluss.domain.audit import (
    GENESIS,
    NOBODY,
    SYSTEM,
    Action,
    Damage,
    Entry,
    Fault,
    Head,
    Line,
    Outcome,
    Verification,
    parse,
)

if TYPE_CHECKING:
    from sluss.services.common import Ground
    from sluss.store.database import Transaction

REQUEST_ID: ContextVar[str] = ContextVar("request_id", default="")
"""Set by whoever takes a request: the id that its page and log lines carry."""
OPERATOR: ContextVar[str] = ContextVar("operator", default="")
"""Set by the admin's commands, which act on behalf of others."""

UNKNOWN_A_MINUTE = 300
"""So many entries a minute may come from who has proved nothing: more are counted, for they could fill the disk."""
_PAGE = 1000


def organiser(organiser_id: str | None) -> str:
    """An organiser as actor or subject; nothing if there is none."""
    return f"organiser:{organiser_id}" if organiser_id else ""


def invitation(invitation_id: str | None) -> str:
    """An invited person as actor or subject; nothing if there is none."""
    return f"invitation:{invitation_id}" if invitation_id else ""


def meeting(meeting_id: str) -> str:
    """A meeting as subject."""
    return f"meeting:{meeting_id}"


class Recorder:
    """The one way into the log."""

    def __init__(self) -> None:
        self._minute = 0
        self._unknown = 0
        self._unrecorded = 0

    def record(
        self,
        tx: "Transaction",
        at: datetime,
        action: Action,
        outcome: Outcome = Outcome.DONE,
        *,
        actor: str = NOBODY,
        subject: str = "",
        assurance: str = "",
        **details: str,
    ) -> None:
        """Append an entry to the transaction of what it records. `details` are ids and words of ours, never theirs."""
        when = int(at.timestamp())
        if actor == NOBODY and not self._may_record(when // 60):
            return
        if self._unrecorded:
            details["unrecorded"] = str(self._unrecorded)
            self._unrecorded = 0
        behalf = ""
        if (operator := OPERATOR.get()) and actor != operator:
            actor, behalf = operator, "" if actor in (NOBODY, SYSTEM) else actor
        given = {name: value for name, value in details.items() if value}
        tx.audit.append(Entry(when, action, outcome, actor, behalf, subject, assurance, REQUEST_ID.get(), given))

    def _may_record(self, minute: int) -> bool:
        if minute != self._minute:
            self._minute, self._unknown = minute, 0
        self._unknown += 1
        if self._unknown > UNKNOWN_A_MINUTE:
            self._unrecorded += 1
            return False
        return True


class AuditLog:
    """The verbs of whoever reads the log."""

    def __init__(self, ground: "Ground") -> None:
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
