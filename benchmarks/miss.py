"""What a miss costs beyond the application's own time."""

from collections.abc import Callable, Iterator
from functools import partial
from itertools import count

from benchmarks import shop
from benchmarks.rows import Benchmark, Row, Run, excess
from benchmarks.timing import Application, asked, nothing_more, on_loop, per_await, scope_of, unheard
from tiercel import Cache, CacheMiddleware, Policy

LIMIT = excess("≤", 60.0)
MEMORY = "64MB"
"""Less than what is stored in the end, so that evictions are part of it."""


def around_asgi(run: Run) -> Iterator[Row]:
    unstorable = shop.raw(((b"cache-control", b"no-store"),))
    measured: dict[str, Callable[[], Application]] = {
        "bare ASGI": shop.raw,
        "Tiercel around it, storing": lambda: _around(shop.raw()),
        "Tiercel around it, no-store": lambda: _around(unstorable),
    }
    return _misses(run, measured, path="/items/{}")


def installed(run: Run) -> Iterator[Row]:
    measured: dict[str, Callable[[], Application]] = {
        "FastAPI, nothing cached": shop.shop,
        "Tiercel installed, storing": _installed,
    }
    return _misses(run, measured, path="/items/{}")


def _misses(run: Run, measured: dict[str, Callable[[], Application]], *, path: str) -> Iterator[Row]:
    """Of each application in turn; every request asks for what nobody has asked for."""
    number = count(1)
    with on_loop() as runner:

        def ask(app: Application) -> float:
            return per_await(
                runner, lambda: app(scope_of(path.format(next(number))), nothing_more, unheard), run.pick(500, 1_000)
            )

        made = {name: make() for name, make in measured.items()}
        for name, app in made.items():
            runner.run(_check(app, path.format(next(number)), ours=name.startswith("Tiercel")))
        measures = {name: partial(ask, app) for name, app in made.items()}
        budgets = dict.fromkeys([name for name in made if name.startswith("Tiercel")], LIMIT)
        yield from run.compared(measures, rounds=run.pick(11, 21), unit="µs", budgets=budgets)


async def _check(app: Application, path: str, *, ours: bool) -> None:
    status, headers, body = await asked(app, path)
    missed = b"fwd=uri-miss" in headers.get(b"cache-status", b"")
    if status != 200 or body != shop.BODY or missed is not ours:
        raise RuntimeError(f"{path} gives another answer: {status} {headers}")


def _around(app: Application) -> CacheMiddleware:
    return CacheMiddleware(app, cache=Cache(memory=MEMORY), default=Policy(ttl=shop.DAY))


def _installed() -> Application:
    cache = Cache(memory=MEMORY)
    app = shop.shop(cache.response(ttl=shop.DAY))
    cache.install(app)
    return app


_METHOD = "CPU time of a request for what is not stored, without a server."

BENCHMARKS = (
    Benchmark(name="miss", title="Misses, around bare ASGI", method=_METHOD, rows=around_asgi),
    Benchmark(name="miss-installed", title="Misses, installed on FastAPI", method=_METHOD, rows=installed),
)
