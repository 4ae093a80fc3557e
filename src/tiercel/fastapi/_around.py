"""What stands around the routes of an application, and may see more of a request than they are given."""

from typing import Any, Final, NamedTuple

FAMILIAR: Final = frozenset(
    {
        "starlette.middleware.cors",
        "starlette.middleware.gzip",
        "starlette.middleware.httpsredirect",
        "starlette.middleware.sessions",
        "starlette.middleware.trustedhost",
        "tiercel.asgi",
        "tiercel.fastapi._install",
    }
)
"""Modules whose middleware hands nothing on that it takes from the path or the query."""

_OWN_HANDLERS = frozenset({"fastapi.exception_handlers", "starlette.middleware.exceptions"})


class Around(NamedTuple):
    """What is known of it, from the outermost application inwards."""

    strangers: bool = False
    """There is middleware that may read the query for itself, and hand it on where nobody sees it."""
    handlers: bool = False
    """Code of the program's answers where an endpoint raises, and is given the whole request for that."""

    def within(self, mounted: object, app: Any) -> "Around":  # noqa: ANN401 - FastAPI, Starlette, Router
        """Inside of an application that is mounted, perhaps wrapped in something."""
        inner = around(app)
        return Around(self.strangers or inner.strangers or mounted is not app, self.handlers or inner.handlers)


def around(app: Any) -> Around:  # noqa: ANN401 - FastAPI, Starlette, Router
    """What stands around the routes of one application."""
    return Around(
        strangers=any(is_strange(middleware.cls) for middleware in getattr(app, "user_middleware", ())),
        handlers=any(_module(one) not in _OWN_HANDLERS for one in getattr(app, "exception_handlers", {}).values()),
    )


def is_strange(middleware: object) -> bool:
    """Whether it may do anything with a request."""
    return _module(middleware) not in FAMILIAR


def _module(found: object) -> str:
    return str(getattr(found, "__module__", ""))
