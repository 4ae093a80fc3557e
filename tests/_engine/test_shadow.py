"""The application answers every request itself, and the cache says what it would have done."""

import asyncio
from typing import Any

import pytest
from drive import FRESH, Say, Scope, Shop

from tiercel._core.entry import Header

pytestmark = pytest.mark.usefixtures("road")


async def test_every_request_reaches_the_application_and_is_told_what_would_have_been() -> None:
    shop = Shop(Say(headers=[(b"cache-control", b"max-age=10, stale-while-revalidate=10")]), shadow=True)
    first, second = await shop.get(), await shop.get()
    await asyncio.sleep(15)
    third = await shop.get()
    assert [visit.said for visit in (first, second, third)] == [
        "fwd=bypass; detail=shadow-miss",
        "fwd=bypass; detail=shadow-hit",
        "fwd=bypass; detail=shadow-stale",
    ]
    assert shop.calls == 3
    await shop.at_rest()


async def test_nothing_but_cache_status_is_added() -> None:
    headers: list[Header] = [FRESH, (b"x-mixed", b"case"), (b"age", b"3"), (b"age", b"")]
    shop = Shop(Say(headers=headers, chunks=[b"a", b"b"], pace=1), shadow=True)
    for _ in range(2):
        visit = await shop.get()
        assert visit.headers[:-1] == headers
        assert (visit.body, visit.times[:2]) == (b"ab", [float(int(visit.times[0])), visit.times[0] + 1])


@pytest.mark.called  # a server writes names and values as HTTP has them, and says itself what becomes of the connection
async def test_nothing_but_cache_status_is_added_to_what_no_server_has_read_yet() -> None:
    headers: list[Header] = [FRESH, (b"X-Mixed", b" case "), (b"age", b"3"), (b"connection", b"close")]
    shop = Shop(Say(headers=headers, chunks=[b"a", b"b"], pace=1), shadow=True)
    for _ in range(2):
        visit = await shop.get()
        assert visit.headers[:-1] == headers
        assert [one.get("body") for one in visit.messages[1:]] == [b"a", b"b"]


async def test_conditions_and_ranges_are_the_applications_own_business() -> None:
    shop = Shop(shadow=True)
    given = [(b"if-none-match", b'"1"'), (b"range", b"bytes=0-1"), (b"if-match", b'"1"')]
    await shop.get("/", *given)
    assert shop.origin.asked[0]["headers"][1:] == given


async def test_the_application_hears_when_its_client_goes() -> None:
    heard: list[str] = []

    async def app(scope: Scope, receive: Any, send: Any) -> None:
        heard.extend([(await receive())["type"], (await receive())["type"]])

    shop = Shop(shadow=True)
    shop.app.app = app
    visit = shop.ask()
    await asyncio.sleep(1)
    visit.hung_up.set()
    await visit.done()
    assert heard == ["http.request", "http.disconnect"]


@pytest.mark.parametrize(
    "say",
    [
        Say(headers=[(b"cache-control", b"no-store")]),
        Say(status=500, headers=()),
        Say(chunks=[b"x" * 500_000] * 10),
        Say(status=304, headers=(), chunks=()),
    ],
)
async def test_what_would_not_be_stored_would_be_a_miss_again(say: Say) -> None:
    shop = Shop(say, shadow=True)
    for _ in range(2):
        visit = await shop.get()
        assert visit.said == "fwd=bypass; detail=shadow-miss"
        assert visit.body == b"".join(say.chunks)
    await shop.at_rest()


@pytest.mark.called  # a server refuses to end such a response; below
async def test_what_is_shorter_than_it_says_would_be_a_miss_again() -> None:
    shop = Shop(Say(headers=[FRESH, (b"content-length", b"9")]), shadow=True)
    for _ in range(2):
        visit = await shop.get()
        assert (visit.said, visit.body) == ("fwd=bypass; detail=shadow-miss", b"hello")
    await shop.at_rest()


async def test_what_is_shorter_than_it_says_is_not_stored() -> None:
    shop = Shop(Say(headers=[FRESH, (b"content-length", b"9")]), shadow=True)
    await asyncio.gather(shop.ask().done(), return_exceptions=True)  # a server fails it
    assert "stored" not in shop.counts
    shop.origin.say = Say()
    assert (await shop.get()).said == "fwd=bypass; detail=shadow-miss"


@pytest.mark.parametrize("say", [Say(refuses=OSError("no")), Say(chunks=[b"a", b"b"], fails=OSError("no"))])
async def test_what_the_application_raises_is_raised(say: Say) -> None:
    shop = Shop(say, shadow=True)
    for _ in range(2):
        assert isinstance(await shop.ask().failed(), OSError)
    assert shop.counts["failed"] == 2
    assert "stored" not in shop.counts
    await shop.at_rest()


async def test_a_slow_application_is_not_given_up() -> None:
    shop = Shop(Say(wait=1000), shadow=True, hard=10)
    assert (await shop.get()).body == b"hello"


@pytest.mark.called  # by cancelling: a server does not end what a client has left
async def test_a_client_that_is_cancelled_cancels_its_application() -> None:
    shop = Shop(Say(wait=10), shadow=True)
    visit = shop.ask()
    await asyncio.sleep(1)
    assert visit.task is not None
    visit.task.cancel()
    await shop.at_rest()
    assert shop.origin.cancelled == 1


async def test_writes_invalidate() -> None:
    shop = Shop(shadow=True)
    await shop.get()
    await shop.get(method="PUT")
    assert (await shop.get()).said == "fwd=bypass; detail=shadow-miss"


async def test_what_is_not_for_the_cache_would_be_a_bypass() -> None:
    shop = Shop(shadow=True)
    visit = await shop.get("/", (b"content-length", b"1"), content=b"x")
    assert visit.said == "fwd=bypass; detail=request-content"
