"""The admin's pages: accounts, and what becomes of them. Meetings and logs are not the admin's."""

from collections.abc import Mapping

from aiohttp import web

from sluss.domain.accounts import AccountRole, Act
from sluss.domain.errors import InvalidInput, SlussError
from sluss.services.accounts import INVITED
from sluss.web.account import ROLE_NAMES
from sluss.web.context import ORGANISER, SERVICES, SESSION
from sluss.web.pages import read_form, render


async def accounts(request: web.Request) -> web.StreamResponse:
    """GET /accounts: everybody who has one."""
    return await _accounts_page(request)


async def _accounts_page(
    request: web.Request, problem: SlussError | None = None, typed: Mapping[str, str] | None = None
) -> web.StreamResponse:
    found = await request.app[SERVICES].accounts.all(request[SESSION])
    return render(
        request,
        "accounts.html",
        problem=problem,
        accounts=found,
        typed=typed or {},
        roles=ROLE_NAMES,
        invited=INVITED,
        return_to="/accounts",
    )


async def invite(request: web.Request) -> web.StreamResponse:
    """POST /accounts: make an account and mail the link to enrol by."""
    form = await read_form(request)
    try:
        await request.app[SERVICES].accounts.invite(
            request[SESSION], form.get("name", ""), form.get("email", ""), form.get("role", "")
        )
    except InvalidInput as error:
        return await _accounts_page(request, error, form)
    raise web.HTTPSeeOther("/accounts")


async def account(request: web.Request) -> web.StreamResponse:
    """GET /accounts/<id>: one of them, and what can be done with it."""
    return await _account_page(request)


async def _account_page(request: web.Request, problem: SlussError | None = None) -> web.StreamResponse:
    verbs = request.app[SERVICES].accounts
    status = await verbs.one(request[SESSION], request.match_info["account"])
    others = [one for one in await verbs.all(request[SESSION]) if one.id != status.id]
    return render(
        request,
        "managed_account.html",
        problem=problem,
        account=status,
        own=status.id == request[ORGANISER].id,
        organisers=[one for one in others if one.role is AccountRole.ORGANISER],
        is_organiser=status.role is AccountRole.ORGANISER,
        role=ROLE_NAMES[status.role],
        mine=status.asked is not None and status.asked.by == request[ORGANISER].id,
        reset_asked=status.asked is not None and status.asked.act is Act.RESET,
        to=next((one for one in others if status.asked and one.id == status.asked.successor), None),
        return_to=f"/accounts/{status.id}",
    )


async def send_link(request: web.Request) -> web.StreamResponse:
    """POST /accounts/<id>/link: mail another link to enrol by."""
    await request.app[SERVICES].accounts.send_link(request[SESSION], request.match_info["account"])
    raise _back(request)


async def unlock(request: web.Request) -> web.StreamResponse:
    """POST /accounts/<id>/unlock: undo what holds up their signing in."""
    try:
        await request.app[SERVICES].accounts.unlock(request[SESSION], request.match_info["account"])
    except InvalidInput as error:
        return await _account_page(request, error)
    raise _back(request)


async def reset(request: web.Request) -> web.StreamResponse:
    """POST /accounts/<id>/reset: void what they sign in with, or ask for it where it takes two."""
    try:
        await request.app[SERVICES].accounts.reset(request[SESSION], request.match_info["account"])
    except InvalidInput as error:
        return await _account_page(request, error)
    raise _back(request)


async def remove(request: web.Request) -> web.StreamResponse:
    """POST /accounts/<id>/remove: remove the account, or ask for it where it takes two."""
    successor = (await read_form(request)).get("successor", "")
    try:
        done = await request.app[SERVICES].accounts.remove(request[SESSION], request.match_info["account"], successor)
    except InvalidInput as error:
        return await _account_page(request, error)
    raise web.HTTPSeeOther("/accounts") if done else _back(request)


def _back(request: web.Request) -> web.HTTPSeeOther:
    return web.HTTPSeeOther(f"/accounts/{request.match_info['account']}")
