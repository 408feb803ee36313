"""Personal numbers, and names that may be one person's."""

from contextlib import suppress
from datetime import date

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sluss.domain.drafts import participant, personal_number
from sluss.domain.errors import InvalidInput
from sluss.domain.people import may_be_named
from sluss.domain.people import personal_number as parsed

TODAY = date(2026, 5, 4)


@pytest.mark.parametrize(
    ("typed", "number"),
    [
        ("19811228-9874", "198112289874"),
        ("198112289874", "198112289874"),
        (" 19811228 9874 ", "198112289874"),
        ("811228-9874", "198112289874"),
        ("8112289874", "198112289874"),
        ("811228+9874", "188112289874"),
        ("670919-9530", "196709199530"),
        ("701063-2391", "197010632391"),  # a coordination number: the 3rd, and sixty
        ("19701063-2391", "197010632391"),
        ("040229-2387", "200402292387"),
    ],
)
def test_every_usual_form_is_the_same_twelve_digits(typed, number):
    assert parsed(typed, TODAY) == number


@pytest.mark.parametrize(
    "typed",
    [
        "19811228-9873",  # check digit
        "19811328-9873",  # month
        "19810230-9872",  # day
        "20030229-2388",  # no leap year
        "701092-2396",  # no such day, with sixty or without
        "701060-2394",  # no day at all
        "20300101-2388",  # not born yet
        "811228--9874",
        "811228",
        "abc",
        "٨١١٢٢٨-٩٨٧٤",
        "000000-0000",
        "1" * 5000,
    ],
)
def test_what_is_no_personal_number_is_refused(typed):
    with pytest.raises(ValueError):
        parsed(typed, TODAY)
    with pytest.raises(InvalidInput, match="personal_number-2"):
        personal_number(typed, TODAY, "personal_number-2")


@given(st.text())
def test_any_text_is_twelve_digits_or_refused(typed):
    with suppress(ValueError):
        assert len(parsed(typed, TODAY)) == 12


@given(st.dates(date(1900, 1, 1), TODAY), st.integers(0, 999), st.booleans())
def test_one_wrong_digit_or_two_changed_places_are_noticed(born, serial, coordinated):
    ten = f"{born:%y%m}{born.day + 60 * coordinated:02}{serial:03}"
    right = [c for c in range(10) if _is_one(f"{born:%Y}"[:2] + ten + str(c))]
    assert len(right) == 1


def _is_one(number: str) -> bool:
    try:
        return bool(parsed(number, TODAY))
    except ValueError:
        return False


def test_nothing_typed_is_no_number_and_a_draft_does_not_print_it():
    assert personal_number("  ", TODAY) == ""
    anna = participant("Anna", "a@example.org", "0701740605", "", "811228-9874", region="SE", today=TODAY)
    assert anna.personal_number == "198112289874"
    assert "9874" not in repr(anna)


@pytest.mark.parametrize(
    ("invited", "given", "surname", "right"),
    [
        ("Anna Lindberg", "Anna", "Lindberg", True),
        ("Anna Lindberg", "Eva Anna Maria", "Lindberg", True),
        ("ANNA lindberg", "Anna", "Lindberg", True),
        ("Lindberg, Anna", "Anna", "Lindberg", True),
        ("Anna-Lena Ek", "Anna Lena", "Ek", True),
        ("Åsa Öberg", "Asa", "Oberg", True),
        ("Åsa Öberg", "A\u030asa", "O\u0308berg", True),  # written as letter and mark
        ("Søren Ærø", "Soren", "Aero", True),
        ("José O’Brien", "Jose", "O'Brien", True),
        ("Anna Ek Lindberg", "Anna", "Ek Lindberg", True),
        ("Anna Lindberg", "Anna", "Ek Lindberg", True),
        ("Anna Maria Lindberg", "Anna", "Lindberg", False),  # each given name that was invited is theirs
        ("Anna Lindberg", "Annika", "Lindberg", False),
        ("Anna Lindberg", "Anna", "Lindgren", False),
        ("Anna Lindberg", "Bo", "Ek", False),
        ("Lindberg", "Anna", "Lindberg", False),
        ("Anna", "Anna", "Lindberg", False),
        ("", "Anna", "Lindberg", False),
        ("- '", "Anna", "Lindberg", False),
        ("Anna Lindberg", "", "", False),
    ],
)
def test_each_word_of_the_invited_name_is_the_persons(invited, given, surname, right):
    assert may_be_named(invited, given, surname) is right
