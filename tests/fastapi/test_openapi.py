"""What cached routes add to the OpenAPI document."""

from typing import Any

import httpx
from fastapi import APIRouter, FastAPI
from fastapi.openapi.utils import get_openapi

from tiercel import Cache

FIELDS = {"ETag", "Age", "Cache-Control", "Cache-Status"}


class Shop:
    def __init__(self) -> None:
        self.cache = Cache()
        self.app = FastAPI()
        self.cache.install(self.app)

    def responses(self, path: str, method: str = "get", app: FastAPI | None = None) -> dict[str, Any]:
        responses: dict[str, Any] = (app or self.app).openapi()["paths"][path][method]["responses"]
        return responses


def test_a_cached_route_shows_the_304_and_the_fields_of_the_cache() -> None:
    shop = Shop()

    @shop.app.get("/products/{product_id}")
    @shop.cache.response(ttl=60)
    def read(product_id: int) -> int:
        return product_id

    responses = shop.responses("/products/{product_id}")
    assert set(responses) == {"200", "304", "422"}
    assert set(responses["200"]["headers"]) == set(responses["304"]["headers"]) == FIELDS
    assert responses["200"]["content"]["application/json"]["schema"]["type"] == "integer"
    assert responses["200"]["headers"]["Age"]["schema"] == {"type": "integer"}


def test_other_routes_and_other_methods_are_left_alone() -> None:
    shop = Shop()

    def read() -> None: ...

    shop.app.add_api_route("/", read)
    shop.app.add_api_route("/x", shop.cache.response(ttl=60)(read), methods=["GET"])
    shop.app.add_api_route("/x", read, methods=["POST"])
    assert set(shop.responses("/")) == {"200"}
    assert "304" in shop.responses("/x")
    assert set(shop.responses("/x", "post")) == {"200"}


def test_what_the_user_says_of_a_response_stays() -> None:
    shop = Shop()
    mine = {"description": "Mine", "headers": {"ETag": {"description": "my tag", "schema": {"type": "string"}}}}

    @shop.app.get("/", responses={200: mine, 304: {"description": "My 304"}})
    @shop.cache.response(ttl=60)
    def read() -> None: ...

    responses = shop.responses("/")
    assert responses["304"] == {"description": "My 304"}
    assert responses["200"]["description"] == "Mine"
    assert responses["200"]["headers"]["ETag"]["description"] == "my tag"
    assert set(responses["200"]["headers"]) == FIELDS


def test_the_status_of_the_route_is_the_one_that_is_described() -> None:
    shop = Shop()

    @shop.app.get("/", status_code=203)
    @shop.cache.response(ttl=60)
    def read() -> None: ...

    responses = shop.responses("/")
    assert set(responses) == {"203", "304"}
    assert set(responses["203"]["headers"]) == FIELDS


def test_included_routes_and_mounted_applications_are_described_where_they_are() -> None:
    shop, router, inner = Shop(), APIRouter(), FastAPI()

    @router.get("/leaf")
    @shop.cache.response(ttl=60)
    def leaf() -> None: ...

    @inner.get("/leaf")
    @shop.cache.response(ttl=60)
    def inner_leaf() -> None: ...

    shop.app.include_router(router, prefix="/in")
    shop.app.mount("/mounted", inner)
    assert "304" in shop.responses("/in/leaf")
    assert "304" in shop.responses("/leaf", app=inner)


async def test_a_document_of_the_users_own_is_described_when_the_application_runs() -> None:
    shop = Shop()

    @shop.app.get("/")
    @shop.cache.response(ttl=60)
    def read() -> None: ...

    def mine() -> dict[str, Any]:
        return get_openapi(title="mine", version="1", routes=shop.app.routes)

    shop.app.openapi = mine  # type: ignore[method-assign]
    async with httpx.AsyncClient(transport=httpx.ASGITransport(app=shop.app), base_url="http://shop") as http:
        document = (await http.get("/openapi.json")).json()
    assert document["info"]["title"] == "mine"
    assert "304" in document["paths"]["/"]["get"]["responses"]


def test_a_document_that_is_asked_for_twice_is_the_same() -> None:
    shop = Shop()

    @shop.app.get("/")
    @shop.cache.response(ttl=60)
    def read() -> None: ...

    assert shop.app.openapi() == shop.app.openapi()
    before = shop.app.openapi()

    @shop.app.get("/other")
    @shop.cache.response(ttl=60)
    def other() -> None: ...

    assert set(shop.app.openapi()["paths"]) == {"/", "/other"}
    assert before["paths"]["/"] == shop.app.openapi()["paths"]["/"]


def test_a_route_that_is_hidden_from_the_document_stays_hidden() -> None:
    shop = Shop()

    @shop.app.get("/", include_in_schema=False)
    @shop.cache.response(ttl=60)
    def read() -> None: ...

    assert shop.app.openapi()["paths"] == {}
