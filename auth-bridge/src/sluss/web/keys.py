"""The public keys of tickets, for whoever wants Jitsi's own check as well."""

from aiohttp import web

from sluss.domain.errors import NotFound
from sluss.web.context import KEYS


async def jwks(request: web.Request) -> web.StreamResponse:
    """GET /keys/jwks.json: all of them (RFC 7517)."""
    return web.json_response(request.app[KEYS].jwks(), content_type="application/jwk-set+json")


async def pem(request: web.Request) -> web.StreamResponse:
    """GET /keys/<sha256 of kid>.pem: one of them, the way Jitsi's key server convention wants it."""
    key = request.app[KEYS].pem(request.match_info["kid_sha256"])
    if key is None:
        raise NotFound
    return web.Response(text=key, content_type="application/x-pem-file")
