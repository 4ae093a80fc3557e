"""What can go wrong in the domain. Services raise these; `problems` tells the client.

StorefrontError
├── NotFound           there is no such thing
├── Conflict           it does not go together with what there is
├── KeyReused          an idempotency key that names another request
├── Unavailable        a service of others that we need does not answer
├── TooOften           somebody has asked more often than they may
├── Busy               so many do the same that there is nothing left for one more
├── UnfitFile          a file of a kind that is not taken
├── TooSlow            a body that took too long to come in
├── BadCursor          a page cursor that we never gave, or gave for another order
├── BadQuery           a GraphQL request that is none, or asks for too much
├── NotAuthenticated   no token, or one that is not valid
├── MissingScope       a valid token that does not permit this
├── MissingRole        somebody who may not do this
├── InvalidGrant       wrong user name, password or refresh token
└── InvalidScope       a scope was asked for that the user does not have
"""


class StorefrontError(Exception):
    """The root of all errors of the domain."""


class NotFound(StorefrontError):  # noqa: N818 - read as "raise NotFound"
    """There is no such thing."""


class Conflict(StorefrontError):  # noqa: N818 - read as "raise Conflict"
    """It does not go together with what there is: too few in stock, one like it already."""


class KeyReused(StorefrontError):  # noqa: N818 - read as "raise KeyReused"
    """An idempotency key that names another request."""


class Unavailable(StorefrontError):  # noqa: N818 - read as "raise Unavailable"
    """A service of others that we need does not answer."""


class TooOften(StorefrontError):  # noqa: N818 - read as "raise TooOften"
    """Somebody has asked more often than they may; `seconds` from now they may again."""

    def __init__(self, seconds: int) -> None:
        super().__init__(f"too many requests: try again in {seconds} s")
        self.seconds = seconds


class Busy(StorefrontError):  # noqa: N818 - read as "raise Busy"
    """So many do the same that there is nothing left for one more, for now."""


class UnfitFile(StorefrontError):  # noqa: N818 - read as "raise UnfitFile"
    """A file of a kind that is not taken."""


class TooSlow(StorefrontError):  # noqa: N818 - read as "raise TooSlow"
    """A body that took too long to come in."""


class BadCursor(StorefrontError):  # noqa: N818 - read as "raise BadCursor"
    """A page cursor that we never gave, or gave for another order."""


class BadQuery(StorefrontError):  # noqa: N818 - read as "raise BadQuery"
    """A GraphQL request that is none, or asks for too much."""


class NotAuthenticated(StorefrontError):  # noqa: N818 - read as "raise NotAuthenticated"
    """A token was `sent` that is not valid, or none at all."""

    def __init__(self, *, sent: bool) -> None:
        super().__init__(
            "the token is not valid, or no longer" if sent else "this needs a token: see POST /api/v1/token"
        )
        self.sent = sent


class MissingScope(StorefrontError):  # noqa: N818 - read as "raise MissingScope"
    """The token is valid, but does not permit this: the scopes `needed`, separated by spaces."""

    def __init__(self, needed: str) -> None:
        super().__init__(f"this needs the scope {needed}")
        self.needed = needed


class MissingRole(StorefrontError):  # noqa: N818 - read as "raise MissingRole"
    """Somebody who is known, and may not do this: it is for the `role`."""

    def __init__(self, role: str) -> None:
        super().__init__(f"this is for the role {role}")


class InvalidGrant(StorefrontError):  # noqa: N818 - the name of RFC 6749 §5.2
    """The user name or the password is wrong; or the refresh token is."""


class InvalidScope(StorefrontError):  # noqa: N818 - the name of RFC 6749 §5.2
    """A scope was asked for that the user does not have."""
