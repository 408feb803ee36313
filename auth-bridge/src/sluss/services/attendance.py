"""A meeting's attendance: for its organiser, after a fresh second factor, and for auditors. Every look is recorded."""

import csv
import io
from collections.abc import Callable
from datetime import datetime, timedelta
from typing import Any
from zoneinfo import ZoneInfo

from sluss.domain.accounts import AccountRole
from sluss.domain.assurance import ORGANISERS_OWN, Purpose
from sluss.domain.attendance import Attendee, Report, Stay, fold
from sluss.domain.audit import Action, Outcome
from sluss.domain.errors import NotFound, NotVerified, ProofRequired, SlussError
from sluss.domain.freshness import is_fresh
from sluss.domain.meetings import Meeting, MeetingOnRecord
from sluss.keyring.tickets import TicketKeys
from sluss.services import audit
from sluss.services.common import Ground, new_id
from sluss.services.organisers import Organisers
from sluss.store.access import OrganiserRecord
from sluss.store.database import Transaction

FRESH = timedelta(minutes=5)
"""The organiser's proof opens the attendance for this long."""
COLUMNS = ("name", "role", "entered", "left", "end_seen", "seconds", "methods", "assurance", "networks", "devices")
_FORMULA = ("=", "+", "-", "@", "\t", "\r", "\n")


class Attendance:
    """The verbs of whoever reads the attendance."""

    def __init__(self, ground: Ground, keys: TicketKeys, organisers: Organisers) -> None:
        self._g = ground
        self._keys = keys
        self._organisers = organisers

    async def meetings(self, session: str) -> list[MeetingOnRecord]:
        """Every meeting, latest first, without what it was about: for auditors. Raises `SignInRequired`, `NotFound`."""
        now = self._g.clock()

        def work(tx: Transaction) -> list[MeetingOnRecord] | SlussError:
            record = self._organisers.signed_in(tx, session, now)
            if isinstance(record, SlussError):
                return record
            return tx.meetings.on_record() if _audits(record) else NotFound("not an auditor")

        return await self._g.store.run(work)

    async def report(self, session: str, meeting_id: str) -> Report:
        """Who was there. Raises `NotVerified` without a fresh second factor, `NotFound`, `SignInRequired`."""
        return await self._read(session, meeting_id, Action.ATTENDANCE_READ, "page")

    async def as_csv(self, session: str, meeting_id: str) -> str:
        """The same as a table (RFC 4180). Raises the same."""
        return to_csv(await self._read(session, meeting_id, Action.ATTENDANCE_EXPORTED, "csv"))

    async def receipt(self, session: str, meeting_id: str) -> str:
        """The same, signed: a compact JWS (RFC 7515). Raises the same."""
        report = await self._read(session, meeting_id, Action.ATTENDANCE_EXPORTED, "receipt")
        return self._keys.sign_receipt({"iss": self._g.site.portal, "jti": new_id(), **to_claims(report)})

    async def _read(self, session: str, meeting_id: str, action: Action, form: str) -> Report:
        now, session_hash = self._g.clock(), self._g.session_hash(session)

        def work(tx: Transaction) -> Report | SlussError:
            record = self._organisers.signed_in(tx, session, now)
            if isinstance(record, SlussError):
                return record
            meeting = tx.meetings.get(meeting_id)
            refusal = _refusal(tx, record, meeting, session_hash, now)
            if refusal is None and _audits(record) and not self._organisers.proved_lately(tx, session, now):
                refusal = ProofRequired("no factor just before")
            self._g.audit.record(
                tx,
                now,
                action,
                Outcome.REFUSED if refusal else Outcome.DONE,
                actor=audit.organiser(record.organiser.id),
                subject=audit.meeting(meeting.id) if meeting else "",
                form=form,
                reason=str(refusal or ""),
            )
            return refusal or _report(tx, meeting, now)

        return await self._g.store.run(work)


