"""Passwords, hashed by argon2id with the parameters that pwdlib recommends."""

from functools import cached_property

from anyio import CapacityLimiter, to_thread
from pwdlib import PasswordHash

AT_ONCE = 4
"""Checks that run at the same time. Each takes 64 MiB: without a bound a flood of logins would take all memory."""


class Passwords:
    """Hashes and checks passwords, off the event loop."""

    def __init__(self) -> None:
        self._argon2 = PasswordHash.recommended()
        self._limit = CapacityLimiter(AT_ONCE)

    @cached_property
    def _nobody(self) -> str:
        return self._argon2.hash("the password of nobody")

    def hashed(self, password: str) -> str:
        """Hash a password for storing."""
        return self._argon2.hash(password)

    async def match(self, password: str, password_hash: str | None) -> bool:
        """Check a password. Without a hash the work is done all the same: the time does not tell who has an account."""
        return await to_thread.run_sync(self._match, password, password_hash, limiter=self._limit)

    def _match(self, password: str, password_hash: str | None) -> bool:
        matches = self._argon2.verify(password, password_hash or self._nobody)
        return matches and password_hash is not None
