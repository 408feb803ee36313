"""Authenticators of the staff, and what one admin has asked for and takes a second."""

from datetime import datetime

from sqlalchemy import Connection, Row, bindparam, delete, insert, literal_column, select, update

from sluss.domain.accounts import Act, Asked, Authenticator
from sluss.store.authenticators import unused
from sluss.store.rows import instant, instant_or_none, seconds
from sluss.store.schema import account_authenticators, admin_requests
from sluss.store.sealing import Sealer

_SECRET, _NAME = "organisers.totp_secret", "account_authenticators.name"
"""What they are sealed as. The first is what it was when there was one an organiser, and what is sealed stays so."""
_STEP = bindparam("now_step", type_=account_authenticators.c.step.type)
_USE = (
    update(account_authenticators)
    .where(account_authenticators.c.id == bindparam("which"), unused(account_authenticators.c.step, _STEP))
    .values(step=_STEP, drift=bindparam("now_drift"), used_at=bindparam("now"))
)


class AccountAuthenticatorRepository:
    """Rows of `account_authenticators`."""

    def __init__(self, connection: Connection, sealer: Sealer) -> None:
        self._c = connection
        self._sealer = sealer

    def add(self, authenticator_id: str, organiser_id: str, secret: str, name: str, now: datetime) -> None:
        """Store one that no code was given of yet."""
        self._c.execute(
            insert(account_authenticators).values(
                id=authenticator_id,
                organiser_id=organiser_id,
                name=self._sealer.seal(name, _NAME, authenticator_id) if name else None,
                secret=self._sealer.seal(secret, _SECRET, authenticator_id),
                created_at=seconds(now),
            )
        )

    def of(self, organiser_id: str) -> list[Authenticator]:
        """Those that prove something, oldest first."""
        return self._all(organiser_id, waiting=False)

    def waiting(self, organiser_id: str) -> Authenticator | None:
        """The one that waits for its first code."""
        found = self._all(organiser_id, waiting=True)
        return found[-1] if found else None

    def confirm(self, authenticator_id: str, now: datetime) -> None:
        """Its first code was right."""
        which = account_authenticators.c.id == authenticator_id
        self._c.execute(update(account_authenticators).where(which).values(confirmed_at=seconds(now)))

    def use_step(self, authenticator_id: str, step: int, drift: float, now: datetime) -> bool:
        """Use up a time step and remember the drift. False if it, or a later one, was used before."""
        values = {"which": authenticator_id, "now_step": step, "now_drift": drift, "now": seconds(now)}
        return bool(self._c.execute(_USE, values).rowcount)

    def remove(self, authenticator_id: str) -> None:
        """Forget it."""
        self._c.execute(delete(account_authenticators).where(account_authenticators.c.id == authenticator_id))

    def remove_waiting(self, organiser_id: str) -> None:
        """Forget those that no code was given of."""
        waiting = account_authenticators.c.confirmed_at.is_(None)
        self._c.execute(
            delete(account_authenticators).where(account_authenticators.c.organiser_id == organiser_id, waiting)
        )

    def remove_all(self, organiser_id: str) -> None:
        """Forget all of one account."""
        self._c.execute(delete(account_authenticators).where(account_authenticators.c.organiser_id == organiser_id))

    def _all(self, organiser_id: str, *, waiting: bool) -> list[Authenticator]:
        confirmed = account_authenticators.c.confirmed_at
        query = (
            select(account_authenticators)
            .where(account_authenticators.c.organiser_id == organiser_id)
            .where(confirmed.is_(None) if waiting else confirmed.is_not(None))
            .order_by(account_authenticators.c.created_at, literal_column("account_authenticators.rowid"))
        )
        return [self._authenticator(row) for row in self._c.execute(query)]

    def _authenticator(self, row: Row[tuple[object, ...]]) -> Authenticator:
        r = row._mapping
        return Authenticator(
            r["id"],
            r["organiser_id"],
            self._sealer.open(r["name"], _NAME, r["id"]) if r["name"] else "",
            self._sealer.open(r["secret"], _SECRET, r["id"]),
            r["step"],
            r["drift"],
            instant(r["created_at"]),
            instant_or_none(r["confirmed_at"]),
            instant_or_none(r["used_at"]),
        )


class AdminRequestRepository:
    """Rows of `admin_requests`: one an account."""

    def __init__(self, connection: Connection) -> None:
        self._c = connection

    def put(self, organiser_id: str, asked: Asked) -> None:
        """Note what was asked for, in place of what was before."""
        self.remove(organiser_id)
        self._c.execute(
            insert(admin_requests).values(
                organiser_id=organiser_id,
                act=asked.act.value,
                successor=asked.successor,
                asked_by=asked.by,
                asked_at=seconds(asked.at),
            )
        )

    def get(self, organiser_id: str) -> Asked | None:
        """What was last asked for, however long ago."""
        row = self._c.execute(select(admin_requests).where(admin_requests.c.organiser_id == organiser_id)).one_or_none()
        return Asked(Act(row.act), row.successor, row.asked_by, instant(row.asked_at)) if row else None

    def remove(self, organiser_id: str) -> None:
        """It was done, or is no longer asked for."""
        self._c.execute(delete(admin_requests).where(admin_requests.c.organiser_id == organiser_id))
