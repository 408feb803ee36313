"""What somebody typed becomes checked values, or is refused under the name of its field."""

from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sluss.domain import drafts
from sluss.domain.errors import InvalidInput
from sluss.domain.meetings import MeetingDraft

NOW = datetime(2026, 3, 1, 12, tzinfo=UTC)
FORM = {
    "title": "Budget",
    "agenda": "1. Öppning\r\n2. Siffror",
    "date": "2026-05-04",
    "time": "09:30",
    "minutes": "60",
    "time_zone": "Europe/Stockholm",
    "sensitivity": "internal",
}
ANNA = ("Anna Lindberg", "anna@example.org", "070-174 06 05")


def parse(people=(ANNA,), **changed):
    return drafts.parse_meeting(FORM | changed, people, region="SE", now=NOW)


def field(people=(ANNA,), **changed) -> str:
    with pytest.raises(InvalidInput) as refused:
        parse(people, **changed)
    assert refused.value.public
    return refused.value.field


def test_meeting_is_read_as_written():
    draft = parse()
    assert (draft.title, draft.agenda) == ("Budget", "1. Öppning\n2. Siffror")
    assert (draft.starts_at, draft.minutes) == (datetime(2026, 5, 4, 7, 30, tzinfo=UTC), 60)
    assert [(p.name, p.email, p.mobile) for p in draft.participants] == [(ANNA[0], ANNA[1], "+46701740605")]


@pytest.mark.parametrize(
    ("name", "values"),
    [
        ("title", ["", "   ", "x" * 201, "Bud\x00get", "Bud\x1bget", "Bud\u202eget", "Bud\x9bget", "Bud\ud800get"]),
        ("agenda", ["x" * 10_001, "a\x00b", "a\u2066b", "a\x85b"]),
        ("date", ["", "4 May", "2026-13-01", "2026-02-30", "0001-01-01", "9999-12-31", "2026-02-28", "2101-01-01"]),
        ("time", ["", "25:00", "half past nine", "09:60"]),
        ("minutes", ["", "4", "1441", "-60", "sixty", "60.5", "1e3", "9" * 5000, "²"]),
        ("time_zone", ["", "Stockholm", "../../etc/passwd", "/etc/localtime", "Europe", "x" * 5000, "\0", "\ud800"]),
        ("sensitivity", ["", "x" * 41]),
    ],
)
def test_wrong_field_is_named(name, values):
    for value in values:
        assert field(**{name: value}) == name, value


def test_missing_field_is_named():
    for name in FORM:
        form = {key: value for key, value in FORM.items() if key != name}
        if name == "agenda":
            assert drafts.parse_meeting(form, [], region="SE", now=NOW).agenda == ""
            continue
        with pytest.raises(InvalidInput) as refused:
            drafts.parse_meeting(form, [], region="SE", now=NOW)
        assert refused.value.field == name


def test_time_that_the_clocks_skip_is_refused_and_one_they_repeat_is_the_first():
    assert field(date="2026-03-29", time="02:30") == "time"
    assert parse(date="2026-03-29", time="03:00").starts_at == datetime(2026, 3, 29, 1, tzinfo=UTC)
    assert parse(date="2026-10-25", time="02:30").starts_at == datetime(2026, 10, 25, 0, 30, tzinfo=UTC)


def test_meeting_that_is_over_is_refused_and_one_that_goes_on_is_not():
    assert field(date="2026-03-01", time="12:00") == "date"  # 11:00 to 12:00 UTC, and it is 12
    assert parse(date="2026-03-01", time="12:01").minutes == 60


def test_row_is_named_by_its_number_and_empty_rows_are_passed_over():
    empty = ("", " ", "")
    assert field([empty, ANNA, ("", "b@example.org", ANNA[2])]) == "name-2"
    assert field([empty, ("B", "b", ANNA[2])]) == "email-1"
    assert field([("B", "b@example.org", "12")]) == "mobile-0"
    assert len(parse([empty, ANNA, empty]).participants) == 1


def test_same_address_twice_is_named_where_it_comes_again():
    assert field([ANNA, ("", "", ""), ("Anna", "ANNA@example.org", ANNA[2])]) == "email-2"


def test_label_stands_behind_the_name():
    one, two = parse([(*ANNA, " Ekonomi "), ("Bo", "bo@example.org", ANNA[2])]).participants
    assert (one.label, one.shown_name) == ("Ekonomi", "Anna Lindberg (Ekonomi)")
    assert (two.label, two.shown_name) == ("", "Bo")


