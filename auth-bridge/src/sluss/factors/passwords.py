"""Passwords: argon2id (RFC 9106, low-memory profile), at least 12 characters, none that is common or guessable."""

import asyncio
from concurrent.futures import ThreadPoolExecutor

from argon2 import PasswordHasher
from argon2.exceptions import VerificationError

from sluss.domain.errors import InvalidInput

MIN_LENGTH = 12
MAX_LENGTH = 256
_MIN_SCORE = 3
_GUESS_LENGTH = 72
_AT_ONCE = 2


def check_strength(password: str, personal: list[str]) -> None:
    """Refuse what is short, common or built from `personal` words. Raises `InvalidInput`."""
    if len(password) < MIN_LENGTH:
        raise InvalidInput("password", "A password needs at least 12 characters.")
    if len(password) > MAX_LENGTH:
        raise InvalidInput("password", "A password can have at most 256 characters.")
    # Imported here: its word lists are large, and passwords are chosen rarely.
    from zxcvbn import zxcvbn  # noqa: PLC0415

    if zxcvbn(password[:_GUESS_LENGTH], user_inputs=personal)["score"] < _MIN_SCORE:
        raise InvalidInput("password", "This password is common or easy to guess. Choose another.")


class Passwords:
    """Makes and checks password hashes, off the event loop and not too many at once: each takes 64 MiB."""

    def __init__(self) -> None:
        self._hasher = PasswordHasher()
        # Threads of its own: those of the event loop wait for name servers, all of them when those are away.
        self._threads = ThreadPoolExecutor(_AT_ONCE, thread_name_prefix="passwords")
        self._nobody: str | None = None

    async def hash(self, password: str) -> str:
        """The PHC string to store."""
        return await asyncio.get_running_loop().run_in_executor(self._threads, self._hasher.hash, password)

    async def verify(self, stored: str | None, password: str) -> bool:
        """Whether it is right. Takes as long when there is nothing to compare with."""
        loop = asyncio.get_running_loop()
        return await loop.run_in_executor(self._threads, self._verify, stored, password[:MAX_LENGTH])

    def _verify(self, stored: str | None, password: str) -> bool:
        if self._nobody is None:
            self._nobody = self._hasher.hash("nobody's password")
        try:
            return self._hasher.verify(stored or self._nobody, password) and stored is not None
        except VerificationError:
            return False
