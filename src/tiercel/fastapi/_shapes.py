"""The shape of a route's answer: two releases of a program whose answers differ in it share none of them."""

import inspect
from collections.abc import Callable
from functools import lru_cache
from typing import Any, Final

from pydantic import TypeAdapter
from pydantic.errors import PydanticUndefinedAnnotation, PydanticUserError
from pydantic.json_schema import GenerateJsonSchema, JsonSchemaValue

from tiercel._core import shapes
from tiercel._core.annotations import UNKNOWN, resolved

_REMEMBERED: Final = 4096
"""Schemas that are not worked out again when the routes are read again: a digest each."""

_SETTINGS: Final = (
    "response_model_include",
    "response_model_exclude",
    "response_model_by_alias",
    "response_model_exclude_unset",
    "response_model_exclude_defaults",
    "response_model_exclude_none",
)


class _Schema(GenerateJsonSchema):
    """Of a model, as far as it can be seen in an answer. What has no schema is named."""

    ignored_warning_kinds = {"skipped-choice", "non-serializable-default"}  # noqa: RUF012 - as it is declared there

    def default_schema(self, schema: Any) -> JsonSchemaValue:  # noqa: ANN401 - a core schema
        """Leave the default out: it may be the moment at which a process has begun, and another in the next."""
        return self.generate_inner(schema["schema"])

    def handle_invalid_for_json_schema(self, schema: Any, error_info: str) -> JsonSchemaValue:  # noqa: ANN401
        """Name the class; what Pydantic says of it may hold an address."""
        del error_info
        return {"python": [schema["type"], shapes.name_of(schema.get("cls"))]}


class _WithDefaults(_Schema):
    """Where a field may be left out for having its default, that is what a client takes it to have."""

    default_schema = GenerateJsonSchema.default_schema


def shape_of(route: Any, endpoint: Callable[..., Any], misled: Callable[[Exception], None]) -> bytes:  # noqa: ANN401
    """A digest of all that a route declares of how it answers.

    `misled` is told of what a class of the program's raises when it is asked for its schema; it is named then.
    """
    defaults = bool(route.response_model_exclude_defaults or route.response_model_exclude_unset)
    annotation, by_alias = _answer(route, endpoint), bool(route.response_model_by_alias)
    try:
        model = _remembered(annotation, by_alias=by_alias, defaults=defaults)
    except TypeError:  # an annotation that cannot be hashed
        model = _schema(annotation, by_alias=by_alias, defaults=defaults)
    if isinstance(model, Exception):
        misled(model)
    response_class = getattr(route.response_class, "value", route.response_class)  # a placeholder of FastAPI's, or not
    return shapes.digest(
        {
            "model": shapes.name_of(annotation) if isinstance(model, Exception) else model.hex(),
            "status": route.status_code,
            "class": shapes.name_of(response_class),
            **{name: getattr(route, name) for name in _SETTINGS},
        }
    )


def _answer(route: Any, endpoint: Callable[..., Any]) -> object:  # noqa: ANN401 - a route of FastAPI's, or a view of one
    """What it answers with: its model, what it yields, or else what the endpoint is annotated to return."""
    for found in (route.response_model, getattr(route, "stream_item_type", None)):
        if found is not None:
            return found
    owner = inspect.unwrap(endpoint)
    written = inspect.signature(endpoint).return_annotation
    annotation = resolved(written, owner)
    return written if annotation is UNKNOWN else annotation


def _schema(annotation: Any, *, by_alias: bool, defaults: bool) -> bytes | Exception:  # noqa: ANN401
    generator = _WithDefaults if defaults else _Schema
    try:
        adapter = TypeAdapter[Any](annotation)
        schema = adapter.json_schema(mode="serialization", by_alias=by_alias, schema_generator=generator)
    except (PydanticUserError, PydanticUndefinedAnnotation):  # a class that is no data: a response, say
        return shapes.digest({"name": shapes.name_of(annotation)})
    except Exception as error:  # noqa: BLE001 - of a class of the user's
        return error.with_traceback(None)
    return shapes.digest(schema)


_remembered = lru_cache(maxsize=_REMEMBERED)(_schema)
