"""Browsers that were sent elsewhere to prove who uses them, and logout tokens that were used."""

from datetime import datetime

from sqlalchemy import Connection, delete, insert
from sqlalchemy.dialects.sqlite import insert as upsert

from sluss.store.rows import instant, seconds
from sluss.store.schema import sign_ins, used_logouts
from sluss.store.sealing import Sealer


class SignInRepository:
    """Rows of `sign_ins` and `used_logouts`."""

    def __init__(self, connection: Connection, sealer: Sealer) -> None:
        self._c = connection
        self._sealer = sealer

    def put(self, state_hash: str, session_hash: str, errand: str, now: datetime) -> None:
        """Expect this browser back. The errand holds the personal link, so it is sealed."""
        sealed = self._sealer.seal(errand, "sign_ins.errand", state_hash)
        self._c.execute(
            insert(sign_ins).values(
                state_hash=state_hash, session_hash=session_hash, errand=sealed, created_at=seconds(now)
            )
        )

    def take(self, state_hash: str, session_hash: str) -> tuple[str, datetime] | None:
        """The errand with which this browser was sent, and when; only once."""
        query = (
            delete(sign_ins)
            .where(sign_ins.c.state_hash == state_hash, sign_ins.c.session_hash == session_hash)
            .returning(sign_ins.c.errand, sign_ins.c.created_at)
        )
        row = self._c.execute(query).one_or_none()
        return (self._sealer.open(row.errand, "sign_ins.errand", state_hash), instant(row.created_at)) if row else None

    def take_from_any(self, state_hash: str) -> tuple[str, str, datetime] | None:
        """The same with whose browser it is (the session's hash, errand, when), for whichever browser comes with it."""
        gone = delete(sign_ins).where(sign_ins.c.state_hash == state_hash)
        query = gone.returning(sign_ins.c.session_hash, sign_ins.c.errand, sign_ins.c.created_at)
        if (row := self._c.execute(query).one_or_none()) is None:
            return None
        return (
            row.session_hash,
            self._sealer.open(row.errand, "sign_ins.errand", state_hash),
            instant(row.created_at),
        )

    def use_logout(self, jti_hash: str, now: datetime) -> bool:
        """Use up a logout token. False if it was used before."""
        new = upsert(used_logouts).values(jti_hash=jti_hash, used_at=seconds(now)).on_conflict_do_nothing()
        return bool(self._c.execute(new).rowcount)

    def purge(self, before: datetime) -> None:
        """Forget what is long over."""
        self._c.execute(delete(sign_ins).where(sign_ins.c.created_at < seconds(before)))
        self._c.execute(delete(used_logouts).where(used_logouts.c.used_at < seconds(before)))
