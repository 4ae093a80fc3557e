"""Runs queries."""

import logging
from collections.abc import Mapping
from dataclasses import dataclass, field
from hashlib import blake2b
from typing import Any

import strawberry
from graphql import GraphQLError, build_schema, parse, validate
from sqlalchemy.ext.asyncio import AsyncSession
from strawberry.extensions import DisableIntrospection, MaskErrors, SchemaExtension
from strawberry.schema.config import StrawberryConfig
from strawberry.types import ExecutionContext

from storefront.errors import StorefrontError
from storefront.graphql.limits import Limited, too_large
from storefront.graphql.persisted import Persisted
from storefront.graphql.reading import Reading
from storefront.graphql.schemas import Query

_log = logging.getLogger("storefront.graphql")


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """What a query has come to, by which tags it falls, and whether it was run at all."""

    body: Mapping[str, Any]
    tags: frozenset[str]
    ran: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Graph:
    """The graph of one application."""

    production: bool
    persisted: Persisted = field(default_factory=Persisted.of_the_folder)
    _schema: "_Schema" = field(init=False)

    def __post_init__(self) -> None:
        """Build the schema, and try what is persisted on it."""
        extensions = [Limited, _masked, *([DisableIntrospection] if self.production else [])]
        # What it suggests for a field that there is not is the schema, bit by bit.
        config = StrawberryConfig(disable_field_suggestions=self.production)
        object.__setattr__(self, "_schema", _Schema(Query, config=config, extensions=extensions))
        schema = build_schema(self._schema.as_str())
        for text, _ in self.persisted.queries.values():
            if wrong := [*validate(schema, parse(text)), *too_large(parse(text), {})]:
                raise ValueError(f"a persisted query is not valid: {wrong[0].message}: {text}")

    @property
    def shape(self) -> str:
        """Name the schema. Another one has another name: no release answers with what another has stored."""
        return blake2b(self._schema.as_str().encode(), digest_size=8).hexdigest()

    async def run(
        self, session: AsyncSession, text: str, variables: Mapping[str, Any], operation: str | None = None
    ) -> Answer:
        """Run one query."""
        reading = Reading(session)
        result = await self._schema.execute(
            text, variable_values=dict(variables), context_value=reading, operation_name=operation
        )
        body: dict[str, Any] = {"data": result.data} if result.data is not None or not result.errors else {}
        if result.errors:
            body = {"errors": [error.formatted for error in result.errors], **body}
        return Answer(body=body, tags=frozenset(reading.tags), ran="data" in body)


class _Schema(strawberry.Schema):
    """Logs what went wrong on our side, and nothing of what clients do wrong."""

    def process_errors(self, errors: list[GraphQLError], execution_context: ExecutionContext | None = None) -> None:  # noqa: ARG002 - its signature
        for error in errors:
            if _unforeseen(error):
                _log.error("%s", error, exc_info=error.original_error)


def _masked() -> SchemaExtension:
    return MaskErrors(_unforeseen, "something went wrong on our side; it has been logged")


def _unforeseen(error: GraphQLError) -> bool:
    return error.original_error is not None and not isinstance(error.original_error, GraphQLError | StorefrontError)
