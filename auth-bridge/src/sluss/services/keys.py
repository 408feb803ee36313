"""The running bridge takes another ring of ticket keys, without a restart."""

from collections.abc import Mapping

import structlog

from sluss.domain.audit import ADMIN, Action
from sluss.keyring.tickets import TicketKeys, read_keys
from sluss.services.common import Ground

_log = structlog.get_logger()


class Keys:
    """The ring, for who looks after it."""

    def __init__(self, ground: Ground, keys: TicketKeys) -> None:
        self._g = ground
        self._keys = keys

    async def take(self, pems: Mapping[str, bytes]) -> str:
        """Sign and check with these from now on: file name → PEM. Returns the kid that signs.

        Raises `ConfigError`, and goes on with the ring before.
        """
        ring, now = read_keys(pems), self._g.clock()
        subject, kids = f"key:{ring.active_kid}", " ".join(ring.public)
        await self._g.store.run(
            lambda tx: self._g.audit.record(tx, now, Action.KEYS_CHANGED, actor=ADMIN, subject=subject, kids=kids)
        )
        self._keys.take(ring)
        _log.info("keys_changed", active=ring.active_kid, kids=kids)
        return ring.active_kid
