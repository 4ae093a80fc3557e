"""What cached routes add to the OpenAPI document: the answer 304, and the fields that say what the cache did."""

from collections.abc import Callable
from typing import Any, Final, cast

from fastapi import FastAPI

from tiercel.fastapi._walk import Cached

_METHODS: Final = ("get", "head", "query")

_Object = dict[str, Any]


def _field(description: str, *, kind: str = "string") -> _Object:
    return {"description": description, "schema": {"type": kind}}


_FIELDS: Final[_Object] = {
    "ETag": _field("Names this version of the response. Send it back in If-None-Match. RFC 9110 §8.8.3"),
    "Age": _field("Seconds since the response was made or found valid. RFC 9111 §5.1", kind="integer"),
    "Cache-Control": _field("How long the client may use the response without asking again. RFC 9111 §5.2"),
    "Cache-Status": _field("What the cache did with the request, and why. RFC 9211"),
}


def describe(app: FastAPI, cached: Callable[[], tuple[Cached, ...]]) -> None:
    """Have an application's OpenAPI document describe its cached routes.

    As FastAPI has it done: by a function in the place of `app.openapi`. One that the user put there is still called.
    """
    if getattr(app.openapi, "__tiercel__", False):
        return
    inner = app.openapi

    def openapi() -> _Object:
        document = inner()
        for route in cached():
            if route.app is app:
                _describe_route(document, route)
        return document

    openapi.__dict__["__tiercel__"] = True
    app.__dict__["openapi"] = openapi


def _describe_route(document: _Object, route: Cached) -> None:
    path: _Object = document.get("paths", {}).get(route.path, {})
    for method in _METHODS:
        responses = path.get(method, {}).get("responses")
        if responses is not None and method.upper() in route.methods:
            _describe_responses(cast("_Object", responses), str(route.status_code or 200))


def _describe_responses(responses: _Object, status: str) -> None:
    if status in responses and "$ref" not in responses[status]:
        fields: _Object = responses[status].setdefault("headers", {})
        for name, field in _FIELDS.items():
            fields.setdefault(name, field)
    responses.setdefault(
        "304", {"description": "Not Modified: what the client holds is current.", "headers": {**_FIELDS}}
    )
