"""The real application over the whole catalogue, which is loaded once: each test has a copy, and an app of its own."""

import csv
import gzip
import os
import shutil
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pytest
from httpx import AsyncClient
from hypothesis import HealthCheck
from hypothesis import settings as hypothesis_settings
from postgres_server import Postgres, running
from redis_server import Server, servers
from rich.console import Console
from shop_client import BUSY, bearer, client_of, lifespan, sqlite
from sqlalchemy import event
from starlette.types import ASGIApp
from uvicorn_server import serving

from storefront.load import load
from storefront.main import surrounded
from storefront.parts import Parts
from storefront.settings import CATALOGUE, Settings, settings_of_the_environment

# Other work on the machine must not fail a test: no example is judged by how long it took.
hypothesis_settings.register_profile(
    "storefront", deadline=None, database=None, suppress_health_check=[HealthCheck.too_slow]
)
hypothesis_settings.load_profile("storefront")


@pytest.fixture
def anyio_backend() -> tuple[str, dict[str, object]]:
    """Real time: the database answers from threads."""
    return "asyncio", {}


@pytest.fixture(autouse=True)
def _environment(monkeypatch: pytest.MonkeyPatch) -> None:
    """What the developer's own environment says is not under test."""
    for name in [name for name in os.environ if name.startswith(("STOREFRONT_", "TIERCEL_"))]:
        monkeypatch.delenv(name)
    settings_of_the_environment.cache_clear()


@pytest.fixture(scope="session")
def loaded() -> Iterator[Path]:
    """A database with the whole catalogue: copy it, leave it as it is."""
    with TemporaryDirectory() as directory:
        file = Path(directory) / "storefront.db"
        load(sqlite(file), Console(quiet=True))
        yield file


@pytest.fixture(scope="session")
def three() -> Iterator[Path]:
    """A catalogue of three."""
    with TemporaryDirectory() as directory:
        file = Path(directory) / "three.csv.gz"
        with gzip.open(CATALOGUE, "rb") as diamonds, gzip.open(file, "wb") as written:
            written.writelines(next(diamonds) for _ in range(4))
        yield file


@pytest.fixture(scope="session")
def postgres() -> Iterator[Postgres]:
    with TemporaryDirectory() as directory, running(Path(directory)) as server:
        yield server


@pytest.fixture(scope="session")
def loaded_on_postgres(postgres: Postgres) -> str:
    """The name of a database with the whole catalogue: copy it, leave it as it is."""
    load(Settings(database_url=postgres.create("loaded")), Console(quiet=True))
    return "loaded"


@pytest.fixture
def on_postgres(postgres: Postgres, loaded_on_postgres: str) -> Iterator[Settings]:
    yield Settings(database_url=postgres.create("shop", template=loaded_on_postgres), cache_timeout=BUSY)
    postgres.drop("shop")


@pytest.fixture(params=["sqlite", "postgres"])
def either(request: pytest.FixtureRequest) -> Settings:
    """The whole catalogue in SQLite, and in PostgreSQL."""
    found: Settings = request.getfixturevalue("settings" if request.param == "sqlite" else "on_postgres")
    return found


@pytest.fixture(scope="session")
def redis() -> Iterator[Server]:
    with TemporaryDirectory() as directory:
        server = Server(Path(directory))
        with servers([server]):
            yield server


@pytest.fixture
def cache_url() -> str:
    """Where the cache lives; a module whose claims hold wherever that is says so."""
    return "memory://"


@pytest.fixture
def settings(loaded: Path, cache_url: str) -> Iterator[Settings]:
    with TemporaryDirectory() as directory:
        made = sqlite(Path(shutil.copy(loaded, directory)))
        yield made.model_copy(update={"cache_url": cache_url})


@pytest.fixture
def parts(settings: Settings) -> Parts:
    return Parts.made_for(settings)


@pytest.fixture
async def app(parts: Parts) -> AsyncIterator[ASGIApp]:
    app = surrounded(parts)
    async with lifespan(app):
        yield app


@pytest.fixture
async def shop(app: ASGIApp) -> AsyncIterator[AsyncClient]:
    """A client of the application, in its first version."""
    async with client_of(app) as client:
        yield client


@pytest.fixture
def statements(parts: Parts) -> list[str]:
    """Grow by each SQL statement that the application runs."""
    seen: list[str] = []

    def note(_connection: object, _cursor: object, statement: str, *_rest: object) -> None:
        seen.append(statement)

    event.listen(parts.database.engine.sync_engine, "before_cursor_execute", note)
    return seen


@pytest.fixture
async def alice(shop: AsyncClient) -> dict[str, str]:
    """The headers of a user who may write."""
    return await bearer(shop, "alice", "wonderland")


@pytest.fixture
async def bob(shop: AsyncClient) -> dict[str, str]:
    """The headers of a user who may not."""
    return await bearer(shop, "bob", "christmas")


@pytest.fixture
async def queen(shop: AsyncClient) -> dict[str, str]:
    """The headers of an administrator."""
    return await bearer(shop, "queen", "croquet")


@pytest.fixture(scope="session")
def diamonds() -> list[dict[str, Any]]:
    """The data set, read without the help of what is under test."""
    with gzip.open(CATALOGUE, "rt", encoding="ascii") as lines:
        words = {"cut", "color", "clarity"}
        return [
            {name: text if name in words else float(text) for name, text in row.items()}
            for row in csv.DictReader(lines)
        ]


@pytest.fixture
def server(settings: Settings) -> Iterator[str]:
    """The URL of a uvicorn that was started as the README says, and that has to end cleanly by Ctrl-C."""
    with serving(settings) as url:
        yield url
