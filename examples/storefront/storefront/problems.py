"""Errors as the client sees them: problem details, RFC 9457."""

from collections.abc import Mapping
from http import HTTPStatus
from typing import Any

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from sqlalchemy.exc import DBAPIError
from sqlalchemy.exc import TimeoutError as PoolTimeout
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect

from storefront.errors import (
    BadCursor,
    BadQuery,
    Busy,
    Conflict,
    InvalidGrant,
    InvalidScope,
    KeyReused,
    MissingRole,
    MissingScope,
    NotAuthenticated,
    NotFound,
    StorefrontError,
    TooOften,
    TooSlow,
    Unavailable,
    UnfitFile,
)
from tiercel import NotAcknowledged

STATUSES: Mapping[type[Exception], int] = {
    NotFound: 404,
    BadCursor: 400,
    BadQuery: 400,
    MissingRole: 403,
    Conflict: 409,
    KeyReused: 422,
    Unavailable: 503,
    Busy: 503,
    UnfitFile: 415,
    TooSlow: 408,
}
"""Of the errors that need no more than a status."""

FIELDS: Mapping[type[Exception], Mapping[str, str]] = {
    Busy: {"Retry-After": "5"},
    # The rest of the body may still be coming, and nobody wants it.
    UnfitFile: {"Connection": "close"},
    TooSlow: {"Connection": "close"},
}
"""Of those that have the same header fields each time."""


class Problem(JSONResponse):
    """A response of type `application/problem+json`; `more` are extension members, RFC 9457 §3.2.

    The title is the phrase of the status, as the type `about:blank` asks for.
    """

    media_type = "application/problem+json"

    def __init__(
        self,
        status: int,
        detail: str,
        *,
        headers: Mapping[str, str] | None = None,
        more: Mapping[str, Any] | None = None,
    ) -> None:
        title = HTTPStatus(status).phrase
        super().__init__({"title": title, "status": status, "detail": detail, **(more or {})}, status, headers)


def install(app: FastAPI) -> None:
    """Let `app` answer every error with a problem."""
    app.add_exception_handler(StorefrontError, _of_the_domain)
    app.add_exception_handler(RequestValidationError, _of_validation)
    app.add_exception_handler(HTTPException, _of_the_framework)
    app.add_exception_handler(PoolTimeout, _too_busy)
    app.add_exception_handler(ClientDisconnect, _gone)
    app.add_exception_handler(DBAPIError, _of_the_database)
    app.add_exception_handler(NotAcknowledged, _not_for_all)
    app.add_exception_handler(Exception, _unforeseen)


async def _of_the_domain(_request: Request, error: Exception) -> Problem:
    detail = str(error)
    match error:
        case NotAuthenticated(sent=sent):
            # RFC 6750 §3.1: who sent no token is not told of an error.
            challenge = 'Bearer error="invalid_token"' if sent else "Bearer"
            return Problem(401, detail, headers={"WWW-Authenticate": challenge})
        case MissingScope(needed=needed):
            challenge = f'Bearer error="insufficient_scope", scope="{needed}"'
            return Problem(403, detail, headers={"WWW-Authenticate": challenge})
        case TooOften():
            return too_often(error)
        case InvalidGrant():
            return _of_the_token_endpoint("invalid_grant", detail)
        case InvalidScope():
            return _of_the_token_endpoint("invalid_scope", detail)
        case _:
            return Problem(STATUSES[type(error)], detail, headers=FIELDS.get(type(error)))


def too_often(error: TooOften) -> Problem:
    """Tell when to come back. That is true now, and for this client: nobody is to store it."""
    headers = {"Retry-After": str(error.seconds), "Cache-Control": "no-store"}
    return Problem(429, str(error), headers=headers)


def _of_the_token_endpoint(code: str, detail: str) -> Problem:
    # The member `error` is what an OAuth client looks for, RFC 6749 §5.2.
    return Problem(400, detail, headers={"Cache-Control": "no-store"}, more={"error": code})


async def _of_validation(_request: Request, error: Exception) -> Problem:
    if not isinstance(error, RequestValidationError):
        raise error
    # Without `input`: it may be a password.
    errors = [{"loc": found["loc"], "msg": found["msg"], "type": found["type"]} for found in error.errors()]
    return Problem(422, "the request does not fit: see errors", more={"errors": errors})


async def _of_the_framework(_request: Request, error: Exception) -> Problem:
    if not isinstance(error, HTTPException):
        raise error
    return Problem(error.status_code, error.detail, headers=error.headers)


async def _too_busy(_request: Request, _error: Exception) -> Problem:
    return Problem(503, "too many are waiting for the database", headers={"Retry-After": "1"})


async def _gone(_request: Request, _error: Exception) -> Problem:
    return Problem(400, "the body broke off")  # for the log: there is nobody left to tell


async def _of_the_database(_request: Request, error: Exception) -> Problem:
    if not (isinstance(error, DBAPIError) and error.connection_invalidated):
        raise error
    return Problem(503, "the database has gone away: try again", headers={"Retry-After": "1"})


async def _not_for_all(_request: Request, _error: Exception) -> Problem:
    # Whether it was done nobody can tell the client; what was cached of it is of no use here, and soon elsewhere.
    return Problem(503, "not everybody could be told of this change: try again", headers={"Retry-After": "1"})


async def _unforeseen(_request: Request, _error: Exception) -> Problem:
    return Problem(500, "something went wrong on our side; it has been logged")
