"""The auditor's pages: the audit log, which meetings there were, and who attended each. Not what they were about."""

from datetime import UTC, datetime

from aiohttp import web

from sluss.web.context import SERVICES, SESSION
from sluss.web.pages import render

SHOWN = 200
"""So many entries on the page. All of them: `sluss audit export`."""
_LONGEST_ID = 64


async def meetings(request: web.Request) -> web.StreamResponse:
    """GET /audit: every meeting."""
    found = await request.app[SERVICES].attendance.meetings(request[SESSION])
    return render(request, "audit.html", meetings=found, class_of=request.app[SERVICES].meetings.class_of)


async def log(request: web.Request) -> web.StreamResponse:
    """GET /audit/log?meeting=…: the newest entries, all or about one meeting. They hold ids and no names."""
    meeting = request.query.get("meeting", "").strip()[:_LONGEST_ID]
    entries = await request.app[SERVICES].audit.shown(request[SESSION], meeting, SHOWN)
    times = [datetime.fromtimestamp(entry.at, UTC) for entry in entries]
    found = list(zip(times, entries, strict=True))
    return render(request, "audit_log.html", found=found, meeting=meeting, shown=SHOWN, return_to="/audit/log")


async def attendance(request: web.Request) -> web.StreamResponse:
    """GET /audit/<id>: who attended one."""
    report = await request.app[SERVICES].attendance.report(request[SESSION], request.match_info["meeting"])
    return render(request, "attendance.html", report=report, back="/audit")
