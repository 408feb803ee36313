"""Writing the audit log, from every verb. Reading it is in audit_log.py."""

from contextvars import ContextVar
from datetime import datetime

from sluss.domain.audit import NOBODY, SYSTEM, Action, Entry, Outcome
from sluss.store.database import Transaction

REQUEST_ID: ContextVar[str] = ContextVar("request_id", default="")
"""Set by whoever takes a request: the id that its page and log lines carry."""
OPERATOR: ContextVar[str] = ContextVar("operator", default="")
"""Set by the admin's commands, which act on behalf of others."""

UNKNOWN_A_MINUTE = 300
"""So many entries a minute may come from who has proved nothing: more are counted, for they could fill the disk."""


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
        tx: Transaction,
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
