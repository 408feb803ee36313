"""Authenticators of people who were invited."""

from datetime import datetime

from sqlalchemy import BindParameter, Column, ColumnElement, Connection, Row, bindparam, delete, insert, select, update

from sluss.domain.assurance import Method
from sluss.domain.authenticators import Authenticator
from sluss.store.rows import instant, seconds
from sluss.store.schema import authenticators
from sluss.store.sealing import Sealer

STEPS_AT_ONCE = 2
"""Time steps that can be right at one moment, besides the first: factors/totp.py accepts one before and one after."""


def unused(last: Column[int], step: BindParameter[int]) -> ColumnElement[bool]:
    """Whether a time step may be used where `last` was the last: not if that is it, or later.

    A step further ahead than any window was used under a wrong clock, and locks nobody out until it comes.
    """
    return ~last.between(step, step + STEPS_AT_ONCE)


_COLUMN = "authenticators.secret"
_BY_ID = select(authenticators).where(authenticators.c.id == bindparam("id"))
_OF = select(authenticators).where(authenticators.c.owner == bindparam("owner"))
_USE = (
    update(authenticators)
    .where(
        authenticators.c.id == bindparam("which"),
        unused(authenticators.c.step, bindparam("now_step", type_=authenticators.c.step.type)),
    )
    .values(step=bindparam("now_step"), drift=bindparam("now_drift"), used_at=bindparam("now"))
)


class AuthenticatorRepository:
    """Rows of `authenticators`."""

    def __init__(self, connection: Connection, sealer: Sealer) -> None:
        self._c = connection
        self._sealer = sealer

    def put(self, one: Authenticator, now: datetime) -> None:
        """Store it in place of what its owner had."""
        self.remove(one.owner)
        self._c.execute(
            insert(authenticators).values(
                id=one.id,
                owner=one.owner,
                secret=self._sealer.seal(one.secret, _COLUMN, one.id),
                step=one.step,
                drift=one.drift,
                enrolled_by=one.enrolled_by.value,
                enrolled_as=one.enrolled_as,
                created_at=seconds(one.created_at),
                used_at=seconds(now),
            )
        )

    def get(self, authenticator_id: str) -> Authenticator | None:
        """By id."""
        row = self._c.execute(_BY_ID, {"id": authenticator_id}).one_or_none()
        return self._authenticator(row) if row else None

    def of(self, owner: str) -> Authenticator | None:
        """A person's."""
        row = self._c.execute(_OF, {"owner": owner}).one_or_none()
        return self._authenticator(row) if row else None

    def use_step(self, authenticator_id: str, step: int, drift: float, now: datetime) -> bool:
        """Use up a time step and remember the drift. False if it, or a later one, was used before."""
        values = {"which": authenticator_id, "now_step": step, "now_drift": drift, "now": seconds(now)}
        return bool(self._c.execute(_USE, values).rowcount)

    def remove(self, owner: str) -> None:
        """Forget a person's."""
        self._c.execute(delete(authenticators).where(authenticators.c.owner == owner))

    def purge(self, before: datetime) -> None:
        """Forget what was not used since then."""
        self._c.execute(delete(authenticators).where(authenticators.c.used_at < seconds(before)))

    def _authenticator(self, row: Row[tuple[object, ...]]) -> Authenticator:
        r = row._mapping
        return Authenticator(
            r["id"],
            r["owner"],
            self._sealer.open(r["secret"], _COLUMN, r["id"]),
            Method(r["enrolled_by"]),
            r["enrolled_as"],
            instant(r["created_at"]),
            r["step"],
            r["drift"],
        )