def _audits(record: OrganiserRecord) -> bool:
    return record.organiser.role is AccountRole.AUDITOR


def _refusal(
    tx: Transaction, record: OrganiserRecord, meeting: Meeting | None, session_hash: str, now: datetime
) -> SlussError | None:
    if meeting is None or meeting.purged:
        return NotFound("no such meeting")
    if _audits(record):
        return None
    own = tx.invitations.organisers_own(meeting.id)
    if own is None or meeting.organiser_id != record.organiser.id:
        return NotFound("not the organiser's meeting")
    proof = tx.verifications.latest(own.id, session_hash, Purpose.JOIN, now)
    if proof is None or proof.method not in ORGANISERS_OWN or not is_fresh(proof.verified_at, now, FRESH):
        return NotVerified("no fresh second factor")
    return None


def _report(tx: Transaction, meeting: Meeting | None, now: datetime) -> Report | SlussError:
    own = tx.invitations.organisers_own(meeting.id) if meeting else None
    if meeting is None or own is None:
        return NotFound("no such meeting")
    found = tx.attendance.of(meeting.id)
    people = tuple(
        Attendee(
            who.id, who.shown_name, who.role, fold((one for one in found if one.invitation_id == who.id), who.role)
        )
        for who in (*tx.invitations.organisers_ever(meeting.id), *tx.invitations.participants(meeting.id))
    )
    return Report(meeting, own.name, people, now)


def to_csv(report: Report) -> str:
    """RFC 4180, a line a stay, times in the meeting's zone. Whoever was not there has a line without times."""
    zone = ZoneInfo(report.meeting.time_zone)
    text = io.StringIO()
    # The byte order mark is what spreadsheets know UTF-8 by.
    text.write("\ufeff")
    table = csv.writer(text, lineterminator="\r\n")
    table.writerow(COLUMNS)
    for person in report.people:
        who = [_cell(person.name), person.role.value]
        for stay in person.stays:
            table.writerow([*who, *_cells(stay, report.at, lambda at: at.astimezone(zone).isoformat())])
        if not person.stays:
            table.writerow([*who, *[""] * (len(COLUMNS) - len(who))])
    return text.getvalue()


def _cells(stay: Stay, now: datetime, when: Callable[[datetime], str]) -> list[str]:
    return [
        when(stay.entered_at),
        when(stay.left_at) if stay.left_at else "",
        "yes" if stay.exact else "no",
        str(stay.seconds(now)),
        " ".join(stay.methods),
        stay.assurance,
        " ".join(stay.origins),
        str(stay.devices),
    ]


def _cell(text: str) -> str:
    """Text that no spreadsheet takes for a formula (OWASP, CSV injection)."""
    return f"'{text}" if text.startswith(_FORMULA) else text


def to_claims(report: Report) -> dict[str, Any]:
    """What a receipt says. Times are Unix seconds."""
    meeting = report.meeting
    return {
        "iat": _unix(report.at),
        "sub": audit.meeting(meeting.id),
        "meeting": {
            "title": meeting.title,
            "starts_at": _unix(meeting.starts_at),
            "ends_at": _unix(meeting.ended_at or meeting.ends_at),
            "sensitivity": meeting.sensitivity,
            "organiser": report.organiser_name,
        },
        "people": [_person(person, report.at) for person in report.people],
    }


def _person(person: Attendee, now: datetime) -> dict[str, Any]:
    return {
        "invitation": person.invitation_id,
        "name": person.name,
        "role": person.role.value,
        "seconds": person.seconds(now),
        "stays": [
            {
                "entered_at": _unix(stay.entered_at),
                "left_at": _unix(stay.left_at) if stay.left_at else None,
                "end_seen": stay.exact,
                "methods": list(stay.methods),
                "acr": stay.assurance,
                "networks": list(stay.origins),
                "devices": stay.devices,
            }
            for stay in person.stays
        ],
    }


def _unix(at: datetime) -> int:
    return int(at.timestamp())
