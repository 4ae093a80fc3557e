"""What the README says about the document of the API, which is held against what the service sends."""

import asyncio
import json
import re
import subprocess
from collections.abc import AsyncGenerator, Callable, Iterator
from contextlib import aclosing
from datetime import timedelta
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from fastapi import FastAPI
from httpx import AsyncClient, Response
from shop_client import bearer, client_of, is_hit
from small_bank import running
from uvicorn_server import serving

from storefront.main import surrounded
from storefront.parts import Parts
from storefront.reference.document import Problem, answers, install
from storefront.reference.examples import EXAMPLES, PROBLEMS
from storefront.settings import Settings

NOBODY = 2**31 - 1
"""An id that nothing has."""

SENT = {"application/json": "json", "application/x-www-form-urlencoded": "data"}
"""How httpx calls it."""

Document = dict[str, Any]


HOW: dict[str, dict[str, Any]] = {
    "read_price": {"currency": "EUR"},
    "read_graph": {
        "extensions": '{"persistedQuery":{"version":1,"sha256Hash":'
        '"ab9adba45c6930797453bf94667845ac5e47108358ee7efacb532963909985b4"}}',
        "variables": '{"id":1}',
    },
    "add_file": {"name": "ring.png"},
    "replace_file": {"name": "ring.png"},
}
"""What an operation cannot be asked without."""


class Operation(NamedTuple):
    """One of the document, and how to ask for it."""

    id: str
    method: str
    path: str
    said: dict[str, Any]

    @property
    def what(self) -> str:
        """Its name in any version."""
        return re.sub(r"^v\d_", "", self.id)

    @property
    def secured(self) -> bool:
        return "security" in self.said

    @property
    def scoped(self) -> bool:
        return any(scopes for needed in self.said.get("security", ()) for scopes in needed.values())

    def at(self, place: object) -> str:
        return "http://shop" + re.sub(r"{\w+}", str(place), self.path)

    def body(self, document: Document) -> dict[str, Any]:
        """A body that fits, for httpx: the example of its schema."""
        for kind, content in self.said.get("requestBody", {}).get("content", {}).items():
            if kind in SENT:
                return {SENT[kind]: schema_of(document, content["schema"])["examples"][0]}
        return {}


def operations(document: Document) -> Iterator[Operation]:
    for path, item in document["paths"].items():
        for method, said in item.items():
            yield Operation(said["operationId"], method.upper(), path, said)


def schema_of(document: Document, schema: Any) -> Any:
    name = schema.get("$ref", "").rpartition("/")[2]
    return document["components"]["schemas"][name] if name else schema


@pytest.fixture
async def document(shop: AsyncClient) -> Document:
    found: Document = (await shop.get("http://shop/openapi.json")).json()
    return found


@pytest.fixture
def settings(settings: Settings) -> Iterator[Settings]:
    """With a bank that is there."""
    with running() as bank:
        bank.rates["EUR"] = 0.92
        yield settings.model_copy(update={"bank_url": bank.url, "upload_limit": 1_500_000})


# -- errors ------------------------------------------------------------------------------------------------------------


