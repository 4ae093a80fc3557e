"""What the README says about how an application is put together."""

import importlib
import sys
from pathlib import Path
from typing import Any

import httpx
import pytest
from fastapi import APIRouter, FastAPI
from httpx import AsyncClient, Response
from shop_client import client_of, is_hit, lifespan, sqlite
from sqlalchemy import event
from sqlalchemy.ext.asyncio import AsyncEngine
from starlette.types import ASGIApp

from storefront.main import assembled
from storefront.parts import Parts
from storefront.schema import WrongTables
from storefront.settings import Settings, settings_of_the_environment
from tiercel import Cache


def test_the_environment_is_read_once(monkeypatch: pytest.MonkeyPatch) -> None:
    first = settings_of_the_environment()
    monkeypatch.setenv("STOREFRONT_CACHE_URL", "redis://elsewhere")
    assert settings_of_the_environment() is first


def connections(parts: Parts) -> list[object]:
    """Grow and shrink with the connections to the database that are open."""
    opened: list[object] = []

    def connected(raw: object, _record: object) -> None:
        opened.append(raw)

    def closed(raw: object, _record: object) -> None:
        opened.remove(raw)

    event.listen(parts.database.engine.sync_engine, "connect", connected)
    event.listen(parts.database.engine.sync_engine, "close", closed)
    return opened


async def test_what_a_start_opens_its_end_closes(settings: Settings) -> None:
    parts = Parts.made_for(settings)
    opened = connections(parts)
    async with lifespan(assembled(parts)):
        assert len(opened) == 1
        assert not parts.http.is_closed
    assert opened == []
    assert parts.http.is_closed


async def test_a_start_that_fails_half_way_closes_what_it_has_opened(tmp_path: Path) -> None:
    parts = Parts.made_for(sqlite(tmp_path / "without-tables.db"))
    opened = connections(parts)
    app = assembled(parts)
    with pytest.raises(WrongTables, match=r"at revision none, and this release needs 0\d+. Run `python -m"):
        async with app.router.lifespan_context(app):
            pass
    assert opened == []
    assert parts.http.is_closed


def test_importing_the_application_creates_nothing() -> None:
    importlib.import_module("storefront.main")
    modules = [module for name, module in sys.modules.items() if name.startswith("storefront")]
    made = [
        f"{module.__name__}.{name}"
        for module in modules
        for name, value in vars(module).items()
        if isinstance(value, FastAPI | APIRouter | AsyncEngine | Cache | Settings | httpx.AsyncClient)
    ]
    assert len(modules) > 10
    assert made == []


VERSIONED = ("/products/1", "/products?cut=Ideal&limit=1")


@pytest.mark.parametrize("url", VERSIONED)
async def test_versions_of_the_api_never_share_an_entry(app: ASGIApp, shop: AsyncClient, url: str) -> None:
    async with client_of(app, "v2") as other:
        answers = [await each.get(url) for each in (shop, other, shop, other)]
    assert [is_hit(answer) for answer in answers] == [False, False, True, True]
    first, second = (product(answer) for answer in answers[2:])
    assert (first["price"], second["price"]) == (326, {"amount": 326, "currency": "USD"})


@pytest.mark.parametrize("url", VERSIONED)
async def test_a_change_in_one_version_is_seen_in_the_other(
    app: ASGIApp, shop: AsyncClient, alice: dict[str, str], url: str
) -> None:
    async with client_of(app, "v2") as other:
        for each in (shop, other):
            await each.get(url)
        changed = await other.patch("/products/1", json={"price": 331}, headers=alice)
        seen = [product(await each.get(url)) for each in (shop, other)]
    assert seen[1] == changed.json()
    assert seen[0]["price"] == seen[1]["price"]["amount"] == 331


def product(answer: Response) -> dict[str, Any]:
    found: dict[str, Any] = answer.json()
    return found["items"][0] if "items" in found else found


async def test_the_openapi_document_names_each_operation_and_describes_what_the_cache_does(shop: AsyncClient) -> None:
    document = (await shop.get("http://shop/openapi.json")).json()
    operations = [operation for path in document["paths"].values() for operation in path.values()]
    names = [operation["operationId"] for operation in operations]
    assert {"v1_read_product", "v2_read_product", "v1_place_order", "read_health"} <= set(names)
    assert len(names) == len(set(names))
    assert {tag for operation in operations for tag in operation["tags"]} == {tag["name"] for tag in document["tags"]}
    cached = document["paths"]["/api/v2/products/{product_id}"]["get"]["responses"]
    assert {"ETag", "Age", "Cache-Control", "Cache-Status"} <= set(cached["200"]["headers"])
    assert "304" in cached
    assert "304" not in document["paths"]["/healthz"]["get"]["responses"]


async def test_production_shows_no_document(settings: Settings) -> None:
    app = assembled(Parts.made_for(settings.model_copy(update={"environment": "production"})))
    async with lifespan(app), client_of(app) as shop:
        for url in ("/openapi.json", "/docs", "/redoc"):
            assert (await shop.get(f"http://shop{url}")).status_code == 404
