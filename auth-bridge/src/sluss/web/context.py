"""Typed keys: what the application holds, and what the middlewares find out about a request."""

from collections.abc import Callable
from datetime import datetime
from typing import TYPE_CHECKING, Any, Protocol

from aiohttp import web

from sluss.domain.meetings import Organiser
from sluss.web.settings import PortalSettings

if TYPE_CHECKING:
    from sluss.services import Services


class PublicKeys(Protocol):
    """The public halves of the ticket keys."""

    def jwks(self) -> dict[str, Any]:
        """All of them as a JWK set (RFC 7517)."""

    def pem(self, kid_sha256: str) -> str | None:
        """The one whose `kid` has this SHA-256 in hex, as PEM."""


SERVICES: web.AppKey["Services"] = web.AppKey("services")
SETTINGS = web.AppKey("settings", PortalSettings)
KEYS: web.AppKey[PublicKeys] = web.AppKey("keys")
BEHIND_NGINX = web.AppKey("behind_nginx", bool)
"""Whether nothing but nginx reaches this application: its socket is for nginx alone."""
CLOCK: web.AppKey[Callable[[], datetime]] = web.AppKey("clock")

REQUEST_ID = web.RequestKey("request_id", str)
ADDRESS = web.RequestKey("address", str)
SESSION = web.RequestKey("session", str)
NEW_SESSION = web.RequestKey("new_session", bool)
ORGANISER = web.RequestKey("organiser", Organiser)


def route_name(request: web.Request) -> str:
    """The name of the route, which is what the log carries: a path may hold a personal link."""
    return request.match_info.route.name or "-"


def wants_json(request: web.Request) -> bool:
    """Whether a script asks, and not a person's browser by itself."""
    return "application/json" in request.headers.get("Accept", "")
