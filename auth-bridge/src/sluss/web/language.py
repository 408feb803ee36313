"""The visitor's choice of language."""

import re

from aiohttp import web

from sluss.domain.errors import InvalidInput
from sluss.web.i18n import LOCALES, choose_locale
from sluss.web.pages import read_form

# A path of this site and nothing else: never `//host`, a scheme, or a line break.
_PATH = re.compile(r"/(?:[A-Za-z0-9_.~%-][A-Za-z0-9_.~%/-]*)?")


def own_path(given: str, otherwise: str = "/") -> str:
    """`given` if it is a path of this site, so that a visitor can be sent there."""
    return given if _PATH.fullmatch(given) else otherwise


async def choose(request: web.Request) -> web.StreamResponse:
    """POST /language: remember the choice and go back to the page it was made on."""
    form = await read_form(request)
    if form.get("lang") not in LOCALES:
        raise InvalidInput("lang", "Please check what you wrote.")
    response = web.HTTPSeeOther(own_path(form.get("return", "/")))
    choose_locale(response, form["lang"])
    raise response
