"""What the README says about setting up and running."""

import asyncio
import os
import sqlite3
import subprocess
import sys
from collections.abc import Iterator
from contextlib import closing
from io import StringIO
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
from pydantic import ValidationError
from redis_server import Server, free_port
from rich.console import Console
from shop_client import client_of, lifespan
from sqlalchemy import make_url

from storefront import demo
from storefront.load import load, main
from storefront.main import assembled
from storefront.parts import Parts
from storefront.settings import Settings

STOREFRONT = Path(__file__).parents[1]
ROOT = STOREFRONT.parents[1]
QUIET = Console(quiet=True)
OWN_SECRET = "x7" * 16


@pytest.fixture
def empty(three: Path) -> Iterator[Settings]:
    """No database yet, and a catalogue of three."""
    with TemporaryDirectory() as directory:
        yield Settings(database_url=f"sqlite+aiosqlite:///{directory}/new.db", catalogue=three)


def ask(settings: Settings, statement: str) -> list[tuple[object, ...]]:
    file = str(make_url(settings.database_url).database)
    with closing(sqlite3.connect(file, isolation_level=None)) as connection:
        return connection.execute(statement).fetchall()


def test_loading_again_changes_nothing(settings: Settings) -> None:
    ask(settings, "UPDATE products SET price = 1, version = 2 WHERE id = 7")
    assert load(settings, QUIET) == (0, 0, 53_940)
    assert ask(settings, "SELECT price, version FROM products WHERE id = 7") == [(1, 2)]


def test_loading_again_adds_what_is_missing(settings: Settings) -> None:
    ask(settings, "DELETE FROM products WHERE id % 3 = 0")
    ask(settings, "DELETE FROM users WHERE name = 'bob'")
    assert load(settings, QUIET) == (17_980, 1, 53_940)


async def test_loading_forgets_what_was_cached(empty: Settings, redis: Server) -> None:
    shared = empty.model_copy(update={"cache_url": f"redis://127.0.0.1:{redis.port}"})
    await asyncio.to_thread(load, shared, QUIET)
    ask(shared, "DELETE FROM products WHERE id = 2")
    app = assembled(Parts.made_for(shared))
    async with lifespan(app), client_of(app) as shop:
        assert [product["id"] for product in (await shop.get("/products")).json()["items"]] == [1, 3]
        assert await asyncio.to_thread(load, shared, QUIET) == (1, 0, 3)
        assert [product["id"] for product in (await shop.get("/products")).json()["items"]] == [1, 2, 3]


def test_loading_says_when_the_cache_has_not_heard_of_it(empty: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("STOREFRONT_CACHE_URL", f"redis://127.0.0.1:{free_port()}")
    monkeypatch.setenv("STOREFRONT_DATABASE_URL", empty.database_url)
    monkeypatch.setenv("STOREFRONT_CATALOGUE", str(empty.catalogue))
    with pytest.raises(SystemExit, match="The catalogue is loaded, but the cache may still answer from before: "):
        main()
    assert ask(empty, "SELECT count(*) FROM products") == [(3,)]


def test_loading_shows_its_progress_on_a_terminal_only(empty: Settings) -> None:
    terminal, pipe = StringIO(), StringIO()
    load(empty, Console(file=terminal, force_terminal=True))
    ask(empty, "DELETE FROM products")
    load(empty, Console(file=pipe))
    assert "loading diamonds" in terminal.getvalue()
    assert pipe.getvalue() == ""


def test_the_users_with_known_passwords_exist_in_dev_only(empty: Settings) -> None:
    production = empty.model_copy(update={"environment": "production"})
    assert load(production, QUIET) == (3, 0, 3)
    assert load(empty, QUIET) == (0, 3, 3)


def test_the_database_keeps_a_write_ahead_log(settings: Settings) -> None:
    assert ask(settings, "PRAGMA journal_mode") == [("wal",)]


@pytest.mark.parametrize(
    ("given", "fits"),
    [
        ({}, True),
        ({"environment": "production"}, False),
        ({"environment": "production", "secret": "short"}, False),
        ({"environment": "production", "secret": OWN_SECRET}, True),
        ({"secret": "short"}, False),
    ],
)
def test_outside_dev_the_known_secret_is_refused(
    monkeypatch: pytest.MonkeyPatch, given: dict[str, str], *, fits: bool
) -> None:
    for name, value in given.items():
        monkeypatch.setenv(f"STOREFRONT_{name.upper()}", value)
    if fits:
        assert Settings().secret.get_secret_value() == given.get("secret", Settings().secret.get_secret_value())
        return
    with pytest.raises(ValidationError, match=r"STOREFRONT_SECRET is .*: set it to what") as refused:
        Settings()
    assert "short'" not in str(refused.value)


def test_the_five_lines_of_the_demo_show_what_they_say(server: str) -> None:
    product, campaign, statistics, login, change = (line.replace("URL", server) for _, line in demo.LINES)
    typed = (product, product, campaign, statistics, statistics, login, login.splitlines()[1], change, product)
    with TemporaryDirectory() as directory:
        script = "\nprintf '\\0'\n".join(typed).replace("/tmp", directory)  # noqa: S108 - leaves nothing behind
        done = subprocess.run(["bash", "-c", script], stdout=subprocess.PIPE, text=True, check=True)  # noqa: S607 - curl
    seen = done.stdout.split("\0")
    assert [each.split()[1] for each in seen] == ["200", "200", "200", "200", "304", "200", "200", "200", "200"]
    assert ["tiercel; hit" in each for each in seen] == [False, True, True, False, True, False, True, False, False]
    assert all("cache-control: private" in each.lower() for each in seen[5:7])
    assert all('"price":330,"stock":1,"version":2' in each for each in seen[7:])


@pytest.mark.parametrize(
    ("told", "place"),
    [
        ((), "memory://"),
        (("WORKERS=1",), "memory://"),
        (("WORKERS=4",), f"local://{ROOT}/examples/storefront/demo-8000.cache"),
        (("WORKERS=4", "REDIS=redis://127.0.0.1:1"), "redis://127.0.0.1:1"),
    ],
)
def test_the_demonstration_keeps_its_cache_where_its_workers_find_it(told: tuple[str, ...], place: str) -> None:
    command, alone = ["make", "-n", "demo", *told], {"PATH": os.environ["PATH"]}
    said = subprocess.run(command, cwd=ROOT, env=alone, check=True, capture_output=True, text=True).stdout
    assert said.count(f"STOREFRONT_CACHE_URL={place} ") == 2
    assert said.count(f"STOREFRONT_EVENTS_URL={place if place.startswith('redis') else 'memory://'} ") == 2
    assert f"WORKERS={told[0].partition('=')[2] if told else 1} " in said


def test_a_number_of_workers_that_is_none_is_said() -> None:
    command = [sys.executable, str(ROOT / "scripts" / "demo.py")]
    environment = {**os.environ, "WORKERS": "abc", "PYTHONPATH": str(STOREFRONT)}
    said = subprocess.run(command, cwd=STOREFRONT, env=environment, check=False, capture_output=True, text=True)
    assert (said.returncode, said.stderr) == (1, "WORKERS=abc is no number to start with: make demo WORKERS=1\n")
