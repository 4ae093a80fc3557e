"""Who asks for what: reads and writes over real products, some wanted far more than others."""

import asyncio
import json
from collections import defaultdict
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from hashlib import sha256
from importlib.resources import files
from itertools import accumulate
from random import Random
from time import monotonic, perf_counter
from typing import Any

import httpx

from storefront.load import DEMO_USERS
from storefront.loadrun.ledger import Ledger

PLENTY = 1_000_000
"""What is put in stock of a product that is ordered."""

ORDERED = 20
"""Products that can be ordered: those that are wanted most."""

LISTS = ("order=id", "order=-price&limit=10", "cut=Ideal&order=price", "page=1", "page=7&limit=50", "cut=Fair&color=J")
NEW = {
    "carat": 0.5, "cut": "Ideal", "color": "D", "clarity": "IF", "depth": 60, "table": 55, "x": 5, "y": 5, "z": 3,
    "price": 1_000,
}  # fmt: skip
REFUSED = 503
STEP = 1_000
"""Dollars by which the dearest product of all becomes dearer: so that each facet and each maximum tells its version."""


class Refused(Exception):  # noqa: N818 - read as "raise Refused"
    """A change was answered 503 with Retry-After: not done for all, and not acknowledged, so nobody is owed it."""


_HASH = sha256((files("storefront.graphql") / "persisted" / "product.graphql").read_bytes()).hexdigest()
PERSISTED = json.dumps({"persistedQuery": {"version": 1, "sha256Hash": _HASH}})
"""Names the persisted query of one product."""


@dataclass(slots=True)
class Kind:
    """What is known of one kind of request."""

    asked: int = 0
    hits: int = 0
    seconds: list[float] = field(default_factory=list[float])


