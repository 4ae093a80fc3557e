"""What the README says about the load run: it finds nothing, and it would."""

from dataclasses import replace
from io import StringIO
from pathlib import Path
from random import Random

import httpx
import pytest
from httpx import ASGITransport, AsyncClient
from hypothesis import given
from hypothesis import strategies as st
from redis_server import free_port
from rich.console import Console
from shop_client import client_of, is_hit, lifespan

from storefront.load import DEMO_USERS
from storefront.loadrun.__main__ import main, planned, show
from storefront.loadrun.ledger import Ledger
from storefront.loadrun.run import Plan, Report, run
from storefront.loadrun.traffic import Kind, Refused, Traffic
from storefront.main import surrounded
from storefront.parts import Parts
from storefront.settings import Settings

QUIET = Console(quiet=True)


def plan_of(given: Settings, place: Path, **more: object) -> Plan:
    shared = given.model_copy(update={"cache_url": f"local://{place}/cache"})
    made = Plan(settings=shared, place=place, workers=2, seconds=2, beside=1)
    return replace(made, **more)  # type: ignore[arg-type]


async def test_under_load_no_answer_is_older_than_the_last_acknowledged_change(
    settings: Settings, tmp_path: Path
) -> None:
    report = await run(plan_of(settings, tmp_path), QUIET)
    assert (report.errors, report.ledger.violations) == ([], [])
    assert report.held
    assert report.ledger.compared > 100
    assert report.kinds["product v1"].hits
    assert report.kinds["change"].asked >= 20
    assert (
        report.uncached.keys() == report.alone.keys() >= {"list", "facets", "statistics", "graph", "orders (guarded)"}
    )
    shown = StringIO()
    show(report, Console(file=shown, width=200))
    assert "0 older than the last acknowledged change; 0 errors" in shown.getvalue()


@pytest.mark.parametrize("broken", ["each worker remembers alone", "changes cut nothing"])
async def test_a_load_run_finds_an_invalidation_that_does_not_work(
    settings: Settings, tmp_path: Path, broken: str
) -> None:
    if broken == "each worker remembers alone":
        alone = settings.model_copy(update={"cache_url": "memory://"})
        plan = plan_of(settings, tmp_path, beside=0, settings=alone)
    else:
        plan = plan_of(settings, tmp_path, beside=0, factory="deaf_shop:create")
    report = await run(plan, QUIET)
    assert report.errors == []
    assert report.ledger.violations
    assert not report.held


async def test_a_load_run_finds_errors() -> None:
    async with httpx.AsyncClient(base_url=f"http://127.0.0.1:{free_port()}") as nobody:
        traffic = Traffic(nobody, Ledger(), Random(1))
        with pytest.raises(httpx.ConnectError):
            await traffic.prepare()
        for _ in range(20):
            await traffic.one()
    assert len(traffic.errors) == 20
    assert not Report(
        seconds=1, kinds={}, ledger=traffic.ledger, errors=traffic.errors, refused=0, alone={}, uncached={}
    ).held


@pytest.mark.parametrize(("changes", "refused", "held"), [(10, 0, True), (10, 1, True), (10, 2, False), (0, 1, False)])
def test_a_load_run_whose_changes_are_refused_has_not_held(changes: int, refused: int, *, held: bool) -> None:
    kinds = {"order": Kind(asked=changes), "list": Kind(asked=100, hits=50)}
    report = Report(
        seconds=1, kinds=kinds, ledger=Ledger(compared=1), errors=[], refused=refused, alone={}, uncached={}
    )
    assert report.held is held


@pytest.mark.parametrize("lacking", ["hits", "changes", "comparisons", "nothing"])
def test_a_load_run_that_has_seen_nothing_has_not_held(lacking: str) -> None:
    kinds = {"list": Kind(asked=9, hits=0 if lacking == "hits" else 5)}
    if lacking != "changes":
        kinds["order"] = Kind(asked=1)
    ledger = Ledger(compared=0 if lacking == "comparisons" else 1)
    report = Report(seconds=1, kinds=kinds, ledger=ledger, errors=[], refused=0, alone={}, uncached={})
    assert report.held is (lacking == "nothing")