class Asking:
    """Asks for every operation in a way that goes wrong, and holds what comes against the document."""

    def __init__(self, document: Document, queen: dict[str, str], bob: dict[str, str]) -> None:
        self.seen: dict[str, set[str]] = {each.id: set() for each in operations(document)}
        self.details: set[str] = set()
        self._document = document
        self._queen = queen
        self._bob = bob

    def named(self, name: str) -> list[Operation]:
        return [each for each in operations(self._document) if each.id == name]

    def noted(self, operation: Operation, answer: Response) -> None:
        status, kind = str(answer.status_code), answer.headers.get("content-type", "").partition(";")[0]
        said = operation.said["responses"]
        where = f"{operation.id} answers {status} as {kind}: is that in its `responses`? {answer.text[:200]}"
        assert status in said, where
        assert kind in (said[status].get("content") or {"": None}), where
        for name, field in said[status].get("headers", {}).items():
            assert not field.get("required") or name in answer.headers, where
        if kind == "application/problem+json":
            told = Problem.model_validate(answer.json(), extra="forbid")
            assert told.status == answer.status_code
            self.details.add(steady(told.detail))
        self.seen[operation.id].add(status)

    async def ask(self, shop: AsyncClient, operation: Operation, place: object = NOBODY, **how: Any) -> None:
        """As somebody who may do everything, with a body that fits, unless it is said `how` else."""
        headers = {"Idempotency-Key": f"key-of-{operation.id}", **(self._queen if operation.secured else {})}
        fitting = {} if {"content", "json", "data"} & how.keys() else operation.body(self._document)
        given: dict[str, Any] = {"headers": headers, **fitting, **how}
        given.setdefault("url", operation.at(place))
        answer = await shop.request(operation.method, **given)
        if answer.is_error:
            self.noted(operation, answer)

    async def ask_wrongly(self, shop: AsyncClient, operation: Operation) -> None:
        """In each of the ways that the operation has."""
        if operation.secured:
            await self.ask(shop, operation, headers={})
        if operation.what == "list_users" or operation.scoped:
            await self.ask(shop, operation, headers=self._bob)
        if "{" in operation.path:
            await self.ask(shop, operation, params=HOW.get(operation.what))
            await self.ask(shop, operation, "x")
        if "requestBody" in operation.said:
            for place, content in ((NOBODY, b"{" * 1_000_001), (1, b"{" * 1_000_001), (1, b"{")):
                await self.ask(shop, operation, place, content=content, params=HOW.get(operation.what))
        await self._ask_with_too_long(shop, operation)

    async def _ask_with_too_long(self, shop: AsyncClient, operation: Operation) -> None:
        for parameter in operation.said.get("parameters", ()):
            said = {parameter["name"]: "x" * 5_000}
            if parameter["in"] == "query":
                await self.ask(shop, operation, params=said)
            elif parameter["in"] == "header":
                await self.ask(shop, operation, headers={**(self._queen if operation.secured else {}), **said})

    async def ask_without_what_we_need(self, settings: Settings, nowhere: Path) -> None:
        """Without a bank, without a database, without leave to ask."""
        for lacking, asked, times in (
            ({"bank_url": "http://127.0.0.1:1"}, "read_price", 1),
            *[({"database_url": f"sqlite+aiosqlite:///{nowhere}"}, each, 1) for each in OF_THE_DATABASE],
            ({"rate": "1/hour"}, "", 2),
        ):
            parts = Parts.made_for(settings.model_copy(update=lacking))
            async with aclosing(parts.database), client_of(surrounded(parts)) as shop:
                for operation in operations(self._document):
                    if operation.what == asked or (not asked and operation.path.startswith(("/api/", "/graphql"))):
                        for _ in range(times):
                            await self.ask(shop, operation, 1, params=HOW.get(operation.what))


def steady(text: str) -> str:
    return re.sub(r"\d+", "N", text)


PNG = b"\x89PNG\r\n\x1a\n\x00\x00\x00\rIHDR\x00\x00\x00\x01\x00\x00\x00\x01\x08\x06\x00\x00\x00\x1f\x15\xc4\x89"


async def go_wrong_with_files(asking: Asking, shop: AsyncClient, settings: Settings, who: dict[str, str]) -> None:
    """In ways that need a file: Range beside it, another that is faster, one that never comes in."""
    parts = Parts.made_for(settings.model_copy(update={"upload_time": timedelta(seconds=0.05)}))
    async with aclosing(parts.database), client_of(surrounded(parts)) as hasty:
        for version in ("v1", "v2"):
            place = f"http://shop/api/{version}/products/1/files"
            named: dict[str, Any] = {"params": {"name": "ring.png"}, "headers": who}
            file = (await shop.post(place, content=PNG, **named)).raise_for_status().json()["id"]

            async def overtaken(place: str = f"{place}/{file}", named: Any = named) -> AsyncGenerator[bytes]:
                yield PNG[:20]
                (await shop.put(place, content=PNG, **named)).raise_for_status()
                yield PNG[20:]

            there, nowhere = f"{place}/{file}", f"{place}/{'0' * 24}"
            for operation in asking.named(f"{version}_replace_file"):
                await asking.ask(shop, operation, url=there, content=overtaken(), **named)
                await asking.ask(shop, operation, url=nowhere, content=PNG, **named)
            for operation, url in (
                *[(each, there) for each in asking.named(f"{version}_replace_file")],
                *[(each, place) for each in asking.named(f"{version}_add_file")],
            ):
                await asking.ask(hasty, operation, url=url, content=never(), **named)
                await asking.ask(shop, operation, url=url, content=b"x" * 2_000, **named)
                await asking.ask(shop, operation, url=url, content=PNG + b"x" * settings.upload_limit, **named)
            for operation in asking.named(f"{version}_read_file"):
                (await shop.get(there)).raise_for_status()
                await asking.ask(shop, operation, url=there, headers={"Range": "bytes=5000-"})
                await asking.ask(shop, operation, url=nowhere)
            for operation in asking.named(f"{version}_remove_file"):
                await asking.ask(shop, operation, url=nowhere, headers=who)


