"""The host under attack, and an open meeting for each file of attacks."""

from __future__ import annotations

import os
import secrets
from collections.abc import Iterator

import pytest
from tests.attacks.logs import everything_logged, secrets_logged
from tests.attacks.people import Insider, Meeting, Person, Site


@pytest.fixture(scope="session")
def site(host) -> Iterator[Site]:
    made = Site(host, Insider(host))
    yield made
    made.insider.close()
    if "SLUSS_HOST" not in os.environ:  # otherwise the run that started this one looks
        assert secrets_logged(everything_logged(made)) == set()


@pytest.fixture(scope="module")
def meeting(site: Site) -> Meeting:
    """An open meeting with two participants, Anna and Bo."""
    return site.organiser().meeting("Anna Lindberg", "Bo Ek", title=f"Budget {secrets.token_hex(4)}")


@pytest.fixture(scope="module")
def anna(meeting: Meeting) -> Person:
    return meeting.people[0]


@pytest.fixture(scope="module")
def bo(meeting: Meeting) -> Person:
    return meeting.people[1]
