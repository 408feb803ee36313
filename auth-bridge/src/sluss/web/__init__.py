"""The pages: handlers parse, call one service and render. Who may do what is the services' business."""

from collections.abc import Callable
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING

from aiohttp import web

from sluss.web import (
    account,
    admin,
    auditor,
    authenticators,
    bankid,
    directory,
    language,
    numbers,
    organiser,
    pages,
    participant,
    passkeys,
    room,
    security,
    sign_in,
    smartcard,
)
from sluss.web import keys as keys_pages
from sluss.web.context import BEHIND_NGINX, CLOCK, KEYS, SERVICES, SETTINGS, PublicKeys
from sluss.web.health import make_internal
from sluss.web.keys import make_keys
from sluss.web.settings import PortalSettings

if TYPE_CHECKING:
    from sluss.services import Services

__all__ = ["PortalSettings", "PublicKeys", "make_cards", "make_internal", "make_keys", "make_portal"]

STATIC = Path(__file__).parent / "static"


def make_portal(
    services: "Services",
    settings: PortalSettings,
    keys: PublicKeys,
    clock: Callable[[], datetime],
) -> web.Application:
    """The application of the portal. Run it without aiohttp's access log: paths hold personal links."""
    app = web.Application(middlewares=security.MIDDLEWARES, client_max_size=security.MAX_BODY_BYTES)
    app[SERVICES] = services
    app[SETTINGS] = settings
    app[KEYS] = keys
    app[CLOCK] = clock
    app[pages.TEMPLATES] = pages.environment()
    app.on_response_prepare.append(security.security_headers)
    app.router.add_routes(routes())
    return app


def make_cards(services: "Services", settings: PortalSettings) -> web.Application:
    """The application of the name that asks for a card. It believes what it is told: only nginx may reach it."""
    app = web.Application(middlewares=(security.request_id, security.error_page, security.trusted_proxy))
    app[SERVICES] = services
    app[SETTINGS] = settings
    app[BEHIND_NGINX] = True
    app[pages.TEMPLATES] = pages.environment()
    app.on_response_prepare.append(security.security_headers)
    app.router.add_get("/card/{handle}", smartcard.shown, name="card_shown", allow_head=False)
    return app


