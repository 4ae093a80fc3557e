"""Access tokens: JSON Web Tokens, signed with HS256."""

from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta

import jwt
from pydantic import BaseModel, ValidationError

from storefront.errors import NotAuthenticated

ALGORITHM = "HS256"
ISSUER = "storefront"
CLAIMS = ["exp", "iat", "iss", "sub", "scope", "sid"]


class Claims(BaseModel):
    """What a token of ours says: whose it is, what it permits, and of which session it is."""

    sub: int
    scope: str
    sid: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Tokens:
    """Issues and reads the tokens of one installation."""

    secret: str = field(repr=False)
    lifetime: timedelta

    def issue(self, user_id: int, scope: str, session_id: str) -> str:
        """Sign a token that is valid from now on, for the lifetime."""
        now = datetime.now(UTC)
        claims = {"iss": ISSUER, "sub": str(user_id), "scope": scope, "sid": session_id, "iat": now}
        # Ignored: PyJWT's types name classes of `cryptography`, which HS256 does not need.
        return jwt.encode({**claims, "exp": now + self.lifetime}, self.secret, ALGORITHM)  # pyright: ignore[reportUnknownMemberType]

    def read(self, token: str) -> Claims:
        """Verify a token, or raise `NotAuthenticated`."""
        try:
            # The algorithm is ours to name, never the token's.
            found = jwt.decode(  # pyright: ignore[reportUnknownMemberType]
                token, self.secret, algorithms=[ALGORITHM], issuer=ISSUER, options={"require": CLAIMS}
            )
            return Claims.model_validate(found)
        except (jwt.InvalidTokenError, ValidationError):
            raise NotAuthenticated(sent=True) from None
