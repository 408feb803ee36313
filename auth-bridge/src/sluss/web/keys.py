"""The public keys of tickets, for whoever wants Jitsi's own check as well; and taking other keys from root."""

import struct
from socket import SO_PEERCRED, SOL_SOCKET

from aiohttp import web

from sluss.domain.errors import ConfigError, NotFound, StoreUnavailable
from sluss.services.keys import Keys
from sluss.web.context import KEYS

ROOT = 0


async def jwks(request: web.Request) -> web.StreamResponse:
    """GET /keys/jwks.json: all of them (RFC 7517)."""
    return web.json_response(request.app[KEYS].jwks(), content_type="application/jwk-set+json")


async def pem(request: web.Request) -> web.StreamResponse:
    """GET /keys/<sha256 of kid>.pem: one of them, the way Jitsi's key server convention wants it."""
    key = request.app[KEYS].pem(request.match_info["kid_sha256"])
    if key is None:
        raise NotFound
    return web.Response(text=key, content_type="application/x-pem-file")


def make_keys(keys: Keys) -> web.Application:
    """The application of the socket at which root hands over another ring."""

    async def take(request: web.Request) -> web.StreamResponse:
        """PUT /: file name → PEM, in JSON. 400 says what is wrong with them."""
        if _asker(request) != ROOT:
            return web.Response(status=403, text="root only")
        try:
            pems = {str(name): str(pem).encode("ascii") for name, pem in (await request.json()).items()}
            return web.Response(text=await keys.take(pems))
        except (ConfigError, StoreUnavailable) as error:
            return web.Response(status=400, text=str(error))

    app = web.Application()
    app.router.add_put("/", take)
    return app


def _asker(request: web.Request) -> int:
    """The user who has connected, as the kernel says (unix(7), SO_PEERCRED)."""
    assert request.transport is not None  # noqa: S101 - there is one while it asks
    credentials = request.transport.get_extra_info("socket").getsockopt(SOL_SOCKET, SO_PEERCRED, struct.calcsize("3i"))
    return int(struct.unpack("3i", credentials)[1])
