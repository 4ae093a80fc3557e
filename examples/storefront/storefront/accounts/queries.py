"""All SQL of accounts."""

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any

from sqlalchemy import select, update
from sqlalchemy.ext.asyncio import AsyncSession

from storefront.accounts.models import Session, User


async def user_named(session: AsyncSession, name: str) -> User | None:
    """Find the user who logs in with this name."""
    return (await session.scalars(select(User).where(User.name == name))).one_or_none()


async def users(session: AsyncSession) -> Sequence[User]:
    """Read all users."""
    return (await session.scalars(select(User).order_by(User.id))).all()


async def change(session: AsyncSession, user_id: int, values: Mapping[str, Any]) -> User | None:
    """Change one user."""
    return (
        await session.scalars(update(User).where(User.id == user_id).values(**values).returning(User))
    ).one_or_none()


async def user_of(session: AsyncSession, session_id: str) -> User | None:
    """Read the user of a session that has not been revoked."""
    statement = select(User).join(Session).where(Session.id == session_id, Session.revoked.is_(False))
    return (await session.scalars(statement)).one_or_none()


async def rotate(session: AsyncSession, session_id: str, old: str, new: str, now: datetime) -> Session | None:
    """Put a new refresh token in the place of the old one: in one statement, so that only one caller can."""
    statement = (
        update(Session)
        .where(Session.id == session_id, Session.refresh_hash == old)
        .where(Session.revoked.is_(False), Session.expires_at > now)
        .values(refresh_hash=new)
        .returning(Session)
    )
    return (await session.scalars(statement)).one_or_none()


async def revoke(session: AsyncSession, session_id: str) -> bool:
    """End a session, and tell whether there was one to end."""
    statement = update(Session).where(Session.id == session_id, Session.revoked.is_(False)).values(revoked=True)
    return (await session.scalars(statement.returning(Session.id))).one_or_none() is not None
