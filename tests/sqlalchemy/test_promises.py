"""A commit, and a store that several processes share: told before, cut after, and committed in any case."""

import asyncio
import subprocess
import sys
import textwrap
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import pytest
from shelves import Product
from sqlalchemy import create_engine, select, update
from sqlalchemy.ext.asyncio import AsyncEngine, async_sessionmaker, create_async_engine
from sqlalchemy.orm import Session

from tiercel import Cache
from tiercel._core.events import Event, Failed
from tiercel._engine.stamps import Verdict
from tiercel.sqlalchemy import track
from tiercel.testing import SimulatedServer, SimulatedStore

pytestmark = pytest.mark.realtime  # the driver is a thread
HARNESS = Path(__file__).parent.parent / "harness"
RENAME = update(Product).where(Product.id == 1).values(name="new")


class Process:
    """One of several: an engine, a cache, and a function that all of them know."""

    def __init__(self, url: Any, store: Any, **options: Any) -> None:
        self.engine = create_async_engine(url)
        self.seen: list[Event] = []
        self.before: Callable[[], None] = lambda: None
        self.after: Callable[[], None] = lambda: None
        self.cache = Cache(store, observers=[self], jitter=0.0, draw=lambda: 0.0, **options)
        dialect: Any = self.engine.dialect
        commit = dialect.do_commit

        def do_commit(connection: Any) -> None:
            self.before()
            commit(connection)
            self.after()

        dialect.do_commit = do_commit
        track(self.engine, self.cache)
        self.sessions = async_sessionmaker(self.engine)

        @self.cache.memoize(ttl="1h")
        async def name() -> str:
            async with self.sessions() as session:
                return (await session.scalars(select(Product.name).where(Product.id == 1))).one()

        name.__qualname__ = "name"
        self.name = name

    def on_event(self, event: Event) -> None:
        self.seen.append(event)

    @property
    def told(self) -> list[str]:
        return [event.where for event in self.seen if isinstance(event, Failed)]

    async def rename(self) -> None:
        async with self.sessions.begin() as session:
            await session.execute(RENAME)


class Shared:
    def __init__(self, database: AsyncEngine) -> None:
        self.server = SimulatedServer()
        self.one, self.other = (Process(database.url, SimulatedStore(self.server), store_timeout=1.0) for _ in range(2))

    @property
    def promised(self) -> list[tuple[str, ...]]:
        return [hold.tags for hold in self.server.space("tiercel").holds.values()]


@pytest.fixture
async def shared(database: AsyncEngine) -> AsyncIterator[Shared]:
    made = Shared(database)
    yield made
    made.server.refuses = False
    for process in (made.one, made.other):
        await process.cache.aclose()
        await process.engine.dispose()


async def hears_of_it(process: Process) -> bool:
    """Another process, some time: by the protocol after a second at most, where the store answers."""
    async with asyncio.timeout(30):
        while await process.name() != "new":  # noqa: ASYNC110 - it is told of nothing else
            await asyncio.sleep(0.01)
    return True


async def test_what_one_commits_falls_in_all(shared: Shared) -> None:
    assert [await shared.one.name(), await shared.other.name()] == ["p1", "p1"]
    await shared.one.rename()
    assert await shared.one.name() == "new"
    assert await hears_of_it(shared.other)


async def test_the_store_is_told_before_the_commit_and_released_after_it(shared: Shared) -> None:
    told: list[list[tuple[str, ...]]] = []
    shared.one.before = shared.one.after = lambda: told.append(shared.promised)
    await shared.one.rename()
    assert told == [[("sql:products", "sql:products:1")]] * 2
    assert shared.promised == []


async def test_what_reads_only_tells_nobody(shared: Shared) -> None:
    told: list[list[tuple[str, ...]]] = []
    shared.one.before = lambda: told.append(shared.promised)
    async with shared.one.sessions.begin() as session:
        await session.get(Product, 1)
    assert told == [[]]


async def test_a_store_that_does_not_answer_fails_no_commit(shared: Shared) -> None:
    assert [await shared.one.name(), await shared.other.name()] == ["p1", "p1"]
    shared.server.refuses = True
    await shared.one.rename()
    assert "the promise before a commit" in shared.one.told
    assert "the invalidation after a commit" in shared.one.told
    assert await shared.one.name() == "new"
    shared.server.refuses = False
    assert await hears_of_it(shared.other)


