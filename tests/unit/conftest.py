"""Fixtures of the unit tests."""

import logging

import pytest
import pytest_asyncio
import structlog
from hypothesis import settings
from tests.unit.world import build

settings.register_profile("sluss", deadline=None, database=None)  # a busy machine is slow, and leaves nothing behind
settings.load_profile("sluss")


@pytest_asyncio.fixture
async def world(tmp_path):
    """A whole installation, see world.py."""
    async with build(tmp_path, durable=False) as built:
        yield built


@pytest.fixture(autouse=True)
def log_as_before():
    """Commands and the bridge configure the whole process's log; the next test shall not notice."""
    loggers = [logging.getLogger(name) for name in (None, "slixmpp", "aiohttp.access", "aiohttp.server")]
    before = [(x, x.handlers[:], x.filters[:], x.level, x.disabled) for x in loggers]
    configuration = structlog.get_config()
    yield
    for logger, handlers, filters, level, disabled in before:
        logger.handlers, logger.filters, logger.disabled = handlers, filters, disabled
        logger.setLevel(level)
    structlog.configure(**configuration)
