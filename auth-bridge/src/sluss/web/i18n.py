"""Languages: English in the source, Swedish in `locales/`, chosen by cookie, then browser, then installation."""

import gettext
import io
from datetime import datetime, timedelta
from functools import cache
from pathlib import Path

from aiohttp import web
from babel import dates, units
from babel.messages.mofile import write_mo
from babel.messages.pofile import read_po

from sluss.domain.policy import written
from sluss.web.context import SETTINGS

LOCALES = {"en": "English", "sv": "Svenska"}
COOKIE = "__Host-lang"
CATALOGUE = Path(__file__).parent / "locales" / "sv" / "LC_MESSAGES" / "sluss.po"
_YEAR_SECONDS = 365 * 24 * 3600
# Dates as people write them here: in English the European way, by a 24-hour clock.
_DATE_LOCALES = {"en": "en_GB", "sv": "sv_SE"}
_UNITS = {"s": "duration-second", "m": "duration-minute", "h": "duration-hour", "d": "duration-day"}


@cache
def translations(locale: str) -> gettext.NullTranslations:
    """The catalogue of `locale`, compiled in memory from the text that is kept in the repository."""
    if locale == "en":
        return gettext.NullTranslations()
    with CATALOGUE.open("rb") as source:
        catalogue = read_po(source, locale=locale)
    compiled = io.BytesIO()
    write_mo(compiled, catalogue)
    compiled.seek(0)
    return gettext.GNUTranslations(compiled)


def locale_of(request: web.Request) -> str:
    """The language of this visitor: `en` or `sv`."""
    chosen = request.cookies.get(COOKIE)
    if chosen in LOCALES:
        return chosen
    for language in _accepted(request.headers.get("Accept-Language", "")):
        if language in LOCALES:
            return language
    return request.app[SETTINGS].default_locale


def _accepted(header: str) -> list[str]:
    """The primary languages of an Accept-Language header (RFC 9110, 12.5.4), most wanted first."""
    wanted: list[tuple[float, str]] = []
    for part in header[:500].split(","):
        tag, _, quality = part.strip().partition(";q=")
        try:
            weight = float(quality or 1)
        except ValueError:
            continue
        if weight > 0:
            wanted.append((-weight, tag.split("-")[0].lower()))
    return [tag for _, tag in sorted(wanted, key=lambda pair: pair[0])]


def choose_locale(response: web.StreamResponse, locale: str) -> None:
    """Remember the visitor's choice for a year."""
    response.set_cookie(COOKIE, locale, max_age=_YEAR_SECONDS, path="/", secure=True, httponly=True, samesite="Lax")


def long_date(moment: datetime, locale: str) -> str:
    """`Thursday, 15 October 2026`, in the zone that `moment` is in."""
    return dates.format_date(moment, "full", locale=_DATE_LOCALES[locale])


def short_date(moment: datetime, locale: str) -> str:
    """`15 Oct 2026`."""
    return dates.format_date(moment, "medium", locale=_DATE_LOCALES[locale])


def clock_time(moment: datetime, locale: str) -> str:
    """`13:45`, in the zone that `moment` is in."""
    return dates.format_time(moment, "short", tzinfo=moment.tzinfo, locale=_DATE_LOCALES[locale])


def duration(length: timedelta, locale: str) -> str:
    """`12 hours`, in the largest unit that fits."""
    number, unit = written(length)[:-1], _UNITS[written(length)[-1]]
    return units.format_unit(int(number), unit, locale=_DATE_LOCALES[locale])


def zone_name(moment: datetime, locale: str) -> str:
    """`Central European Summer Time`."""
    return dates.get_timezone_name(moment, locale=_DATE_LOCALES[locale])
