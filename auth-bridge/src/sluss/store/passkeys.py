"""Passkeys of organisers and of people who were invited."""

from base64 import b64decode, b64encode
from datetime import datetime

from sqlalchemy import Connection, Row, bindparam, delete, insert, select, update

from sluss.domain.assurance import Method
from sluss.domain.passkeys import Passkey
from sluss.store.rows import instant, instant_or_none, seconds
from sluss.store.schema import organisers, passkeys
from sluss.store.sealing import Sealer

_BY_ID = select(passkeys).where(passkeys.c.id == bindparam("id"))
_OF = select(passkeys).where(passkeys.c.owner == bindparam("owner")).order_by(passkeys.c.created_at, passkeys.c.id)
_COLUMN, _NAME = "passkeys.credential", "passkeys.name"


class PasskeyRepository:
    """Rows of `passkeys`."""

    def __init__(self, connection: Connection, sealer: Sealer) -> None:
        self._c = connection
        self._sealer = sealer

    def add(self, passkey: Passkey) -> bool:
        """Store a new one. False if there is one of this id already."""
        if self.get(passkey.id) is not None:
            return False
        self._c.execute(
            insert(passkeys).values(
                id=passkey.id,
                owner=passkey.owner,
                credential=self._sealer.seal(b64encode(passkey.credential).decode(), _COLUMN, passkey.id),
                sign_count=passkey.sign_count,
                enrolled_by=passkey.enrolled_by.value,
                enrolled_as=passkey.enrolled_as,
                created_at=seconds(passkey.created_at),
                model=passkey.model or None,
                name=self._sealer.seal(passkey.name, _NAME, passkey.id) if passkey.name else None,
            )
        )
        return True

    def get(self, passkey_id: str) -> Passkey | None:
        """By id."""
        row = self._c.execute(_BY_ID, {"id": passkey_id}).one_or_none()
        return self._passkey(row) if row else None

    def of(self, owner: str) -> list[Passkey]:
        """All of one person, oldest first."""
        return [self._passkey(row) for row in self._c.execute(_OF, {"owner": owner})]

    def use(self, passkey_id: str, sign_count: int, now: datetime) -> None:
        """Note a proof by it."""
        values = {"sign_count": sign_count, "used_at": seconds(now)}
        self._c.execute(update(passkeys).where(passkeys.c.id == passkey_id).values(values))

    def lock(self, passkey_id: str, now: datetime) -> None:
        """It proves nothing from now on."""
        self._c.execute(update(passkeys).where(passkeys.c.id == passkey_id).values(locked_at=seconds(now)))

    def remove(self, passkey_id: str) -> None:
        """Forget it."""
        self._c.execute(delete(passkeys).where(passkeys.c.id == passkey_id))

    def remove_all(self, owner: str) -> None:
        """Forget all of one person."""
        self._c.execute(delete(passkeys).where(passkeys.c.owner == owner))

    def purge(self, before: datetime) -> None:
        """Forget what invited people have not used since then. Organisers' stay until they remove them."""
        last = passkeys.c.used_at.is_(None) & (passkeys.c.created_at < seconds(before)) | (
            passkeys.c.used_at < seconds(before)
        )
        self._c.execute(delete(passkeys).where(last, passkeys.c.owner.not_in(select(organisers.c.id))))

    def _passkey(self, row: Row[tuple[object, ...]]) -> Passkey:
        r = row._mapping
        return Passkey(
            r["id"],
            r["owner"],
            b64decode(self._sealer.open(r["credential"], _COLUMN, r["id"])),
            r["sign_count"],
            Method(r["enrolled_by"]),
            r["enrolled_as"],
            instant(r["created_at"]),
            instant_or_none(r["used_at"]),
            instant_or_none(r["locked_at"]),
            r["model"] or "",
            self._sealer.open(r["name"], _NAME, r["id"]) if r["name"] else "",
        )
