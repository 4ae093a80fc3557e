"""Stored responses that last no longer than the shape of what they hold."""

import json
from collections.abc import Callable
from hashlib import blake2b
from typing import Any, TypeVar, get_type_hints

from pydantic import TypeAdapter
from starlette.requests import Request

from tiercel import Cache

EndpointT = TypeVar("EndpointT", bound=Callable[..., Any])


def shaped(cache: Cache, **policy: Any) -> Callable[[EndpointT], EndpointT]:  # noqa: ANN401 - as `cache.response`
    """`cache.response`, keyed by the schema of what the endpoint returns, too.

    While a release is rolled out old and new processes share a store. Where the new one has changed a response model,
    neither may serve what the other has stored; where it has not, they go on sharing. Tags are the same in both, so an
    invalidation in one reaches what the other has stored: that is why this is a part of the key and not a namespace.
    """

    def decorate(endpoint: EndpointT) -> EndpointT:
        shape = shape_of(get_type_hints(endpoint, include_extras=True)["return"])

        def key(_request: Request) -> str:
            return shape

        return cache.response(**policy, key=key)(endpoint)

    return decorate


def shape_of(model: Any) -> str:  # noqa: ANN401 - any annotation
    """Name the JSON schema of a model: another one has another name."""
    schema = TypeAdapter[Any](model).json_schema(mode="serialization")
    return blake2b(json.dumps(schema, sort_keys=True).encode(), digest_size=8).hexdigest()