async def never() -> AsyncGenerator[bytes]:
    yield PNG
    await asyncio.Event().wait()


OF_THE_DATABASE = ("read_readiness", "export_csv", "export_ndjson")
"""What says that it answers otherwise when there is no database."""
UNKNOWN = {"persistedQuery": {"version": 1, "sha256Hash": "0" * 64}}
SPECIAL: dict[str, list[tuple[object, dict[str, Any]]]] = {
    "list_products": [(None, {"params": {"cursor": "x"}})],
    "log_in": [(None, {"data": {"username": "alice", "password": "x"}})],
    "refresh": [(None, {})],
    "place_order": [(None, {"json": {"lines": [{"product_id": 2, "quantity": 2}]}})],
    "write_review": [(1, {}), (1, {})],
    "remove_product": [(1, {})],
    "read_graph": [(None, {"params": None}), (None, {"params": {"extensions": json.dumps(UNKNOWN)}})],
    "query_graph": [(None, {"json": each}) for each in ({}, {"query": "{nothing}"}, {"extensions": UNKNOWN})],
}
"""What goes wrong in ways of its own: with which id, and how it is asked."""


@pytest.fixture
async def asking(shop: AsyncClient, document: Document, bob: dict[str, str], queen: dict[str, str]) -> Asking:
    """By a queen who may do what Alice may."""
    await shop.patch("/users/3", json={"scopes": "products:write users:write"}, headers=queen)
    return Asking(document, await bearer(shop, "queen", "croquet"), bob)


async def test_every_error_that_is_documented_is_sent_and_every_one_that_is_sent_is_documented(
    settings: Settings, shop: AsyncClient, document: Document, asking: Asking, tmp_path: Path
) -> None:
    for operation in operations(document):
        await asking.ask_wrongly(shop, operation)
        for place, how in SPECIAL.get(operation.what, ()):
            await asking.ask(shop, operation, place, **how)
    await go_wrong_with_files(asking, shop, settings, await bearer(shop, "alice", "wonderland"))
    await asking.ask_without_what_we_need(settings, tmp_path / "no" / "such.db")
    documented = {
        each.id: {status for status in each.said["responses"] if status != "default" and status >= "400"}
        for each in operations(document)
    }
    assert asking.seen == documented
    assert {steady(each["detail"]) for each in PROBLEMS.values()} <= asking.details


async def test_every_operation_says_that_other_errors_are_problems_too(document: Document) -> None:
    problem = {"$ref": "#/components/schemas/Problem"}
    for operation in operations(document):
        assert operation.said["responses"]["default"]["content"] == {"application/problem+json": {"schema": problem}}
    assert "HTTPValidationError" not in str(document)


async def test_an_error_without_an_example_is_documented_all_the_same() -> None:
    app = FastAPI()

    @app.get("/tea", responses={**answers(418), "4XX": {"description": "Others."}})
    async def tea() -> None: ...

    install(app)
    responses = app.openapi()["paths"]["/tea"]["get"]["responses"]
    assert list(responses["418"]["content"]) == ["application/problem+json"]
    assert responses["4XX"] == {"description": "Others."}


# -- what the cache adds -----------------------------------------------------------------------------------------------

FIELDS = {"ETag", "Age", "Cache-Control", "Cache-Status"}


