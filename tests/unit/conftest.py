"""Fixtures of the unit tests."""

import pytest_asyncio
from tests.unit.world import build


@pytest_asyncio.fixture
async def world(tmp_path):
    """A whole installation, see world.py."""
    async with build(tmp_path, durable=False) as built:
        yield built
