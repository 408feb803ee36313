"""Who somebody is: Swedish personal numbers, and whether two names may be one person's."""

import re
import unicodedata
from datetime import date

_SHAPE = re.compile(r"([0-9]{2})?([0-9]{2})([0-9]{2})([0-9]{2})([-+]?)([0-9]{3})([0-9])")
_COORDINATION = 60
"""What is added to the day of birth in a coordination number."""
# Letters that Unicode does not take apart into a plain one and a mark.
_LETTERS = str.maketrans(
    {"æ": "ae", "ø": "o", "œ": "oe", "đ": "d", "ð": "d", "ł": "l", "þ": "th", "'": "", "\u2019": ""}
)


def personal_number(value: str, today: date) -> str:
    """A personal or coordination number as twelve digits, the form that BankID gives it in.

    Takes YYYYMMDD-NNNN and YYMMDD-NNNN, with or without the hyphen; in the short form a plus in its place says that the
    person turns 100 this year or has. Raises `ValueError` if it is none: shape, date, check digit (Luhn), not yet born.
    """
    found = _SHAPE.fullmatch("".join(value.split()))
    if found is None:
        raise ValueError("not the shape of a personal number")
    century, yy, mm, dd, sign, serial, check = found.groups()
    year = int(f"{century}{yy}") if century else _year(int(yy), today) - (100 if sign == "+" else 0)
    day = int(dd) - _COORDINATION if int(dd) > _COORDINATION else int(dd)
    if date(year, int(mm), day) > today:
        raise ValueError("not yet born")
    if _luhn(f"{yy}{mm}{dd}{serial}") != int(check):
        raise ValueError("wrong check digit")
    return f"{year:04}{mm}{dd}{serial}{check}"


def may_be_named(invited: str, given: str, surname: str) -> bool:
    """Whether a person registered as `given` and `surname` may be who was invited as `invited`.

    Each word of the invitation must be one of theirs, at least one of the given names and one of the surname. Case,
    accents, hyphens and their order do not matter.
    """
    asked, given_names, surnames = _words(invited), _words(given), _words(surname)
    return asked <= given_names | surnames and bool(asked & given_names) and bool(asked & surnames)


def _year(yy: int, today: date) -> int:
    """The last year that ends so."""
    return today.year - (today.year - yy) % 100


def _luhn(digits: str) -> int:
    """The check digit (ISO/IEC 7812-1, annex B)."""
    doubled = (int(digit) * (2 - place % 2) for place, digit in enumerate(digits))
    return -sum(number // 10 + number % 10 for number in doubled) % 10


def _words(name: str) -> set[str]:
    taken_apart = unicodedata.normalize("NFKD", name.casefold().translate(_LETTERS))
    plain = "".join(c for c in taken_apart if not unicodedata.combining(c))
    return set("".join(c if c.isalnum() else " " for c in plain).split())