async def test_the_304_and_the_cache_headers_are_documented_where_they_are_sent_and_nowhere_else(
    shop: AsyncClient, document: Document, queen: dict[str, str], alice: dict[str, str]
) -> None:
    order = {"lines": [{"product_id": 2}]}
    await shop.post("/orders", json=order, headers={**queen, "Idempotency-Key": "of-the-queen"})
    file = await shop.post("/products/1/files", params={"name": "ring.png"}, content=PNG, headers=alice)
    stored: set[str] = set()
    for operation in operations(document):
        if operation.method != "GET":
            assert "304" not in operation.said["responses"]
            continue
        if "text/event-stream" in operation.said["responses"]["200"].get("content", ()):
            continue  # it never ends
        params, headers = HOW.get(operation.what, {}), queen if operation.secured else {}
        place = operation.at(1)
        if operation.what == "read_file":
            place = f"{place.rpartition('/')[0]}/{file.json()['id']}"
        await shop.get(place, params=params, headers=headers)
        answer = await shop.get(place, params=params, headers=headers)
        assert answer.status_code == 200, operation
        assert is_hit(answer) == ("304" in operation.said["responses"]), operation.id
        if not is_hit(answer):
            assert FIELDS.isdisjoint(operation.said["responses"]["200"].get("headers", ()))
            continue
        stored.add(operation.what)
        again = await shop.get(place, params=params, headers={**headers, "If-None-Match": answer.headers["etag"]})
        assert (again.status_code, again.content) == (304, b"")
        for each in (answer, again):
            said = operation.said["responses"][str(each.status_code)]
            assert set(said["headers"]) == FIELDS
            assert {name.lower() for name in FIELDS} <= set(each.headers), operation.id
            assert each.headers.get("content-type", "").partition(";")[0] in said.get("content", {"": None})
    assert {"read_product", "read_me", "list_orders", "read_graph"} <= stored


# -- what it says of itself --------------------------------------------------------------------------------------------


async def test_the_document_says_what_it_is_about_and_where(document: Document) -> None:
    about = document["info"]
    assert (about["title"], about["license"]) == ("Storefront", {"name": "MIT", "identifier": "MIT"})
    assert about["summary"]
    assert "RFC 9457" in about["description"]
    assert [server["url"] for server in document["servers"]] == ["/"]
    for operation in operations(document):
        assert operation.said["summary"], operation.id
        assert operation.said["description"], operation.id
        assert len(operation.said["tags"]) == 1, operation.id


async def test_every_body_has_an_example(document: Document) -> None:
    def shown(schema: Any) -> bool:
        schema = schema_of(document, schema)
        inner = [schema.get("items"), schema.get("properties", {}).get("items")]
        return "examples" in schema or any(each is not None and shown(each) for each in inner)

    for operation in operations(document):
        bodies = [operation.said.get("requestBody", {})]
        bodies += [said for status, said in operation.said["responses"].items() if status.startswith("2")]
        for body in bodies:
            for kind, content in body.get("content", {}).items():
                if kind in SENT or kind.endswith("json"):
                    assert shown(content["schema"]), f"{operation.id}: add one to storefront/reference/examples.py"
    assert EXAMPLES.keys() <= document["components"]["schemas"].keys()


async def test_the_examples_are_what_the_service_takes_and_sends(
    shop: AsyncClient, document: Document, alice: dict[str, str], queen: dict[str, str], bob: dict[str, str]
) -> None:
    sent: dict[str, Any] = {}

    async def get(name: str, url: str, pick: Callable[[Any], Any] = lambda found: found, **how: Any) -> None:
        sent[name] = pick((await shop.get(url, **how)).raise_for_status().json())

    async def post(name: str, url: str, method: str = "POST", **how: Any) -> None:
        sent[name] = (await shop.request(method, url, **how)).raise_for_status().json()

    await get("storefront__catalogue__schemas__ProductOut", "/products/1")
    await get("storefront__catalogue__schemas_v2__ProductOut", "http://shop/api/v2/products/1")
    await get("Facets", "/products/facets?cut=Fair&color=J&clarity=I1&price_max=1999")
    await get("PriceStatistics", "/stats/prices", lambda found: found[0])
    await get("Trend", "/stats/trend")
    await get("Grading", "/grades")
    await get("Converted", "/products/1/price?currency=EUR")
    await get("UserOut", "/me", headers=alice)
    await get("Readiness", "http://shop/readyz")
    await post("Result", "http://shop/graphql", json=EXAMPLES["Operation"])
    await post("Token", "/token", data=EXAMPLES["Body_v1_log_in"])
    await post("OrderOut", "/orders", json=EXAMPLES["OrderIn"], headers={**bob, "Idempotency-Key": "my-first-order"})
    await post("ReviewOut", "/products/1/reviews", json=EXAMPLES["ReviewIn"], headers=bob)
    sold, changed = "/products/bestsellers", "/products/recent"
    while not ((await shop.get(sold)).json() and (await shop.get(changed)).json()):  # noqa: ASYNC110 - consumers write them
        await asyncio.sleep(0.01)
    await get("Bestseller", sold, lambda found: found[0])
    await get("ChangeOut", changed, lambda found: found[0])
    await post("FileOut", "/products/1/files", params={"name": "ring.png"}, content=PNG, headers=alice)
    for name, found in sent.items():
        assert shaped(found) == shaped(EXAMPLES[name]), name
    for name, url, method, who in (
        ("ProductIn", "/products", "POST", alice),
        ("ProductChange", "/products/1", "PATCH", alice),
        ("UserChange", "/users/2", "PATCH", queen),
    ):
        await post(name, url, method, json=EXAMPLES[name], headers=who)
    # A refresh token is good for one use, so none can stand in a document. Its form can.
    assert re.fullmatch(r"[0-9a-f]{32}\.[\w-]{43}", EXAMPLES["Body_v1_refresh"]["refresh_token"])
    tried = {*sent, "ProductIn", "ProductChange", "UserChange", "OrderIn", "ReviewIn", "Operation", "Health"}
    assert EXAMPLES.keys() <= tried | {name for name in EXAMPLES if name.startswith("Body_")}


