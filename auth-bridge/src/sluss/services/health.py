"""Whether this installation can let anybody in."""

from collections.abc import Callable

from sluss.domain.gate import Door
from sluss.services.common import Ground


class Health:
    """Asked by systemd, the monitoring and the admin."""

    def __init__(self, ground: Ground, door: Callable[[], Door] | None) -> None:
        """`door` is None where the configuration declares the gate away."""
        self._g = ground
        self._door = door

    async def check(self) -> dict[str, bool]:
        """Each part, and whether it works now. Ready means all of them."""
        parts = {"database": await self._g.store.alive()}
        if self._door is not None:
            parts["gate"] = self._door().connected
        return parts
