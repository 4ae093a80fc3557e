"""Hits under `tiercel serve`, beside servers that are caches, in front of the same application."""

from collections.abc import Iterator, Sequence
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory

from benchmarks.hits import KEYS
from benchmarks.rows import Benchmark, Budget, Row, Run, ratio
from benchmarks.servers import Peer, nginx, served, throughput, uvicorn, varnish

NGINX, VARNISH = "nginx, proxy_cache", "Varnish"


def one_key(run: Run, *, unchanged: bool = False) -> Iterator[Row]:
    budgets = (ratio("≥", 3.0), ratio("≥", 1.1, over=NGINX), ratio("≥", 1.9, over=VARNISH))
    with TemporaryDirectory() as place:
        yield from throughput(run, _peers(Path(place), budgets), "/items", unchanged=unchanged)


def many_keys(run: Run) -> Iterator[Row]:
    budgets = (ratio("≥", 2.3), ratio("≥", 1.4, over=NGINX))
    with TemporaryDirectory() as place:
        yield from throughput(run, _peers(Path(place), budgets), "/items", keys=KEYS)


def _peers(place: Path, budgets: tuple[Budget, ...]) -> Sequence[Peer]:
    origin = uvicorn("the application", "tagged")
    return [
        uvicorn("raw ASGI", "raw"),
        served("tiercel serve", "installed", budgets=budgets),
        nginx(NGINX, origin, place),
        varnish(VARNISH, origin, place),
        uvicorn("Tiercel installed, under uvicorn", "installed", hits=True),
    ]


_METHOD = (
    "Requests per second of one worker with 32 connections: a list of 20 small items, 2.5 KB of JSON. `tiercel serve` "
    "answers hits of the application itself; nginx and Varnish stand in front of the same bytes, with an ETag, each "
    "with one worker or pool on the same core, and in memory. Raw ASGI sends constant bytes, and knows no conditions. "
    "By the clock, and by the CPU time of the server. Budgets go by the latter."
)
_NEEDS = ("wrk", "taskset", "nginx", "varnishd")

BENCHMARKS = (
    Benchmark(
        name="served",
        title="Hits under `tiercel serve`, one key",
        method=_METHOD,
        rows=one_key,
        plotted=True,
        needs=_NEEDS,
    ),
    Benchmark(
        name="served-304",
        title="Hits under `tiercel serve`, 304",
        method=f"{_METHOD} Each request has an If-None-Match that holds.",
        rows=partial(one_key, unchanged=True),
        plotted=True,
        needs=_NEEDS,
    ),
    Benchmark(
        name="served-3000",
        title="Hits under `tiercel serve`, 3,000 random keys",
        method=f"{_METHOD} Each request asks for one of 3,000 paths at random.",
        rows=many_keys,
        plotted=True,
        needs=_NEEDS,
    ),
)
