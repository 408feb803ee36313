"""Fixtures of the unit tests."""

import pytest_asyncio
from hypothesis import settings
from tests.unit.world import build

settings.register_profile("sluss", deadline=None, database=None)  # a busy machine is slow, and leaves nothing behind
settings.load_profile("sluss")


@pytest_asyncio.fixture
async def world(tmp_path):
    """A whole installation, see world.py."""
    async with build(tmp_path, durable=False) as built:
        yield built
