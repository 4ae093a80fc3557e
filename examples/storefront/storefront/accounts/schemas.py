"""What accounts take and give."""

from typing import Annotated, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, model_validator

from storefront.accounts.models import Role


class Token(BaseModel):
    """An access token and what renews it, RFC 6749 §5.1. `expires_in` is in seconds."""

    access_token: str
    token_type: Literal["bearer"] = "bearer"  # noqa: S105 - a kind, not a secret
    expires_in: int
    scope: str
    refresh_token: str


class UserOut(BaseModel):
    """Somebody with an account."""

    model_config = ConfigDict(from_attributes=True)

    id: int
    name: str
    full_name: str
    scopes: str
    role: Role


class UserChange(BaseModel):
    """Other scopes, another role, or both."""

    model_config = ConfigDict(extra="forbid")

    scopes: Annotated[str | None, Field(max_length=200, pattern=r"^[a-z:]*( [a-z:]+)*$")] = None
    role: Role | None = None

    @model_validator(mode="after")
    def _changes_something(self) -> Self:
        if self.scopes is None and self.role is None:
            raise ValueError("give scopes, a role, or both")
        return self