async def test_a_change_that_is_refused_is_owed_to_nobody(settings: Settings) -> None:
    parts = Parts.made_for(settings.model_copy(update={"cache_url": f"redis://127.0.0.1:{free_port()}"}))
    app = surrounded(parts)
    async with lifespan(app), AsyncClient(transport=ASGITransport(app), base_url="http://127.0.0.1") as shop:
        traffic = Traffic(shop, Ledger(), Random(1))
        await traffic.prepare()
        with pytest.raises(Refused):
            await traffic.order()
        owed = [traffic.ledger.owed(("orders", user["name"]), float("inf")) for user in DEMO_USERS]
        assert owed == [0, 0, 0]
        while not traffic.refused:
            await traffic.one()
    assert traffic.errors == []


@given(
    st.lists(st.tuples(st.floats(0, 100), st.integers(0, 1_000)), max_size=20).map(sorted),
    st.floats(0, 110),
    st.sampled_from([0.0, 1.0]),
)
def test_what_is_owed_is_the_largest_number_acknowledged_before(
    acknowledged: list[tuple[float, int]], began: float, delta: float
) -> None:
    ledger = Ledger(delta)
    for moment, number in acknowledged:
        ledger.acknowledge("it", number, moment)
    owed = max((number for moment, number in acknowledged if moment <= began - delta), default=0)
    assert ledger.owed("it", began) == owed
    ledger.compare("it", owed, began, "")
    assert ledger.violations == []
    ledger.compare("it", owed - 1, began, "hit")
    assert [str(each) for each in ledger.violations] == [f"it: {owed - 1}, but {owed} was acknowledged before; hit"]


async def test_in_shadow_the_application_always_answers(settings: Settings) -> None:
    app = surrounded(Parts.made_for(settings.model_copy(update={"cache_shadow": True})))
    async with lifespan(app), client_of(app) as shop:
        answers = [await shop.get("/products/1") for _ in range(2)]
    assert [is_hit(answer) for answer in answers] == [False, False]
    assert "detail=shadow-hit" in answers[1].headers["cache-status"]


def test_a_load_run_whose_service_does_not_start_says_what_that_says(
    monkeypatch: pytest.MonkeyPatch, three: Path
) -> None:
    monkeypatch.setenv("SECONDS", "1")
    monkeypatch.setenv("STOREFRONT_CATALOGUE", str(three))

    def hopeless(place: Path) -> Plan:
        return replace(planned(place), factory="storefront.main:no_such", workers=1)

    monkeypatch.setattr("storefront.loadrun.__main__.planned", hopeless)
    monkeypatch.setattr("storefront.loadrun.run.PATIENCE", 5.0)
    with pytest.raises(SystemExit, match=r"does not answer(.|\n)*no_such"):
        main()


def test_a_load_run_stays_on_this_machine_and_within_its_bounds(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert (planned(tmp_path).seconds, planned(tmp_path).workers, planned(tmp_path).delta) == (120, 4, 0)
    for name, value, says in (
        ("REDIS", "redis://cache.example:6379", "is not on this machine"),
        ("SECONDS", "0", "from 1 to"),
        ("SECONDS", "for ever", "from 1 to"),
        ("WORKERS", "1000", "from 1 to 64"),
    ):
        with monkeypatch.context() as patch:
            patch.setenv(name, value)
            with pytest.raises(SystemExit, match=says):
                main()
    for name, value in (("CACHE_SHADOW", "true"), ("EVENTS_URL", "redis://others.example"), ("UPLOADS", "/var/shop")):
        monkeypatch.setenv(f"STOREFRONT_{name}", value)
    its = planned(tmp_path).settings
    assert (its.cache_shadow, its.events_url, its.uploads) == (False, "memory://", tmp_path / "uploads")
    monkeypatch.setenv("REDIS", "redis://127.0.0.1:6379/3")
    assert (planned(tmp_path).settings.cache_url, planned(tmp_path).delta) == ("redis://127.0.0.1:6379/3", 1)
