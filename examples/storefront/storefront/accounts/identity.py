"""Who is asking: what a session's id stands for, remembered by the cache and forgotten when it changes."""

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from typing import Any

from storefront.accounts import queries
from storefront.accounts.models import Role
from storefront.database import Database
from tiercel import Cache

IdentityOf = Callable[[str], Awaitable["Identity | None"]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Identity:
    """A user, as what they may do is decided by. A dataclass: a store that others share can hold it."""

    id: int
    name: str
    full_name: str
    scopes: str
    role: Role


def session_tag(session_id: str) -> str:
    """Name what falls when a session is revoked."""
    return f"session:{session_id}"


def user_tag(user_id: int) -> str:
    """Name what falls when a user is changed."""
    return f"user:{user_id}"


def remembered(cache: Cache, database: Database) -> IdentityOf:
    """Make the lookup of one application. The workers that share its cache share what it finds.

    The list of what was revoked is the database; what the cache holds of it may get lost, and is looked up again.
    """
    find = cache.memoize(ttl="5m", key=_by_session, tags=_tags)(identity_of)

    async def remembering(session_id: str) -> Identity | None:
        return await find(database, session_id)

    return remembering


async def identity_of(database: Database, session_id: str) -> Identity | None:
    """Read whose session it is; None where it is nobody's, or has been revoked."""
    async with database.sessions() as session:
        user = await queries.user_of(session, session_id)
    if user is None:
        return None
    return Identity(id=user.id, name=user.name, full_name=user.full_name, scopes=user.scopes, role=user.role)


def _by_session(database: Database, session_id: str) -> str:  # noqa: ARG001 - the arguments of what is remembered
    return session_id


def _tags(arguments: Mapping[str, Any], found: Identity | None) -> list[str]:
    return [session_tag(arguments["session_id"]), *([user_tag(found.id)] if found else [])]
