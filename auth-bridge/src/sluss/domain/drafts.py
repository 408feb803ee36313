"""From what somebody typed to checked values. Every refusal names the field and says what is wrong with it."""

import re
import unicodedata
from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, date, datetime, time, timedelta
from zoneinfo import ZoneInfo

import phonenumbers

from sluss.domain import people
from sluss.domain.errors import InvalidInput
from sluss.domain.meetings import MeetingDraft, ParticipantDraft

MAX_NAME, MAX_LABEL, MAX_EMAIL, MAX_TITLE, MAX_AGENDA = 100, 40, 254, 200, 10_000
MIN_MINUTES, MAX_MINUTES = 5, 24 * 60
MAX_PARTICIPANTS = 200
FIRST_YEAR, LAST_YEAR = 2000, 2100
_EMAIL = re.compile(
    r"[^\s@<>,;:\"()\[\]\\]{1,64}@(?:[A-Za-z0-9](?:[A-Za-z0-9-]{0,61}[A-Za-z0-9])?\.)+[A-Za-z0-9-]{2,63}"
)
# Control characters, those that turn the direction of writing, and lone surrogates.
_CONTROL = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069\ud800-\udfff]")


def name(value: str, field: str = "name") -> str:
    """A person's name on one line. Raises `InvalidInput`."""
    return _line(value, field, MAX_NAME, "Write the person's name.")


def email(value: str, field: str = "email") -> str:
    """An e-mail address as mail relays take it (RFC 5321, no quoting). Raises `InvalidInput`."""
    address = value.strip()
    if len(address) > MAX_EMAIL or not _EMAIL.fullmatch(address) or _CONTROL.search(address):
        raise InvalidInput(field, "Write an e-mail address such as anna@example.org.")
    return address


def mobile(value: str, region: str, field: str = "mobile", prefixes: Sequence[str] = ("+",)) -> str:
    """A phone number in any usual form, as E.164. `region` is ISO 3166-1, for numbers without country code.

    `prefixes` are those that codes may be sent to. Raises `InvalidInput`.
    """
    wrong = InvalidInput(field, "Write a mobile number such as 070-174 06 05 or +46 70 174 06 05.")
    try:
        number = phonenumbers.parse(value, region)
    except phonenumbers.NumberParseException:
        raise wrong from None
    kinds = (phonenumbers.PhoneNumberType.MOBILE, phonenumbers.PhoneNumberType.FIXED_LINE_OR_MOBILE)
    if not phonenumbers.is_valid_number(number) or phonenumbers.number_type(number) not in kinds:
        raise wrong
    e164 = phonenumbers.format_number(number, phonenumbers.PhoneNumberFormat.E164)
    if not e164.startswith(tuple(prefixes)):
        raise InvalidInput(
            field, "Codes are not sent to numbers in this country. The IT department can allow it: sms.prefixes."
        )
    return e164


def country_prefix(region: str) -> str:
    """The country code of a region (ISO 3166-1) with its plus sign: `+46`."""
    return f"+{phonenumbers.country_code_for_region(region)}"


def label(value: str, field: str = "label") -> str:
    """What tells somebody from another of the same name, or nothing. Raises `InvalidInput`."""
    return _line(value, field, MAX_LABEL, "") if value.strip() else ""


def personal_number(value: str, today: date, field: str = "personal_number") -> str:
    """A Swedish personal or coordination number as twelve digits, or nothing. Raises `InvalidInput`."""
    try:
        return people.personal_number(value, today) if value.strip() else ""
    except ValueError:
        raise InvalidInput(field, "Write a personal number such as 19811228-9874, or leave it empty.") from None


def participant(
    who: str,
    address: str,
    number: str,
    of: str = "",
    number_of: str = "",
    *,
    region: str,
    today: date,
    suffix: str = "",
    prefixes: Sequence[str] = ("+",),
) -> ParticipantDraft:
    """One person to invite; `of` is the label, `number_of` a personal number.

    `suffix` is put after the field names in errors.
    """
    return ParticipantDraft(
        name(who, f"name{suffix}"),
        email(address, f"email{suffix}"),
        mobile(number, region, f"mobile{suffix}", prefixes),
        label(of, f"label{suffix}"),
        personal_number(number_of, today, f"personal_number{suffix}"),
    )


