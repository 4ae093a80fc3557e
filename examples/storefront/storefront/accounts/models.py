"""The tables of users and of their sessions."""

from datetime import datetime
from typing import Literal

from sqlalchemy import ForeignKey, String
from sqlalchemy.orm import Mapped, mapped_column

from storefront.database import Model, Moment

Role = Literal["customer", "admin"]


class User(Model):
    """Somebody with a password. `scopes` are separated by spaces, as OAuth writes them (RFC 6749 §3.3)."""

    __tablename__ = "users"

    id: Mapped[int] = mapped_column(primary_key=True)
    name: Mapped[str] = mapped_column(String(64), unique=True)
    full_name: Mapped[str] = mapped_column(String(200))
    password_hash: Mapped[str] = mapped_column(String(200))
    scopes: Mapped[str] = mapped_column(String(200))
    role: Mapped[Role] = mapped_column(String(16), server_default="customer")


class Session(Model):
    """What a login began. Its refresh token is good for one use, and only its hash is kept."""

    __tablename__ = "sessions"

    id: Mapped[str] = mapped_column(String(32), primary_key=True)
    user_id: Mapped[int] = mapped_column(ForeignKey("users.id"), index=True)
    scope: Mapped[str] = mapped_column(String(200))
    refresh_hash: Mapped[str] = mapped_column(String(64))
    expires_at: Mapped[datetime] = mapped_column(Moment)
    revoked: Mapped[bool]
