"""What accounts give."""

from typing import Literal

from pydantic import BaseModel, ConfigDict


class Token(BaseModel):
    """An access token, RFC 6749 §5.1. `expires_in` is in seconds."""

    access_token: str
    token_type: Literal["bearer"] = "bearer"  # noqa: S105 - a kind, not a secret
    expires_in: int
    scope: str


class Me(BaseModel):
    """Whoever is asking."""

    model_config = ConfigDict(from_attributes=True)

    id: int
    name: str
    full_name: str
    scopes: str