@pytest.mark.parametrize("label", ["x" * 41, "a\x00b", "a\u202eb"])
def test_label_that_cannot_be_shown_is_refused(label):
    assert field([(*ANNA, label)]) == "label-0"


def test_meeting_has_two_hundred_participants_at_most():
    people = [(f"Person {n}", f"p{n}@example.org", ANNA[2]) for n in range(201)]
    assert len(parse(people[:200]).participants) == 200
    assert field(people) == "participants"


@pytest.mark.parametrize(
    "typed",
    [
        "0701740605",
        "070-174 06 05",
        "070 174 06 05",
        "070/1740605",
        "(070) 174 06 05",
        "+46701740605",
        "+46 70 174 06 05",
        "+46 (0)70-174 06 05",
        "0046701740605",
        "0046 70-174 06 05",
        " 070-1740605\t",
        "０７０１７４０６０５",
    ],
)
def test_swedish_mobile_number_in_any_usual_form(typed):
    assert drafts.mobile(typed, "SE") == "+46701740605"


def test_foreign_mobile_number_needs_its_country_code():
    assert drafts.mobile("+47 406 12 345", "SE") == "+4740612345"
    assert drafts.mobile("406 12 345", "NO") == "+4740612345"


@pytest.mark.parametrize(
    "typed",
    [
        "",
        "12",
        "08-123 456 78",
        "+46 8 123 456 78",
        "020-123456",
        "0900-1234567",
        "112",
        "070-174 06",
        "anna",
        "+999 1",
    ],
)
def test_number_that_takes_no_sms_is_refused(typed):
    with pytest.raises(InvalidInput) as refused:
        drafts.mobile(typed, "SE", "mobile-3")
    assert refused.value.field == "mobile-3"


@pytest.mark.parametrize(
    "typed", ["anna@example.org", " a.b+c@sub.example.org ", "o'brien@example.org", "å@example.org"]
)
def test_usual_address_is_taken(typed):
    assert drafts.email(typed) == typed.strip()


@pytest.mark.parametrize(
    "typed",
    [
        "",
        "anna",
        "anna@",
        "@example.org",
        "anna@example",
        "anna@exam ple.org",
        "a@b@example.org",
        "anna@-example.org",
        "anna@example..org",
        "anna@example.org\nBcc: eva@example.org",
        "anna@example.org,eva@example.org",
        "Anna <anna@example.org>",
        '"a"@example.org',
        "anna\x00@example.org",
        "anna\u202e@example.org",
        "anna@exa\u212aple.org",
        "x" * 65 + "@example.org",
        "a@" + "x" * 64 + ".org",
        "a@" + "x." * 130 + "org",
    ],
)
def test_what_is_no_address_is_refused(typed):
    with pytest.raises(InvalidInput) as refused:
        drafts.email(typed, "email-1")
    assert refused.value.field == "email-1"


@given(st.dictionaries(st.sampled_from(sorted(FORM)), st.text(max_size=40)), st.lists(st.tuples(*[st.text()] * 3)))
def test_whatever_is_typed_is_taken_or_refused_by_field(changed, people):
    try:
        draft = drafts.parse_meeting(FORM | changed, people, region="SE", now=NOW)
    except InvalidInput as refused:
        name, _, row = refused.field.partition("-")
        assert name in FORM or (name in ("name", "email", "mobile") and int(row) < len(people))
    else:
        assert isinstance(draft, MeetingDraft)
        assert len(draft.title.splitlines()) == 1
        draft.title.encode()
        draft.agenda.encode()


@given(st.dates(), st.times(), st.sampled_from(["Europe/Stockholm", "Pacific/Apia", "America/Caracas", "UTC"]))
def test_every_date_and_time_is_taken_or_refused(day, clock, zone):
    try:
        draft = parse(date=day.isoformat(), time=f"{clock:%H:%M}", time_zone=zone)
    except InvalidInput as refused:
        assert refused.field in ("date", "time")  # noqa: PT017
    else:
        assert draft.starts_at + timedelta(minutes=60) > NOW


@given(st.text(max_size=30))
def test_number_is_e164_or_refused(typed):
    try:
        number = drafts.mobile(typed, "SE")
    except InvalidInput as refused:
        assert refused.field == "mobile"  # noqa: PT017
    else:
        assert number.startswith("+")
        assert number[1:].isdecimal()
        assert drafts.mobile(number, "NO") == number
