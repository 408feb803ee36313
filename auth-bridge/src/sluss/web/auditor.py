"""The auditor's pages: which meetings there were, and who attended each. What they were about is not the auditor's."""

from aiohttp import web

from sluss.web.context import SERVICES, SESSION
from sluss.web.pages import render


async def meetings(request: web.Request) -> web.StreamResponse:
    """GET /audit: every meeting."""
    found = await request.app[SERVICES].attendance.meetings(request[SESSION])
    return render(request, "audit.html", meetings=found, class_of=request.app[SERVICES].meetings.class_of)


async def attendance(request: web.Request) -> web.StreamResponse:
    """GET /audit/<id>: who attended one."""
    report = await request.app[SERVICES].attendance.report(request[SESSION], request.match_info["meeting"])
    return render(request, "attendance.html", report=report, back="/audit")
