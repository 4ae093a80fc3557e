"""What the OpenAPI document says beyond what FastAPI reads from the routes: errors, and examples.

Which errors an operation answers follows from what it is: one with a body may get one that is too large, one with a
token one that is not valid. What cannot be seen from outside a route says itself: `responses=answers(409)`.
"""

from collections.abc import Iterator
from http import HTTPStatus
from typing import Annotated, Any

from fastapi import FastAPI
from pydantic import BaseModel, Field

from storefront.reference.examples import EXAMPLES, PROBLEMS

Object = dict[str, Any]

JSON = "application/json"


class Problem(BaseModel):
    """What went wrong, RFC 9457. Its type is `about:blank`: the status says it all."""

    title: Annotated[str, Field(description="The phrase of the status.")]
    status: Annotated[int, Field(ge=400, le=599)]
    detail: Annotated[str, Field(description="What is wrong with this request, for people.")]
    errors: Annotated[list["Misfit"] | None, Field(description="With 422: which values do not fit.")] = None
    error: Annotated[str | None, Field(description="From the token endpoint: its code, RFC 6749 §5.2.")] = None


class Misfit(BaseModel):
    """A value that does not fit."""

    loc: Annotated[list[str | int], Field(description="Where it is.")]
    msg: str
    type: str


def _field(description: str, *, kind: str = "string", required: bool = False) -> Object:
    return {"description": description, "required": required, "schema": {"type": kind}}


HEADERS: dict[int, Object] = {
    401: {"WWW-Authenticate": _field("How to ask: RFC 6750 §3.", required=True)},
    403: {"WWW-Authenticate": _field("The scope that is missing, where it is one: RFC 6750 §3.1.")},
    429: {"Retry-After": _field("Seconds until then.", kind="integer", required=True)},
}


def answers(*statuses: int) -> dict[int | str, dict[str, Any]]:
    """Say that a route answers with these problems, too."""
    return {status: {"description": HTTPStatus(status).phrase} for status in statuses}


def install(app: FastAPI) -> None:
    """Have the document of an application say it."""
    inner = app.openapi
    described: list[Object] = []

    def openapi() -> Object:
        document = inner()
        if not any(document is each for each in described):
            described[:] = [document]
            _describe(document)
        return document

    app.__dict__["openapi"] = openapi


def _describe(document: Object) -> None:
    schemas: Object = document.setdefault("components", {}).setdefault("schemas", {})
    made = Problem.model_json_schema(ref_template="#/components/schemas/{model}")
    schemas.update(made.pop("$defs"), Problem=made)
    for name, example in EXAMPLES.items():
        if name in schemas:
            schemas[name]["examples"] = [example]
    for path, item in document["paths"].items():
        for operation in item.values():
            _describe_errors(path, operation)
    for unused in ("HTTPValidationError", "ValidationError"):
        schemas.pop(unused, None)


def _describe_errors(path: str, operation: Object) -> None:
    responses: Object = operation["responses"]
    for status in _statuses(path, operation):
        responses.setdefault(str(status), {})
    for text, response in responses.items():
        if text == "422":
            response.clear()  # FastAPI's own, which is not what we send
        # What has a model of its own is no problem, nor what is said to have no content.
        own = response.get("content") == {} or JSON in response.get("content", ())
        if text.isdecimal() and int(text) >= HTTPStatus.BAD_REQUEST and not own:
            _add_problem(response, int(text))
    responses["default"] = {"description": "Anything else that went wrong."}
    _add_problem(responses["default"], None)


def _statuses(path: str, operation: Object) -> Iterator[int]:
    if path.startswith(("/api/", "/graphql")):
        yield 429
    if "requestBody" in operation:
        yield 413
    if any(parameter["in"] == "path" for parameter in operation.get("parameters", ())):
        yield 404
    for needed in operation.get("security", ()):
        yield 401
        if any(needed.values()):
            yield 403


def _add_problem(response: Object, status: int | None) -> None:
    content: Object = {"schema": {"$ref": "#/components/schemas/Problem"}}
    response.setdefault("content", {})["application/problem+json"] = content
    if status is not None:
        title = HTTPStatus(status).phrase
        response.setdefault("description", title)
        if status in PROBLEMS:
            content["example"] = {"title": title, "status": status, **PROBLEMS[status]}
        if status in HEADERS:
            response["headers"] = {**HEADERS[status], **response.get("headers", {})}