ID, MOMENT, SECRET = r"[0-9a-f]{24}", r"2\d{3}-\d\d-\d\dT[\d:.]+Z", r"[\w.-]{40,}"
FORMS = {
    **dict.fromkeys(("placed_at", "written_at", "uploaded_at", "changed_at"), MOMENT),
    **dict.fromkeys(("access_token", "refresh_token"), SECRET),
}


def shaped(found: dict[str, Any]) -> dict[str, Any]:
    """Without what differs from day to day, of which the form stays."""
    once = {name: form for name, form in FORMS.items() if re.fullmatch(form, found.get(name, ""))}
    return {**found, **once} | ({"id": ID} if re.fullmatch(ID, str(found.get("id"))) else {})


# -- the page ----------------------------------------------------------------------------------------------------------


async def test_the_page_of_the_document_loads_nothing_from_elsewhere(shop: AsyncClient) -> None:
    page = await shop.get("http://shop/docs")
    assert page.status_code == 200
    places = re.findall(r'(?:src|href)="([^"]+)"', page.text)
    assert len(places) == 6
    for place in places:
        assert (await shop.get(f"http://shop/{place}")).status_code == 200
    assert "://" not in page.text
    assert "<script>" not in page.text
    policy = dict(part.split(" ", 1) for part in page.headers["content-security-policy"].split("; "))
    assert policy["default-src"] == policy["frame-ancestors"] == policy["base-uri"] == "'none'"
    assert policy["script-src"] == policy["connect-src"] == "'self'"
    assert not re.search(r"https?:|\*|unsafe", page.headers["content-security-policy"])


async def test_files_of_the_page_are_kept_for_ever_and_come_from_the_cache(shop: AsyncClient) -> None:
    page = await shop.get("http://shop/docs")
    for place in re.findall(r'(?:src|href)="(docs/[^"]+)"', page.text):
        answers = [await shop.get(f"http://shop/{place}") for _ in range(2)]
        assert [is_hit(answer) for answer in answers] == [False, True]
        assert "max-age=31536000, immutable" in answers[1].headers["cache-control"]
        again = await shop.get(f"http://shop/{place}", headers={"If-None-Match": answers[0].headers["etag"]})
        assert again.status_code == 304
        assert answers[0].headers["content-type"].partition(";")[0] in {"text/javascript", "text/css", "image/png"}
    for wrong in ("nothing.js", "start.js", "..%2Froutes.py"):
        assert (await shop.get(f"http://shop/docs/{wrong}")).status_code == 404


def test_a_browser_shows_the_page_and_asks_no_other_host(settings: Settings, tmp_path: Path) -> None:
    log = tmp_path / "network.json"
    with serving(settings) as place:
        command = [
            "chromium",
            "--headless",
            "--no-sandbox",
            "--disable-gpu",
            "--no-first-run",
            "--enable-logging=stderr",
        ]
        command += [f"--user-data-dir={tmp_path}/profile", "--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE 127.0.0.1"]
        command += ["--disable-background-networking", "--disable-component-update", "--disable-sync"]
        command += [f"--log-net-log={log}", "--virtual-time-budget=5000", "--dump-dom", f"{place}/docs"]
        done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=True)
    assert "Read Product" in done.stdout
    assert "Content Security Policy" not in done.stderr
    # What the browser asks on its own account has another initiator.
    started = [line for line in log.read_text().splitlines() if f'"initiator":"{place}"' in line]
    asked = {url for line in started for url in re.findall(r'"url":"([^"]+)"', line)}
    assert [url for url in asked if not url.startswith((f"{place}/", "data:"))] == []
    assert len([url for url in asked if "/docs/" in url]) >= 4
    assert f"{place}/openapi.json" in asked