async def test_a_store_that_fails_only_after_the_commit_keeps_its_promise(shared: Shared) -> None:
    await shared.one.name()

    def refuse() -> None:
        shared.server.refuses = True

    shared.one.after = refuse
    await shared.one.rename()
    assert shared.one.told[-1] == "the invalidation after a commit"
    assert shared.promised
    assert await shared.one.name() == "new"


async def test_a_caller_that_is_cancelled_as_it_waits_for_the_cut_has_cut_here(shared: Shared) -> None:
    await shared.one.name()
    stamps = shared.one.cache.engine.stamps
    committed = asyncio.Event()

    def freeze() -> None:
        shared.server.freeze()
        committed.set()

    shared.one.after = freeze

    async def change() -> None:
        session = shared.one.sessions()
        await session.execute(RENAME)
        await session.commit()  # with `begin()` a session would not be left before it is over

    changing = asyncio.create_task(change())
    await committed.wait()
    changing.cancel()
    await asyncio.wait([changing])
    assert changing.cancelled()
    # Whatever the store makes of it: what is made from before the cut is cut here, and nothing else.
    verdicts = [stamps.verdict((tag,), stamps.position) for tag in ("sql:products", "sql:makers")]
    assert verdicts == [Verdict.CUT, Verdict.USABLE]
    shared.server.thaw()


async def test_a_synchronous_session_cuts_here_at_once_and_elsewhere_soon(shared: Shared) -> None:
    assert [await shared.one.name(), await shared.other.name()] == ["p1", "p1"]
    engine = create_engine(f"sqlite:///{shared.one.engine.url.database}")
    track(engine, shared.one.cache)
    with Session(engine) as session:
        session.execute(RENAME)
        session.commit()
        assert shared.promised == []
    engine.dispose()
    assert await shared.one.name() == "new"
    assert await hears_of_it(shared.other)


SCRIPT = """
import sys
sys.path.insert(0, {harness!r})
from shelves import Product
from sqlalchemy import create_engine, update
from tiercel import Cache
from tiercel.sqlalchemy import track

engine = create_engine({url!r})
track(engine, Cache({store!r}))
with engine.begin() as connection:
    connection.execute(update(Product).where(Product.id == 1).values(name="new"))
"""


async def test_a_script_that_has_no_event_loop_tells_the_others_too(database: AsyncEngine, tmp_path: Path) -> None:
    store = f"local://{tmp_path}/cache"
    here = Process(database.url.render_as_string(), store)
    assert await here.name() == "p1"
    url = f"sqlite:///{database.url.database}"
    script = SCRIPT.format(harness=str(HARNESS), url=url, store=store)
    await asyncio.to_thread(subprocess.run, [sys.executable, "-c", script], check=True)
    assert await hears_of_it(here)
    await here.cache.aclose()
    await here.engine.dispose()


DIES = """
import asyncio, os, sys
sys.path.insert(0, {harness!r})
from shelves import Product
from sqlalchemy import update
from sqlalchemy.ext.asyncio import AsyncSession, create_async_engine
from tiercel import Cache
from tiercel._engine import telling
from tiercel.sqlalchemy import track

telling.HELD = 0.5

async def change():
    engine = create_async_engine({url!r})
    commit = engine.dialect.do_commit

    def do_commit(connection):
        commit(connection)
        os._exit(9)

    engine.dialect.do_commit = do_commit
    track(engine, Cache({store!r}))
    async with AsyncSession(engine) as session:
        await session.execute(update(Product).where(Product.id == 1).values(name="new"))
        await session.commit()

asyncio.run(change())
"""


async def test_what_a_process_has_committed_that_died_before_the_cut_falls(
    database: AsyncEngine, tmp_path: Path
) -> None:
    url, store = database.url.render_as_string(), f"local://{tmp_path}/cache"
    here = Process(url, store)
    assert await here.name() == "p1"
    script = textwrap.dedent(DIES).format(harness=str(HARNESS), url=url, store=store)
    died = await asyncio.to_thread(subprocess.run, [sys.executable, "-c", script], check=False)
    assert died.returncode == 9
    assert await hears_of_it(here)
    await here.cache.aclose()
    await here.engine.dispose()
