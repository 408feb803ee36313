"""Rendering: one function makes every page, one every error, in the visitor's language."""

from collections.abc import Mapping
from datetime import datetime, timedelta
from functools import cache
from pathlib import Path
from typing import Any

import jinja2
import phonenumbers
import segno
from aiohttp import web
from multidict import MultiDict

from sluss.domain.assurance import AssuranceLevel, Method, worth
from sluss.domain.errors import InvalidInput, SlussError, TooManyTries
from sluss.domain.gate import Role
from sluss.web import i18n
from sluss.web.context import ORGANISER, REQUEST_ID, SERVICES, SESSION, SETTINGS, wants_json
from sluss.web.sessions import csrf_token

TEMPLATES = web.AppKey("templates", jinja2.Environment)
_FOLDER = Path(__file__).parent / "templates"


def N_(text: str) -> str:  # noqa: N802 - gettext's own name for "translate this later"
    """Mark `text` for translation and return it as it is."""
    return text


FORM = "application/x-www-form-urlencoded"
HTTP_TEXTS = {
    404: N_("There is nothing here."),
    405: N_("This page cannot be used that way."),
    413: N_("That is more than fits."),
}
METHOD_TEXTS = {
    Method.SMS: N_("personal link and SMS code"),
    Method.TOTP: N_("personal link and authenticator"),
    Method.PASSKEY: N_("passkey"),
    Method.BANKID: N_("BankID"),
    Method.SIGN_IN: N_("the organisation's own sign-in"),
    Method.SIGN_IN_HIGH: N_("the organisation's own sign-in, at a high level"),
    Method.SMARTCARD: N_("smart card"),
    Method.LDAP: N_("personal link and the organisation's password"),
}
REFUSED_PASSKEY = N_("That passkey was not accepted. Try again, or choose another way.")
REFUSED_CODE = N_("That code did not match. Wait for the next one and try again.")
ORGANISERS_TOTP = N_("password and authenticator")
LEVEL_TEXTS = {
    AssuranceLevel.AAL1: N_("assurance level 1 of 3"),
    AssuranceLevel.AAL2: N_("assurance level 2 of 3"),
    AssuranceLevel.AAL3: N_("assurance level 3 of 3"),
}


@cache
def environment() -> jinja2.Environment:
    """The templates. A name that is not there is an error, not an empty string."""
    return jinja2.Environment(
        loader=jinja2.FileSystemLoader(_FOLDER),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        auto_reload=False,
    )