def parse_meeting(
    form: Mapping[str, str],
    participants: Sequence[Sequence[str]],
    *,
    region: str,
    now: datetime,
    prefixes: Sequence[str] = ("+",),
) -> MeetingDraft:
    """A meeting from its form (title, agenda, date, time, minutes, time_zone, sensitivity) and rows of people.

    Rows that are empty throughout are passed over; an error in row 2 names `email-2`. Raises `InvalidInput`.
    """
    rows = [(i, row) for i, row in enumerate(participants) if any(cell.strip() for cell in row)]
    check_count(len(rows))
    invited = tuple(
        participant(*row, region=region, today=now.date(), suffix=f"-{i}", prefixes=prefixes) for i, row in rows
    )
    seen: set[str] = set()
    for (index, _), person in zip(rows, invited, strict=True):
        if person.email.casefold() in seen:
            raise InvalidInput(f"email-{index}", "This address is already in the list.")
        seen.add(person.email.casefold())
    starts_at = _start(form.get("date", ""), form.get("time", ""), form.get("time_zone", ""))
    minutes = _minutes(form.get("minutes", ""))
    if starts_at + timedelta(minutes=minutes) <= now:
        raise InvalidInput("date", "The meeting would already be over.")
    agenda = form.get("agenda", "").replace("\r\n", "\n").strip()
    if len(agenda) > MAX_AGENDA or _CONTROL.search(agenda):
        raise InvalidInput("agenda", "The agenda is too long, or has characters that cannot be shown.")
    return MeetingDraft(
        title=_line(form.get("title", ""), "title", MAX_TITLE, "Write a title."),
        agenda=agenda,
        starts_at=starts_at,
        minutes=minutes,
        time_zone=form["time_zone"],
        sensitivity=_line(
            form.get("sensitivity", ""), "sensitivity", MAX_LABEL, "Choose how sensitive the meeting is."
        ),
        participants=invited,
    )


def check_name(person: ParticipantDraft, others: Iterable[str], field: str = "label") -> None:
    """Raise `InvalidInput` if one of the others, of whom the organiser is one, is shown under the same name."""
    if _alike(person.shown_name) in map(_alike, others):
        raise InvalidInput(field, "Two people have this name. Write what tells them apart, such as a department.")


def _alike(name: str) -> str:
    return unicodedata.normalize("NFKC", name).casefold()


def check_count(participants: int) -> None:
    """Raise `InvalidInput` if they are more than a meeting takes."""
    if participants > MAX_PARTICIPANTS:
        raise InvalidInput("participants", f"A meeting can have at most {MAX_PARTICIPANTS} participants.")


def _line(value: str, field: str, limit: int, missing: str) -> str:
    text = " ".join(value.split())
    if not text:
        raise InvalidInput(field, missing)
    if len(text) > limit or _CONTROL.search(text):
        raise InvalidInput(field, "This is too long, or has characters that cannot be shown.")
    return text


def _start(day: str, clock: str, zone_name: str) -> datetime:
    try:
        zone = ZoneInfo(zone_name)
    except (KeyError, ValueError, OSError):
        raise InvalidInput("time_zone", "Choose a time zone such as Europe/Stockholm.") from None
    try:
        local_day = date.fromisoformat(day)
    except ValueError:
        raise InvalidInput("date", "Write the date as 2026-01-31.") from None
    if not FIRST_YEAR <= local_day.year <= LAST_YEAR:
        raise InvalidInput("date", "Write the date as 2026-01-31.")
    try:
        local = datetime.combine(local_day, time.fromisoformat(clock), zone)
    except ValueError:
        raise InvalidInput("time", "Write the time as 09:30.") from None
    at = local.astimezone(UTC)
    if at.astimezone(zone).replace(tzinfo=None) != local.replace(tzinfo=None):
        raise InvalidInput("time", "This time does not exist that day: the clocks are moved.")
    return at


def _minutes(value: str) -> int:
    if not value.strip().isdecimal() or len(value) > 9 or not MIN_MINUTES <= int(value) <= MAX_MINUTES:
        raise InvalidInput("minutes", f"Write the length in minutes, {MIN_MINUTES} to {MAX_MINUTES}.")
    return int(value)
