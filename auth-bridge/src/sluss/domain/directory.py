"""People in the organisation's directory, as it describes them."""

from dataclasses import dataclass

SHORTEST_QUERY = 2
"""So many letters a search for colleagues has at least."""
MOST_FOUND = 20
"""So many it shows at most."""


@dataclass(frozen=True, slots=True)
class Colleague:
    """An entry that the settings call a person who may sign in."""

    id: str
    """Never changes and is never given to anybody else: `entryUUID` (RFC 4530) or `objectGUID`."""
    dn: str
    """Its name today (RFC 4514)."""
    name: str
    emails: tuple[str, ...]
    """The first is the one that mail goes to."""
    mobile: str
    roles: frozenset[str] = frozenset()
    """Of `organiser` and `auditor` what its groups make it."""

    @property
    def email(self) -> str:
        """Where mail goes; nothing if it has no address."""
        return self.emails[0] if self.emails else ""
