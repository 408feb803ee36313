"""Deleting what is not to be kept any longer: the one place that knows every table with personal data."""

from datetime import datetime, timedelta

from sqlalchemy import Connection, delete, func, select, update

from sluss.store.rows import seconds
from sluss.store.schema import attendance, invitations, meetings, outbox, tickets, verifications
from sluss.store.sealing import Sealer

# Those that refer to others come first.
_OF_AN_INVITATION = (attendance, tickets, verifications, outbox)


class PurgeRepository:
    """Goes through all tables."""

    def __init__(self, connection: Connection, sealer: Sealer) -> None:
        self._c = connection
        self._sealer = sealer

    def classes(self) -> list[str]:
        """The classes that meetings are of, whatever the policy knows of them."""
        query = select(meetings.c.sensitivity).where(meetings.c.purged_at.is_(None)).distinct()
        return list(self._c.execute(query).scalars())

    def due(self, sensitivity: str, ended: datetime, closes_after: timedelta) -> list[str]:
        """The meetings of a class that were ended, or closed by themselves, no later than `ended`."""
        closed_at = meetings.c.starts_at + meetings.c.minutes * 60 + int(closes_after.total_seconds())
        query = select(meetings.c.id).where(
            meetings.c.sensitivity == sensitivity,
            meetings.c.purged_at.is_(None),
            func.coalesce(meetings.c.ended_at, closed_at) <= seconds(ended),
        )
        return list(self._c.execute(query).scalars())

    def meeting(self, meeting_id: str, now: datetime) -> None:
        """Forget its people and what it was about; its id, time, class and organiser stay."""
        people = select(invitations.c.id).where(invitations.c.meeting_id == meeting_id)
        for table in _OF_AN_INVITATION:
            self._c.execute(delete(table).where(table.c.invitation_id.in_(people)))
        self._c.execute(delete(invitations).where(invitations.c.meeting_id == meeting_id))
        self._c.execute(
            update(meetings)
            .where(meetings.c.id == meeting_id)
            .values(
                title=self._sealer.seal("", "meetings.title", meeting_id),
                agenda=self._sealer.seal("", "meetings.agenda", meeting_id),
                purged_at=seconds(now),
            )
        )
