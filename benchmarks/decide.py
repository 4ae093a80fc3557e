"""What to do with a request: the decision alone."""

from collections.abc import Iterator
from functools import partial

from benchmarks.rows import Benchmark, Row, Run, value
from benchmarks.shop import BODY, HEADERS
from benchmarks.timing import per_call
from tiercel._core import keys, rfc9111
from tiercel._core.entry import Entry, Header, Request
from tiercel._core.policy import Rules

NOW = 1_000_000.0
TAG = b'"0123456789abcdef"'
BROWSER = (
    (b"host", b"127.0.0.1:8000"),
    (b"user-agent", b"Mozilla/5.0 (X11; Linux x86_64; rv:128.0) Gecko/20100101 Firefox/128.0"),
    (b"accept", b"application/json"),
    (b"accept-language", b"en-GB,en;q=0.7,de;q=0.3"),
    (b"accept-encoding", b"gzip, deflate, br, zstd"),
    (b"referer", b"https://shop.example/"),
    (b"connection", b"keep-alive"),
)


def rows(run: Run) -> Iterator[Row]:
    fresh = _entry(BROWSER, answered_at=NOW - 10)
    stale = _entry(BROWSER, answered_at=NOW - 70)
    variants = tuple(
        _entry(_in(language), answered_at=NOW - 10, names=(b"accept-language",))
        for language in (b"de", b"fr", b"it", b"en-GB,en;q=0.7,de;q=0.3")
    )
    cases: dict[str, tuple[tuple[Header, ...], tuple[Entry, ...]]] = {
        "a fresh response": (BROWSER, (fresh,)),
        "a fresh response, and an entity tag to match": (
            (*BROWSER, (b"if-none-match", TAG)),
            (fresh,),
        ),
        "four variants by language": (BROWSER, variants),
        "a stale response, within its window": (BROWSER, (stale,)),
        "nothing stored": (BROWSER, ()),
    }
    rules = Rules()

    def decide(headers: tuple[Header, ...], stored: tuple[Entry, ...]) -> float:
        request = Request("GET", "http", b"127.0.0.1:8000", b"/items", headers)
        return per_call(lambda: rfc9111.on_request(request, stored, NOW, rules, draw=0.5), run.pick(2_000, 10_000))

    measures = {name: partial(decide, *case) for name, case in cases.items()}
    budgets = dict.fromkeys(cases, value("≤", 5.0))
    yield from run.compared(measures, rounds=run.pick(9, 31), unit="µs", budgets=budgets)


def _in(language: bytes) -> tuple[Header, ...]:
    return tuple((name, language if name == b"accept-language" else value) for name, value in BROWSER)


def _entry(asked: tuple[Header, ...], *, answered_at: float, names: tuple[bytes, ...] = ()) -> Entry:
    return Entry(
        method="GET",
        status=200,
        headers=[*HEADERS, (b"etag", TAG)],
        body=BODY,
        selecting=keys.selecting(names, asked),
        born=0,
        asked_at=answered_at,
        answered_at=answered_at,
        lifetime=60.0,
        stale_while_revalidate=30.0,
        cost=0.001,
    )


BENCHMARKS = (
    Benchmark(
        name="decide",
        title="Decisions",
        method="CPU time of `on_request` for a request as a browser sends it, by what is stored.",
        rows=rows,
    ),
)
