"""What accounts do: let users in and out, and tell who is asking."""

import secrets
from collections.abc import Collection
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from hashlib import sha256

from sqlalchemy.ext.asyncio import AsyncSession

from storefront.accounts import queries
from storefront.accounts.identity import Identity, IdentityOf, session_tag, user_tag
from storefront.accounts.models import Session
from storefront.accounts.passwords import Passwords
from storefront.accounts.schemas import Token, UserChange, UserOut
from storefront.accounts.tokens import Claims, Tokens
from storefront.errors import InvalidGrant, InvalidScope, MissingScope, NotAuthenticated, NotFound
from tiercel import Cache


@dataclass(frozen=True, slots=True, kw_only=True)
class Accounts:
    """The accounts of one application. A session lasts for `lifetime`, unless it is refreshed or revoked."""

    passwords: Passwords
    tokens: Tokens
    cache: Cache
    identity_of: IdentityOf
    lifetime: timedelta

    async def log_in(self, session: AsyncSession, name: str, password: str, wanted: Collection[str]) -> Token:
        """Give tokens with the wanted scopes, with all of the user's when none is named (RFC 6749 §3.3)."""
        user = await queries.user_named(session, name)
        matches = await self.passwords.match(password, user.password_hash if user else None)
        if user is None or not matches:
            raise InvalidGrant("the user name or the password is wrong")
        owned = user.scopes.split()
        if not set(wanted) <= set(owned):
            raise InvalidScope(f"{name} has only these scopes: {user.scopes or 'none'}")
        secret = secrets.token_urlsafe(32)
        began = Session(
            id=secrets.token_hex(16),
            user_id=user.id,
            scope=" ".join(each for each in owned if each in wanted or not wanted),
            refresh_hash=_hashed(secret),
            expires_at=datetime.now(UTC) + self.lifetime,
            revoked=False,
        )
        session.add(began)
        await session.commit()
        return self._token(began, secret)

    async def refresh(self, session: AsyncSession, refresh_token: str) -> Token:
        """Trade a refresh token for new tokens; it is used up by that.

        One that was used before has been stolen from somebody: nobody knows from whom, so the session ends.
        """
        session_id, _, old = refresh_token.partition(".")
        new = secrets.token_urlsafe(32)
        going_on = await queries.rotate(session, session_id, _hashed(old), _hashed(new), datetime.now(UTC))
        if going_on is None:
            await self.log_out(session, session_id)
            raise InvalidGrant("the refresh token is not valid, or no longer")
        await session.commit()
        return self._token(going_on, new)

    async def log_out(self, session: AsyncSession, session_id: str) -> None:
        """Revoke a session. Nobody is let in by it any more when this returns."""
        if await queries.revoke(session, session_id):
            async with self.cache.mutation(session_tag(session_id)):
                await session.commit()

    async def users(self, session: AsyncSession) -> list[UserOut]:
        """Show all users."""
        return [UserOut.model_validate(user) for user in await queries.users(session)]

    async def change(self, session: AsyncSession, user_id: int, wanted: UserChange) -> UserOut:
        """Change what a user may do, or raise `NotFound`. It holds for tokens given before when this returns."""
        changed = await queries.change(session, user_id, wanted.model_dump(exclude_none=True))
        if changed is None:
            raise NotFound(f"there is no user {user_id}")
        async with self.cache.mutation(user_tag(user_id), "users"):
            await session.commit()
        return UserOut.model_validate(changed)

    async def identify(self, token: str | None, needed: Collection[str]) -> tuple[Identity, Claims]:
        """Tell whose token it is, or raise `NotAuthenticated`; `MissingScope` where it does not permit enough."""
        if token is None:
            raise NotAuthenticated(sent=False)
        claims = self.tokens.read(token)
        user = await self.identity_of(claims.sid)
        if user is None or user.id != claims.sub:
            raise NotAuthenticated(sent=True)
        # A scope that was taken from the user is gone from the tokens given before, too.
        if not set(needed) <= set(claims.scope.split()) & set(user.scopes.split()):
            raise MissingScope(" ".join(needed))
        return user, claims

    def _token(self, began: Session, secret: str) -> Token:
        return Token(
            access_token=self.tokens.issue(began.user_id, began.scope, began.id),
            expires_in=int(self.tokens.lifetime.total_seconds()),
            scope=began.scope,
            refresh_token=f"{began.id}.{secret}",
        )


def _hashed(secret: str) -> str:
    # No salt and no argon2: it is as long as a key, and nobody can guess it.
    return sha256(secret.encode()).hexdigest()
