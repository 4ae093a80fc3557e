"""What the README says about work that is done elsewhere: by a bank, in a thread, in another process."""

import asyncio
from collections.abc import Iterator
from math import log
from pathlib import Path
from statistics import fmean
from typing import Any

import pytest
from httpx import AsyncClient
from shop_client import client_of, is_hit, lifespan
from small_bank import Bank, running

from storefront.main import assembled
from storefront.parts import Parts
from storefront.settings import Settings
from tiercel.clock import SystemClock

PRICE = "/products/1/price?currency=EUR"


@pytest.fixture
def bank() -> Iterator[Bank]:
    with running() as bank:
        yield bank


class Later(SystemClock):
    """The machine's time, and so much more."""

    more = 0.0

    def time(self) -> float:
        return super().time() + self.more

    def monotonic(self) -> float:
        return super().monotonic() + self.more


@pytest.fixture
def clock() -> Later:
    return Later()


@pytest.fixture
def parts(settings: Settings, bank: Bank, clock: Later) -> Parts:
    return Parts.made_for(settings.model_copy(update={"bank_url": bank.url}), clock=clock)


async def test_the_bank_is_asked_once_for_all_who_want_to_know(shop: AsyncClient, bank: Bank) -> None:
    answers = await asyncio.gather(*(shop.get(f"/products/{n}/price?currency=EUR") for n in range(1, 21)))
    assert {answer.status_code for answer in answers} == {200}
    assert answers[0].json() == {"amount": 163.0, "currency": "EUR"}
    assert bank.asked == ["/rates/USD"]
    assert (await shop.get("/products/1/price?currency=XXX")).status_code == 404


async def test_workers_ask_the_bank_once_for_all(settings: Settings, bank: Bank, tmp_path: Path) -> None:
    shared = settings.model_copy(update={"bank_url": bank.url, "cache_url": f"local://{tmp_path}/cache"})
    one, two = (assembled(Parts.made_for(shared)) for _ in range(2))
    async with lifespan(one), lifespan(two), client_of(one) as here, client_of(two) as there:
        assert [(await each.get(PRICE)).json()["amount"] for each in (here, there, here)] == [163.0] * 3
    assert bank.asked == ["/rates/USD"]


@pytest.mark.parametrize(("status", "body"), [(500, None), (200, b"<html>"), (200, b'{"rates": {"EUR": "dear"}}')])
async def test_while_the_bank_is_down_its_last_rates_are_good_enough(
    shop: AsyncClient, bank: Bank, clock: Later, status: int, body: bytes | None
) -> None:
    await shop.get(PRICE)
    bank.status, bank.body, bank.rates = status, body, {"EUR": 0.6}
    clock.more += 601
    answer = await shop.get(PRICE)
    assert (answer.status_code, answer.json()["amount"], len(bank.asked)) == (200, 163.0, 2)
    bank.status, bank.body = 200, None
    clock.more += 601
    assert (await shop.get(PRICE)).json()["amount"] == 195.6
    bank.status = 500
    clock.more += 86_400 + 601
    assert (await shop.get(PRICE)).status_code == 503


async def test_a_bank_that_has_never_answered_is_a_503_and_is_asked_again(shop: AsyncClient, bank: Bank) -> None:
    bank.status = 503
    refused = await shop.get(PRICE)
    assert (refused.status_code, refused.headers["content-type"]) == (503, "application/problem+json")
    bank.status = 200
    assert (await shop.get(PRICE)).json()["amount"] == 163.0


async def test_work_for_a_processor_is_done_once_and_elsewhere(
    shop: AsyncClient, statements: list[str], diamonds: list[dict[str, Any]]
) -> None:
    answers = await asyncio.gather(*(shop.get("/stats/trend") for _ in range(20)))
    assert {answer.text for answer in answers} == {answers[0].text}
    assert len(statements) == 1
    x, y = [log(each["carat"]) for each in diamonds], [log(each["price"]) for each in diamonds]
    mx, my = fmean(x), fmean(y)
    slope = sum((a - mx) * (b - my) for a, b in zip(x, y, strict=True)) / sum((a - mx) ** 2 for a in x)
    assert answers[0].json()["exponent"] == pytest.approx(slope, abs=0.0001)
    assert answers[0].json()["count"] == len(diamonds)


async def test_a_synchronous_route_is_cached_as_any_other(shop: AsyncClient) -> None:
    answers = [await shop.get("/grades") for _ in range(2)]
    assert [is_hit(answer) for answer in answers] == [False, True]
    assert answers[1].json()["cut"] == ["Fair", "Good", "Very Good", "Premium", "Ideal"]
