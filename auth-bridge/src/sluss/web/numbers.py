"""Another number for a participant, which only the organiser can give."""

from aiohttp import web

from sluss.domain import drafts
from sluss.web.context import ORGANISER, SERVICES, SETTINGS
from sluss.web.pages import read_form


async def change(request: web.Request) -> web.StreamResponse:
    """POST /invitations/<id>/number: send codes there from now on."""
    settings, typed = request.app[SETTINGS], (await read_form(request)).get("mobile", "")
    mobile = drafts.mobile(typed, settings.default_region, prefixes=settings.sms_prefixes)
    meetings = request.app[SERVICES].meetings
    meeting_id = await meetings.change_number(request[ORGANISER], request.match_info["invitation"], mobile)
    raise web.HTTPSeeOther(f"/meetings/{meeting_id}")