def routes() -> list[web.AbstractRouteDef]:
    """Every page. `security.PUBLIC` says which of them need no account, and the lists beside it whose others are."""
    link, meeting, invitation = "/i/{link}", "/meetings/{meeting}", "/invitations/{invitation}"
    managed = "/accounts/{account}"
    return [
        web.static("/static", STATIC, name="static"),
        web.get("/keys/jwks.json", keys_pages.jwks, name="jwks"),
        web.get("/keys/{kid_sha256:[0-9a-f]{64}}.pem", keys_pages.pem, name="pem"),
        web.post("/language", language.choose, name="language"),
        # The participant's
        web.get(link, participant.show, name="link"),
        web.get(f"{link}/code", participant.code_form, name="code"),
        web.post(f"{link}/code", participant.send_code, name="code"),
        web.post(f"{link}/verify", participant.verify, name="verify"),
        web.post(f"{link}/sign-in", sign_in.view, name="view_sign_in"),
        web.post(f"{link}/join/sign-in", sign_in.join, name="join_sign_in"),
        web.post(f"{link}/card", smartcard.view, name="view_card"),
        web.post(f"{link}/join/card", smartcard.join, name="join_card"),
        web.get("/card/{code}", smartcard.back, name="card_back"),
        web.post(f"{link}/answer", participant.answer, name="answer"),
        web.get(f"{link}/not-me", participant.not_me_done, name="not_me"),
        web.post(f"{link}/not-me", participant.not_me, name="not_me"),
        web.get(f"{link}/join/code", participant.join_code_form, name="join_code"),
        web.post(f"{link}/join/code", participant.send_join_code, name="join_code"),
        web.post(f"{link}/join/verify", participant.join_verify, name="join_verify"),
        web.post(f"{link}/passkey", passkeys.begin, name="passkey"),
        web.post(f"{link}/passkey/verify", passkeys.verify, name="passkey_verify"),
        web.post(f"{link}/passkey/new", passkeys.begin_adding, name="passkey_new"),
        web.post(f"{link}/passkey/add", passkeys.add, name="passkey_add"),
        web.post(f"{link}/passkey/remove", passkeys.forget, name="passkey_remove"),
        web.post(f"{link}/join/passkey", passkeys.begin_join, name="join_passkey"),
        web.post(f"{link}/join/passkey/verify", passkeys.join_verify, name="join_passkey_verify"),
        web.get(f"{link}/totp", authenticators.code_form, name="totp"),
        web.post(f"{link}/totp", authenticators.verify, name="totp"),
        web.get(f"{link}/join/totp", authenticators.join_code_form, name="join_totp"),
        web.post(f"{link}/join/totp", authenticators.join_verify, name="join_totp"),
        web.get(f"{link}/totp/new", authenticators.adding_form, name="totp_new"),
        web.post(f"{link}/totp/add", authenticators.add, name="totp_add"),
        web.post(f"{link}/totp/remove", authenticators.forget, name="totp_remove"),
        web.get(f"{link}/bankid", bankid.page, name="bankid"),
        web.post(f"{link}/bankid", bankid.start, name="bankid"),
        web.get(f"{link}/bankid/qr", bankid.qr, name="bankid_qr"),
        web.post(f"{link}/bankid/collect", bankid.collect, name="bankid_collect"),
        web.post(f"{link}/bankid/cancel", bankid.cancel, name="bankid_cancel"),
        web.get(f"{link}/join/bankid", bankid.page, name="join_bankid"),
        web.post(f"{link}/join/bankid", bankid.start, name="join_bankid"),
        web.get(f"{link}/join/bankid/qr", bankid.qr, name="join_bankid_qr"),
        web.post(f"{link}/join/bankid/collect", bankid.collect, name="join_bankid_collect"),
        web.post(f"{link}/join/bankid/cancel", bankid.cancel, name="join_bankid_cancel"),
        web.get(f"{link}/ldap", directory.form, name="ldap"),
        web.post(f"{link}/ldap", directory.verify, name="ldap"),
        web.get(f"{link}/join/ldap", directory.form, name="join_ldap"),
        web.post(f"{link}/join/ldap", directory.verify, name="join_ldap"),
        web.get("/bankid/{nonce}", bankid.returned, name="bankid_returned"),
        web.get(f"{link}/room", room.participant_room, name="room"),
        web.post(f"{link}/ticket", room.participant_ticket, name="ticket"),
        web.get(f"{link}/here", room.participant_here, name="here"),
        web.get(f"{link}/outside", room.participant_outside, name="outside"),
        # The organisation's own sign-in
        web.get("/sign-in/back", sign_in.back, name="sign_in_back"),
        web.post("/sign-in/logout", sign_in.logout, name="provider_logout"),
        web.post("/sign-in/provider", sign_in.organiser, name="organiser_sign_in"),
        # The organiser's
        web.get("/enrol/{token}", organiser.enrol_form, name="enrol"),
        web.post("/enrol/{token}", organiser.enrol, name="enrol"),
        web.get("/sign-in", organiser.sign_in_form, name="sign_in"),
        web.post("/sign-in", organiser.sign_in, name="sign_in"),
        web.get("/sign-in/code", organiser.sign_in_code_form, name="sign_in_code"),
        web.post("/sign-in/code", organiser.sign_in_code, name="sign_in_code"),
        web.post("/sign-in/passkey", passkeys.begin_sign_in, name="sign_in_passkey"),
        web.post("/sign-in/passkey/verify", passkeys.sign_in, name="sign_in_passkey_verify"),
        web.post("/sign-out", organiser.sign_out, name="sign_out"),
        web.post("/sign-out/everywhere", organiser.sign_out_everywhere, name="sign_out_everywhere"),
        web.get("/prove", account.prove_form, name="prove"),
        web.post("/prove/sign-in", sign_in.prove, name="prove_sign_in"),
        web.get("/account", account.show, name="account"),
        web.post("/account", account.prove_by_code, name="account"),
        web.post("/account/authenticators", account.begin_authenticator, name="account_authenticators"),
        web.get("/account/authenticators/new", account.new_authenticator, name="account_authenticators_confirm"),
        web.post("/account/authenticators/new", account.confirm_authenticator, name="account_authenticators_confirm"),
        web.post(
            "/account/authenticators/{authenticator}/remove",
            account.remove_authenticator,
            name="account_authenticators_remove",
        ),
        web.post("/account/passkey", passkeys.begin_own, name="account_passkey"),
        web.post("/account/passkey/verify", account.prove_by_passkey, name="account_passkey_verify"),
        web.post("/account/passkeys/new", passkeys.begin_adding_own, name="account_passkeys_new"),
        web.post("/account/passkeys/add", passkeys.add_own, name="account_passkeys_add"),
        web.post("/account/passkeys/{passkey}/remove", passkeys.remove_own, name="account_passkeys_remove"),
        web.get("/", organiser.meetings, name="meetings"),
        web.get("/meetings/new", organiser.new_meeting_form, name="new_meeting"),
        web.post("/meetings/new", organiser.new_meeting, name="new_meeting"),
        web.get(meeting, organiser.meeting, name="meeting"),
        web.post(f"{meeting}/participants", organiser.invite, name="invite"),
        web.post(f"{meeting}/unlock", organiser.unlock_meeting, name="unlock_meeting"),
        web.post(f"{meeting}/end", organiser.end, name="end"),
        web.post(f"{meeting}/withdraw", organiser.withdraw_all, name="withdraw_all"),
        web.get(f"{meeting}/verify", organiser.verify_form, name="organiser_verify"),
        web.post(f"{meeting}/verify", organiser.verify, name="organiser_verify"),
        web.post(f"{meeting}/sign-in", sign_in.meeting, name="meeting_sign_in"),
        web.post(f"{meeting}/passkey", passkeys.begin_own, name="organiser_passkey"),
        web.post(f"{meeting}/passkey/verify", passkeys.verify_organiser, name="organiser_passkey_verify"),
        web.post(f"{meeting}/attendance/passkey", passkeys.verify_organiser, name="attendance_passkey"),
        web.get(f"{meeting}/attendance", organiser.attendance, name="attendance"),
        web.post(f"{meeting}/attendance", organiser.verify_for_attendance, name="attendance"),
        web.get(f"{meeting}/attendance.csv", organiser.attendance_csv, name="attendance_csv"),
        web.get(f"{meeting}/attendance.jws", organiser.attendance_receipt, name="attendance_receipt"),
        web.get(f"{meeting}/room", room.organiser_room, name="organiser_room"),
        web.post(f"{meeting}/ticket", room.organiser_ticket, name="organiser_ticket"),
        web.get(f"{meeting}/here", room.organiser_here, name="organiser_here"),
        web.get(f"{meeting}/outside", room.organiser_outside, name="organiser_outside"),
        web.post(f"{invitation}/resend", organiser.resend, name="resend"),
        web.post(f"{invitation}/number", numbers.change, name="number"),
        web.post(f"{invitation}/withdraw", organiser.withdraw, name="withdraw"),
        web.post(f"{invitation}/unlock", organiser.unlock, name="unlock"),
        web.post(f"{invitation}/put-out", organiser.put_out, name="put_out"),
        # The auditor's
        web.get("/audit", auditor.meetings, name="audit"),
        web.get("/audit/log", auditor.log, name="audit_log"),
        web.get("/audit/{meeting}", auditor.attendance, name="audited_attendance"),
        # The admin's
        web.get("/accounts", admin.accounts, name="accounts"),
        web.post("/accounts", admin.invite, name="accounts_invite"),
        web.get(managed, admin.account, name="managed_account"),
        web.post(f"{managed}/link", admin.send_link, name="managed_account_link"),
        web.post(f"{managed}/unlock", admin.unlock, name="managed_account_unlock"),
        web.post(f"{managed}/reset", admin.reset, name="managed_account_reset"),
        web.post(f"{managed}/remove", admin.remove, name="managed_account_remove"),
    ]