@dataclass(slots=True)
class Traffic:
    """One service, those who ask it, and what they saw."""

    http: httpx.AsyncClient
    ledger: Ledger
    dice: Random
    kinds: defaultdict[str, Kind] = field(default_factory=lambda: defaultdict(Kind))
    errors: list[str] = field(default_factory=list[str])
    refused: int = 0
    _users: dict[str, dict[str, str]] = field(default_factory=dict[str, dict[str, str]])
    _products: Sequence[int] = ()
    _weights: Sequence[float] = ()
    _at_first: int = 0
    _dearest: tuple[int, int] = (0, 0)
    _raising: asyncio.Lock = field(default_factory=asyncio.Lock)
    _reviewed: set[tuple[str, int]] = field(default_factory=set[tuple[str, int]])
    _placed: dict[int, str] = field(default_factory=dict[int, str])

    # -- before it begins ----------------------------------------------------------------------------------------------

    async def log_in(self) -> None:
        """Have users, and products of which some are wanted far more than others."""
        for user in DEMO_USERS:
            form = {"username": user["name"], "password": user["password"]}
            told = (await self._ask("login", "POST", "/api/v1/token", data=form)).json()
            self._users[user["name"]] = {"Authorization": f"Bearer {told['access_token']}"}
        top = (await self._ask("list", "GET", "/api/v1/products?page=1&limit=1&order=-price")).json()
        self._at_first = top["total"]
        self._products = self.dice.sample(range(1, self._at_first + 1), self._at_first)
        # Zipf: the n-th is wanted one n-th as often as the first.
        self._weights = list(accumulate(1 / rank for rank in range(1, self._at_first + 1)))
        self._dearest = (0, top["items"][0]["price"])

    async def prepare(self) -> None:
        """Put on sale what is needed."""
        await self.log_in()
        for product in self._products[:ORDERED]:
            await self._change(product, {"stock": PLENTY})
        added = await self._write("add", "POST", "/api/v1/products", json={**NEW, "price": self._dearest[1]})
        self.ledger.count("products", monotonic())
        self._dearest = (added["id"], added["price"])

    # -- one request ---------------------------------------------------------------------------------------------------

    async def one(self) -> None:
        """Ask for something."""
        work = self.dice.choices(list(MIX), cum_weights=list(accumulate(MIX.values())))[0]
        try:
            await work(self)
        except Refused:
            self.refused += 1
        except (httpx.HTTPError, KeyError, IndexError, ValueError) as error:
            self.errors.append(f"{work.__name__}: {error!r}")

    async def _ask(
        self,
        kind: str,
        method: str,
        url: str,
        **more: Any,  # noqa: ANN401 - as httpx
    ) -> httpx.Response:
        began = perf_counter()
        answer = await self.http.request(method, url, **more)
        seen = self.kinds[kind]
        seen.asked += 1
        seen.hits += "; hit" in answer.headers.get("cache-status", "")
        seen.seconds.append(perf_counter() - began)
        if answer.status_code == REFUSED and "retry-after" in answer.headers and method != "GET":
            raise Refused
        if answer.is_error:
            raise ValueError(f"{method} {url}: {answer.status_code} {answer.text[:200]}")
        return answer

    async def _read(self, kind: str, url: str, **more: Any) -> tuple[Any, float, str]:  # noqa: ANN401 - JSON
        began = monotonic()
        answer = await self._ask(kind, "GET", url, **more)
        said = f"GET {url}: {answer.headers.get('cache-status', '')}, age {answer.headers.get('age', '-')}"
        return answer.json(), began, said

    async def _write(self, kind: str, method: str, url: str, **more: Any) -> Any:  # noqa: ANN401 - JSON
        more.setdefault("headers", self._users["alice"])
        return (await self._ask(kind, method, url, **more)).json()

    def _product(self, among: int | None = None) -> int:
        some = among or len(self._products)
        return self.dice.choices(self._products[:some], cum_weights=self._weights[:some])[0]

    # -- reads ---------------------------------------------------------------------------------------------------------

    async def product(self) -> None:
        """A product, in the first version of the API or in the second."""
        version = "v1" if self.dice.random() < 0.8 else "v2"  # noqa: PLR2004 - a share
        self._compare(*await self._read(f"product {version}", f"/api/{version}/products/{self._product()}"))

    async def graph(self) -> None:
        """A product as the graph shows it, by a persisted query."""
        product = self._product()
        asked = {"extensions": PERSISTED, "variables": json.dumps({"id": product})}
        found, began, said = await self._read("graph", "/graphql", params=asked)
        self._compare(found["data"]["product"], began, said)
        self.ledger.compare(("reviews", product), found["data"]["product"]["rating"]["count"], began, said)

    async def list(self) -> None:
        """A list, whose items tell their versions; and how long it is, where it says so."""
        page, began, said = await self._read("list", f"/api/v1/products?{self.dice.choice(LISTS)}")
        for item in page["items"]:
            self._compare(item, began, said)
        if page["total"] is not None:
            self.ledger.compare("products", page["total"] - self._at_first, began, said)
        if "order=-price" in said:
            self.ledger.compare("dearest", page["items"][0]["price"], began, said)

    async def facets(self) -> None:
        """Facets: how many there are, and in which step of prices the dearest is."""
        found, began, said = await self._read("facets", "/api/v1/products/facets")
        self.ledger.compare("products", found["total"] - self._at_first, began, said)
        self.ledger.compare("dearest", found["price"][-1]["high"] - 1, began, said)

    async def statistics(self) -> None:
        """Price statistics: how many there are, and what the dearest costs."""
        found, began, said = await self._read("statistics", "/api/v1/stats/prices")
        self.ledger.compare("products", sum(each["count"] for each in found) - self._at_first, began, said)
        self.ledger.compare("dearest", max(each["max"] for each in found), began, said)

    async def reviews(self) -> None:
        """The reviews of a product."""
        product = self._product()
        found, began, said = await self._read("reviews", f"/api/v1/products/{product}/reviews")
        self.ledger.compare(("reviews", product), found["total"], began, said)

    async def account(self) -> None:
        """Somebody's own account, which is nobody else's."""
        name = self.dice.choice(list(self._users))
        found, _, said = await self._read("account (guarded)", "/api/v1/me", headers=self._users[name])
        if found["name"] != name:
            raise ValueError(f"{name} was shown the account of {found['name']}; {said}")

    async def orders(self) -> None:
        """Somebody's own orders."""
        name = self.dice.choice(list(self._users))
        found, began, said = await self._read("orders (guarded)", "/api/v1/orders", headers=self._users[name])
        self.ledger.compare(("orders", name), found["total"], began, said)
        if any(self._placed.get(order["id"], name) != name for order in found["items"]):
            raise ValueError(f"{name} was shown orders of somebody else; {said}")

    def _compare(self, product: Any, began: float, said: str) -> None:  # noqa: ANN401 - JSON
        self.ledger.compare(("product", product["id"]), product["version"], began, said)
        # Each change makes it one more: also those that were acknowledged without a version.
        self.ledger.compare(("changes of product", product["id"]), product["version"] - 1, began, said)

    # -- writes --------------------------------------------------------------------------------------------------------

    async def change(self) -> None:
        """Another stock; what is ordered keeps plenty."""
        await self._change(self._product(), {"stock": PLENTY - self.dice.randrange(1_000)})

    async def _change(self, product: int, values: dict[str, int]) -> None:
        changed = await self._write("change", "PATCH", f"/api/v1/products/{product}", json=values)
        now = monotonic()
        self.ledger.acknowledge(("product", product), changed["version"], now)
        self.ledger.count(("changes of product", product), now)

    async def raise_price(self) -> None:
        """Make the dearest product of all dearer, one change after the other."""
        async with self._raising:
            product, price = self._dearest
            await self._change(product, {"price": price + STEP})
            self._dearest = (product, price + STEP)
            self.ledger.acknowledge("dearest", price + STEP, monotonic())

    async def order(self) -> None:
        """Buy one or two of what is wanted most."""
        name = self.dice.choice(list(self._users))
        wanted = {self._product(ORDERED), self._product(ORDERED)}
        lines = [{"product_id": product} for product in sorted(wanted)]
        headers = {**self._users[name], "Idempotency-Key": f"{self.dice.getrandbits(64):016x}"}
        placed = await self._write("order", "POST", "/api/v1/orders", json={"lines": lines}, headers=headers)
        now = monotonic()
        self._placed[placed["id"]] = name
        self.ledger.count(("orders", name), now)
        for product in wanted:
            self.ledger.count(("changes of product", product), now)

    async def review(self) -> None:
        """Say something of a product, once."""
        name, product = self.dice.choice(list(self._users)), self._product()
        if (name, product) in self._reviewed:
            return
        self._reviewed.add((name, product))
        url = f"/api/v1/products/{product}/reviews"
        await self._write("review", "POST", url, json={"stars": 4}, headers=self._users[name])
        self.ledger.count(("reviews", product), monotonic())

    async def add(self) -> None:
        """Put one more on sale."""
        await self._write("add", "POST", "/api/v1/products", json=NEW)
        self.ledger.count("products", monotonic())


MIX: dict[Callable[[Traffic], Awaitable[None]], float] = {
    Traffic.product: 69,
    Traffic.graph: 3,
    Traffic.list: 8,
    Traffic.facets: 1,
    Traffic.statistics: 1,
    Traffic.reviews: 5,
    Traffic.account: 5,
    Traffic.orders: 4,
    Traffic.change: 2,
    Traffic.raise_price: 0.25,
    Traffic.order: 1,
    Traffic.review: 0.5,
    Traffic.add: 0.25,
}
"""How often each is done, of a hundred."""

CHANGES = ("change", "order", "review", "add")
"""The kinds of requests that change something."""

READS: tuple[Callable[[Traffic], Awaitable[None]], ...] = (
    Traffic.product,
    Traffic.graph,
    Traffic.list,
    Traffic.facets,
    Traffic.statistics,
    Traffic.reviews,
    Traffic.account,
    Traffic.orders,
)
