"""The graph over HTTP: https://graphql.github.io/graphql-over-http."""

from collections.abc import Mapping
from typing import Annotated, Any, cast

from fastapi import APIRouter, Depends, Query, Request, Response
from fastapi.responses import JSONResponse
from pydantic import BaseModel, ConfigDict, Field
from sqlalchemy.ext.asyncio import AsyncSession

from storefront.errors import BadQuery
from storefront.graphql.persisted import PATH, hash_in
from storefront.graphql.service import Answer
from storefront.parts import Parts
from storefront.reference.document import answers

Text = Annotated[str | None, Query(max_length=4_000)]


class Operation(BaseModel):
    """A query, or the hash of a persisted one among the extensions."""

    model_config = ConfigDict(populate_by_name=True)

    query: Annotated[str | None, Field(max_length=4_000)] = None
    variables: dict[str, Any] | None = None
    operation_name: Annotated[str | None, Field(alias="operationName", max_length=200)] = None
    extensions: dict[str, Any] | None = None


class Result(BaseModel):
    """What a query has come to: `data`, `errors`, or both."""

    data: dict[str, Any] | None = None
    errors: list[dict[str, Any]] | None = None


class GraphResponse(JSONResponse):
    """An answer, which keeps its tags for the cache. What has errors is true for nobody else, and not for long."""

    media_type = "application/graphql-response+json"

    def __init__(self, answer: Answer) -> None:
        self.tags = answer.tags
        kept = {} if "errors" not in answer.body else {"Cache-Control": "no-store"}
        super().__init__(answer.body, 200 if answer.ran else 400, kept)


REFUSED: dict[int | str, dict[str, Any]] = {
    400: {
        "description": "Not a query of ours, or no query at all.",
        "content": {GraphResponse.media_type: {"schema": {"$ref": "#/components/schemas/Result"}}},
    },
    **answers(404),
}


def router(parts: Parts) -> APIRouter:
    """Build the routes of one application."""
    routes = APIRouter(tags=["graphql"])
    per_request = Depends(parts.database.session)
    graph, shape = parts.graph, parts.graph.shape

    def key(_request: Request) -> str:
        return shape

    @routes.get(PATH, response_class=GraphResponse, status_code=200, response_model=Result, responses=REFUSED)
    @parts.cache.response(ttl="1m", stale_while_revalidate=30, tags=_tags, key=key)
    async def read_graph(
        session: Annotated[AsyncSession, per_request],
        extensions: Text = None,
        variables: Text = None,
        query: Annotated[str | None, Query(deprecated=True)] = None,
    ) -> Response:
        """Run a persisted query. What was read decides by which tags its answer falls."""
        asked = graph.persisted.read(extensions, variables, query)
        return GraphResponse(await graph.run(session, asked.text, asked.variables))

    @routes.post(PATH, response_class=GraphResponse, status_code=200, response_model=Result, responses=REFUSED)
    async def query_graph(wanted: Operation, session: Annotated[AsyncSession, per_request]) -> Response:
        """Run any query, within bounds. It is never stored."""
        answered = GraphResponse(await graph.run(session, _text(wanted), wanted.variables or {}, wanted.operation_name))
        answered.headers["Cache-Control"] = "no-store"
        return answered

    def _text(wanted: Operation) -> str:
        digest = hash_in(wanted.extensions or {})
        if wanted.query:
            return wanted.query
        if digest is None:
            raise BadQuery("there is no query")
        return graph.persisted.find(digest)[0]

    return routes


def _tags(_arguments: Mapping[str, Any], answered: object) -> list[str]:
    return sorted(cast("GraphResponse", answered).tags)
