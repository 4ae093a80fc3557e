"""Hits of a route whose dependencies run first."""

from collections.abc import Iterator
from functools import partial

from benchmarks import apps, shop
from benchmarks.rows import Benchmark, Row, Run, excess
from benchmarks.timing import Application, asked, nothing_more, on_loop, per_await, scope_of, unheard

LOGIN = (b"authorization", shop.TOKEN)
PERS = ("auto", "user.id", "shared")


def rows(run: Run) -> Iterator[Row]:
    measured: dict[str, tuple[Application, str]] = {"a ready Response": (shop.account(), "/ready")}
    measured |= {f'Tiercel, guarded, per="{per}"': (apps.guarded(per), "/mine") for per in PERS}
    measured["nothing cached"] = (shop.account(), "/mine")
    with on_loop() as runner:
        for name, (app, path) in measured.items():
            runner.run(_check(app, path, hit="guarded" in name))

        def ask(app: Application, path: str) -> float:
            return per_await(runner, lambda: app(scope_of(path, LOGIN), nothing_more, unheard), run.pick(500, 1_000))

        measures = {name: partial(ask, *how) for name, how in measured.items()}
        budgets = {name: excess("≤", 15.0) for name in measured if "guarded" in name}
        yield from run.compared(measures, rounds=run.pick(11, 25), unit="µs", budgets=budgets)


async def _check(app: Application, path: str, *, hit: bool) -> None:
    await asked(app, path, LOGIN)
    status, headers, body = await asked(app, path, LOGIN)
    if status != 200 or body != shop.BODY or (b"; hit" in headers.get(b"cache-status", b"")) is not hit:
        raise RuntimeError(f"{path} gives another answer: {status} {headers}")


BENCHMARKS = (
    Benchmark(
        name="guarded",
        title="Guarded hits",
        method="CPU time of a request through the whole application, without a server: a login by token and one more "
        "dependency run for each; then the cache is asked, or the endpoint returns a Response that is ready.",
        rows=rows,
    ),
)