class Texts:
    """What a template says things with: gettext and dates in one language."""

    def __init__(self, locale: str) -> None:
        self.lang = locale
        self._catalogue = i18n.translations(locale)

    def gettext(self, text: str, **values: Any) -> str:
        """The translation of `text`, its `%(name)s` filled in."""
        translated = self._catalogue.gettext(text)
        return translated % values if values else translated

    def ngettext(self, one: str, many: str, n: int, **values: Any) -> str:
        """The form for `n` things; `%(n)d` is the number."""
        return self._catalogue.ngettext(one, many, n) % {"n": n, **values}

    def of(self, by_language: Mapping[str, str]) -> str:
        """What the policy says in this language."""
        return by_language[self.lang]

    def method(self, method: Method, role: Role = Role.PARTICIPANT) -> str:
        """How somebody was verified, with its assurance level, in words."""
        own = method is Method.TOTP and role is Role.ORGANISER
        level = LEVEL_TEXTS[worth(method, role).acr]
        return f"{self.gettext(ORGANISERS_TOTP if own else METHOD_TEXTS[method])} ({self.gettext(level)})"

    @staticmethod
    def mobile(number: str) -> str:
        """An E.164 number in groups, as people compare it: `+46 70 174 06 05`."""
        return phonenumbers.format_number(phonenumbers.parse(number), phonenumbers.PhoneNumberFormat.INTERNATIONAL)

    def long_date(self, moment: datetime) -> str:
        """See `i18n.long_date`."""
        return i18n.long_date(moment, self.lang)

    def short_date(self, moment: datetime) -> str:
        """See `i18n.short_date`."""
        return i18n.short_date(moment, self.lang)

    def clock_time(self, moment: datetime) -> str:
        """See `i18n.clock_time`."""
        return i18n.clock_time(moment, self.lang)

    def zone_name(self, moment: datetime) -> str:
        """See `i18n.zone_name`."""
        return i18n.zone_name(moment, self.lang)

    def problem(self, error: SlussError) -> str:
        """The sentence of `error` that may be shown to anyone."""
        if not isinstance(error, TooManyTries):
            return self.gettext(error.public)
        what = N_("Too many tries.") if error.public == TooManyTries.public else error.public
        return f"{self.gettext(what)} {self._wait(error.retry_after)}"

    def locked(self, what: str, opens_at: datetime, now: datetime) -> str:
        """A limit that is used up, and for how long."""
        minutes = max(-(-(opens_at - now) // timedelta(minutes=1)), 1)
        wait = self.ngettext("Locked for %(n)d minute.", "Locked for %(n)d minutes.", minutes)
        return f"{self.gettext(what)} {wait}"

    def _wait(self, seconds: int) -> str:
        if seconds <= 60:
            return self.ngettext("Wait %(n)d second.", "Wait %(n)d seconds.", seconds)
        return self.ngettext("Wait %(n)d minute.", "Wait %(n)d minutes.", -(-seconds // 60))


def texts(request: web.Request) -> Texts:
    """The texts in this visitor's language."""
    return Texts(i18n.locale_of(request))


def render(
    request: web.Request, template: str, *, status: int = 200, problem: SlussError | None = None, **values: Any
) -> web.Response:
    """Make the page `template`. `problem` sets the status and is shown at its field, or on top."""
    settings = request.app[SETTINGS]
    words = texts(request)
    context: dict[str, Any] = {
        "_": words.gettext,
        "ngettext": words.ngettext,
        "texts": words,
        "lang": words.lang,
        "locales": i18n.LOCALES,
        "csrf": csrf_token(request) if SESSION in request else "",
        "organisation": settings.organisation,
        "organiser": request.get(ORGANISER),
        "provider": request.app[SERVICES].sign_ins.there,
        "directory": request.app[SERVICES].directory.there,
        "return_to": request.rel_url.raw_path,
        "problem": words.problem(problem) if problem else None,
        "problem_field": getattr(problem, "field", None),
        "refused": problem is not None and not isinstance(problem, InvalidInput),
        "reference": request.get(REQUEST_ID, ""),  # the same as in the audit log
    }
    body = request.app[TEMPLATES].get_template(template).render(context | values)
    return web.Response(
        text=body,
        content_type="text/html",
        charset="utf-8",
        status=problem.status if problem else status,
        headers={"Content-Language": words.lang, "Vary": "Cookie, Accept-Language"} | _retry_after(problem),
    )


def error(request: web.Request, problem: SlussError, status: int) -> web.Response:
    """The one error page, or its like in JSON for a script."""
    reference = request[REQUEST_ID]
    if wants_json(request):
        message = texts(request).problem(problem)
        return web.json_response(
            {"error": type(problem).__name__, "message": message, "request_id": reference},
            status=status,
            headers=_retry_after(problem),
        )
    response = render(request, "error.html", problem=problem, code=status)
    response.set_status(status)
    return response


def _retry_after(problem: SlussError | None) -> dict[str, str]:
    return {"Retry-After": str(problem.retry_after)} if isinstance(problem, TooManyTries) else {}


async def read_form(request: web.Request, *, strip: bool = True) -> MultiDict[str]:
    """The fields of a posted form, by default without white space around. Raises an HTTP error for any other body."""
    if request.content_type != FORM:
        raise web.HTTPUnsupportedMediaType
    try:
        fields = await request.post()
    except (LookupError, ValueError):  # a character set nobody knows, or text that is not of it
        raise web.HTTPBadRequest from None
    return MultiDict((name, str(value).strip() if strip else str(value)) for name, value in fields.items())


def plain_code(text: str) -> str:
    """A code as typed, without the spaces people and phones put in."""
    return "".join(text.split())


def qr_code(text: str) -> str:
    """A QR code as the address of a picture."""
    return str(segno.make(text, error="m").svg_data_uri(scale=5, border=3, light="#fff", dark="#000"))


def in_groups(secret: str) -> str:
    """A key in groups of four, as people copy it."""
    return " ".join(secret[i : i + 4] for i in range(0, len(secret), 4))
