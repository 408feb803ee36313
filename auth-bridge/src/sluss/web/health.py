"""The internal listener: alive, ready, metrics. Never reachable from outside."""

from typing import Protocol

from aiohttp import web
from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.exposition import CONTENT_TYPE_PLAIN_0_0_4


class Health(Protocol):
    """What can tell whether this bridge is ready."""

    async def check(self) -> dict[str, bool]:
        """Each part's name, and whether it works."""


def make_internal(health: Health, registry: CollectorRegistry) -> web.Application:
    """The application of the internal listener."""

    async def healthz(_: web.Request) -> web.StreamResponse:
        return web.Response(text="alive\n")

    async def readyz(_: web.Request) -> web.StreamResponse:
        parts = await health.check()
        return web.json_response(parts, status=200 if all(parts.values()) else 503)

    async def metrics(_: web.Request) -> web.StreamResponse:
        return web.Response(body=generate_latest(registry), headers={"Content-Type": CONTENT_TYPE_PLAIN_0_0_4})

    app = web.Application()
    app.router.add_get("/healthz", healthz)
    app.router.add_get("/readyz", readyz)
    app.router.add_get("/metrics", metrics)
    return app
