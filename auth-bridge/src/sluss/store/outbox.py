"""Messages that wait to be handed over. They are written in the same transaction as what caused them."""

import json
from dataclasses import dataclass
from datetime import datetime, timedelta

from sqlalchemy import Connection, delete, insert, select, true, update

from sluss.domain.meetings import Delivery
from sluss.store.rows import instant, seconds
from sluss.store.schema import outbox
from sluss.store.sealing import Sealer

_COLUMN = "outbox.message"


@dataclass(frozen=True, slots=True)
class Waiting:
    """A message that is due. `message` is what `put` was given."""

    id: int
    kind: str
    message: dict[str, str]
    attempts: int
    expires_at: datetime


class OutboxRepository:
    """Rows of `outbox`."""

    def __init__(self, connection: Connection, sealer: Sealer) -> None:
        self._c = connection
        self._sealer = sealer

    def put(
        self,
        kind: str,
        message: dict[str, str],
        invitation_id: str | None,
        *,
        now: datetime,
        expires_at: datetime,
    ) -> None:
        """Queue a message; after `expires_at` it is not worth sending."""
        self._c.execute(
            insert(outbox).values(
                kind=kind,
                invitation_id=invitation_id,
                message=self._sealer.seal(json.dumps(message), _COLUMN),
                created_at=seconds(now),
                due_at=seconds(now),
                expires_at=seconds(expires_at),
                attempts=0,
            )
        )

    def due(self, now: datetime, longest: timedelta, limit: int) -> list[Waiting]:
        """What is to be sent now, oldest first, but behind what failed less often: a code does not wait for the relay.

        Nothing waits `longest`, so what is due later than that was queued by a clock that has been set back since.
        """
        wrong = outbox.c.due_at > seconds(now + longest)
        query = (
            select(outbox)
            .where((outbox.c.due_at <= seconds(now)) | wrong)
            .order_by(outbox.c.attempts, outbox.c.id)
            .limit(limit)
        )
        return [
            Waiting(
                row.id,
                row.kind,
                json.loads(self._sealer.open(row.message, _COLUMN)),
                row.attempts,
                instant(row.expires_at),
            )
            for row in self._c.execute(query)
        ]

    def sent(self, message_id: int, now: datetime) -> None:
        """Handed over: the text is forgotten."""
        self._finish(message_id, sent_at=seconds(now))

    def give_up(self, message_id: int, error: str) -> None:
        """Not to be tried again: the text is forgotten, the reason kept."""
        self._finish(message_id, error=error)

    def try_again(self, message_id: int, due_at: datetime, error: str) -> None:
        """It failed; try later, unless it was cancelled while it was tried."""
        self._c.execute(
            update(outbox)
            .where(outbox.c.id == message_id, outbox.c.due_at.is_not(None))
            .values(due_at=seconds(due_at), attempts=outbox.c.attempts + 1, error=error)
        )

    def cancel(self, invitation_id: str, kind: str | None = None) -> None:
        """Nothing more goes out to this invitation, or nothing of this kind that waits."""
        which = outbox.c.kind == kind if kind else true()
        self._c.execute(
            update(outbox)
            .where(outbox.c.invitation_id == invitation_id, outbox.c.due_at.is_not(None), which)
            .values(due_at=None, message=b"", error="withdrawn")
        )

    def mail_status(self, invitation_id: str) -> tuple[Delivery, str | None]:
        """What became of the latest mail to this invitation."""
        row = self._c.execute(
            select(outbox.c.sent_at, outbox.c.due_at, outbox.c.error)
            .where(outbox.c.invitation_id == invitation_id, outbox.c.kind == "mail")
            .order_by(outbox.c.id.desc())
            .limit(1)
        ).one_or_none()
        if row is None:
            return Delivery.WAITING, None
        if row.sent_at is not None:
            return Delivery.SENT, None
        return (Delivery.FAILED if row.due_at is None else Delivery.WAITING), row.error

    def nth_newest(self, kind: str, n: int) -> datetime | None:
        """When the `n`th newest message of this kind was queued; None if there are fewer."""
        query = select(outbox.c.created_at).where(outbox.c.kind == kind).order_by(outbox.c.created_at.desc())
        at = self._c.execute(query.limit(1).offset(n - 1)).scalar_one_or_none()
        return None if at is None else instant(at)

    def purge(self, before: datetime, kind: str | None = None) -> None:
        """Forget finished messages, of one kind or of all."""
        which = outbox.c.kind == kind if kind else true()
        self._c.execute(delete(outbox).where(which, outbox.c.due_at.is_(None), outbox.c.created_at < seconds(before)))

    def _finish(self, message_id: int, *, sent_at: int | None = None, error: str | None = None) -> None:
        self._c.execute(
            update(outbox)
            .where(outbox.c.id == message_id, outbox.c.due_at.is_not(None))
            .values(due_at=None, message=b"", sent_at=sent_at, error=error, attempts=outbox.c.attempts + 1)
        )
