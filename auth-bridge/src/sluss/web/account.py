"""One's own account, whatever the role: authenticators, passkeys, sessions, and proving once more who one is."""

from aiohttp import web

from sluss.domain.accounts import AccountRole
from sluss.domain.errors import InvalidInput, NotVerified, SlussError, TooManyTries
from sluss.domain.gate import Role
from sluss.web.context import ADDRESS, ORGANISER, SERVICES, SESSION
from sluss.web.language import own_path
from sluss.web.pages import (
    N_,
    REFUSED_CODE,
    REFUSED_PASSKEY,
    in_groups,
    plain_code,
    qr_code,
    read_form,
    render,
)

ACCOUNT = "/account"
ROLE_NAMES = {
    AccountRole.ORGANISER: N_("organiser"),
    AccountRole.AUDITOR: N_("auditor"),
    AccountRole.ADMIN: N_("administrator"),
}


async def show(request: web.Request) -> web.StreamResponse:
    """GET /account: what signs one in, and where one is signed in."""
    return await page(request)


async def page(request: web.Request, problem: SlussError | None = None) -> web.StreamResponse:
    """The same, with what went wrong."""
    services, session = request.app[SERVICES], request[SESSION]
    return render(
        request,
        "account.html",
        problem=problem,
        account=await services.passkeys.account(session),
        authenticators=await services.account_authenticators.of(session),
        sessions=await services.organisers.open_sessions(session),
        role=ROLE_NAMES[request[ORGANISER].role],
        own_role=Role.ORGANISER,
        return_to=ACCOUNT,
    )


async def prove_form(request: web.Request) -> web.StreamResponse:
    """GET /prove?next=…: give a factor once more, then go on to that page."""
    return await _prove_page(request, request.query.get("next", ""))


async def _prove_page(request: web.Request, onward: str, problem: SlussError | None = None) -> web.StreamResponse:
    account, onward = await request.app[SERVICES].passkeys.account(request[SESSION]), own_path(onward, ACCOUNT)
    return render(request, "prove.html", problem=problem, account=account, onward=onward, return_to=onward)


async def prove_by_code(request: web.Request) -> web.StreamResponse:
    """POST /account: a code, for what needs a fresh factor."""
    form = await read_form(request)
    onward, code = own_path(form.get("next", ""), ACCOUNT), plain_code(form.get("code", ""))
    try:
        await request.app[SERVICES].organisers.prove_again(request[SESSION], code, request[ADDRESS])
    except NotVerified:
        return await _prove_page(request, onward, NotVerified(public=REFUSED_CODE))
    except TooManyTries as error:
        return await _prove_page(request, onward, error)
    raise web.HTTPSeeOther(onward)


async def prove_by_passkey(request: web.Request) -> web.StreamResponse:
    """POST /account/passkey/verify: a passkey, for the same."""
    form = await read_form(request)
    onward, response = own_path(form.get("next", ""), ACCOUNT), form.get("response", "")
    try:
        await request.app[SERVICES].passkeys.prove_again(request[SESSION], response, request[ADDRESS])
    except NotVerified:
        return await _prove_page(request, onward, NotVerified(public=REFUSED_PASSKEY))
    raise web.HTTPSeeOther(onward)


async def begin_authenticator(request: web.Request) -> web.StreamResponse:
    """POST /account/authenticators: make a further authenticator."""
    name = (await read_form(request)).get("name", "")
    try:
        await request.app[SERVICES].account_authenticators.begin(request[SESSION], name)
    except InvalidInput as error:
        return await page(request, InvalidInput("authenticator", error.public))
    raise web.HTTPSeeOther(f"{ACCOUNT}/authenticators/new")


async def new_authenticator(request: web.Request) -> web.StreamResponse:
    """GET /account/authenticators/new: its key, until the first code was right."""
    return await _new_authenticator_page(request)


async def _new_authenticator_page(request: web.Request, problem: SlussError | None = None) -> web.StreamResponse:
    new = await request.app[SERVICES].account_authenticators.waiting(request[SESSION])
    qr, secret = qr_code(new.otpauth_uri), in_groups(new.secret)
    return render(request, "authenticator_new.html", problem=problem, new=new, qr=qr, secret=secret)


async def confirm_authenticator(request: web.Request) -> web.StreamResponse:
    """POST /account/authenticators/new: its first code."""
    code = plain_code((await read_form(request)).get("code", ""))
    try:
        await request.app[SERVICES].account_authenticators.confirm(request[SESSION], code)
    except (InvalidInput, TooManyTries) as error:
        return await _new_authenticator_page(request, error)
    raise web.HTTPSeeOther(ACCOUNT)


async def remove_authenticator(request: web.Request) -> web.StreamResponse:
    """POST /account/authenticators/<id>/remove: forget one that is not the last."""
    try:
        await request.app[SERVICES].account_authenticators.remove(request[SESSION], request.match_info["authenticator"])
    except InvalidInput as error:
        return await page(request, error)
    raise web.HTTPSeeOther(ACCOUNT)
