"""What is not committed has not happened; what a session holds has been read."""

import asyncio
import threading
from collections.abc import Callable
from dataclasses import replace
from typing import Any, cast

import pytest
from shelves import Label, Maker, Product, Review, Shop
from sqlalchemy import Engine, Integer, String, create_engine, func, insert, select, text, update
from sqlalchemy.dialects import postgresql
from sqlalchemy.exc import IntegrityError, NoResultFound, OperationalError, ProgrammingError
from sqlalchemy.orm import DeclarativeBase, Session, mapped_column, scoped_session, sessionmaker

from tiercel import Cache, ConfigurationError
from tiercel._engine.reading import PARTS
from tiercel.sqlalchemy import _source, track
from tiercel.sqlalchemy._statements import Footprint, footprint, noting


def name_of(session: Session, number: int = 1) -> Any:
    return session.get_one(Product, number).name


def fell(shop: Shop) -> bool:
    """Whether the last reading is done again."""
    calls = shop.calls
    shop.read(f"read {len(shop.reads) - 1}")
    return shop.calls > calls


def rename(session: Session, name: str = "new") -> None:
    session.get_one(Product, 1).name = name
    session.flush()


def test_what_is_rolled_back_hits_nothing(shop: Shop) -> None:
    shop.tags_of(name_of)
    with shop.sessions() as session:
        rename(session)
        session.rollback()
        rename(session)
    assert not fell(shop)


def test_a_flush_hits_nothing_until_it_is_committed(shop: Shop) -> None:
    shop.tags_of(name_of)
    with shop.sessions() as session:
        rename(session)
        assert not fell(shop)
        session.commit()
        assert fell(shop)


def test_what_is_rolled_back_to_a_savepoint_hits_nothing(shop: Shop) -> None:
    shop.tags_of(name_of)
    with shop.sessions() as session:
        session.get_one(Product, 2).name = "new"
        session.flush()
        with session.begin_nested() as savepoint:
            rename(session)
            savepoint.rollback()
        session.commit()
    assert not fell(shop)


def test_what_a_savepoint_keeps_hits(shop: Shop) -> None:
    shop.tags_of(name_of)
    with shop.sessions() as session:
        session.get_one(Product, 2).name = "new"
        session.flush()
        with session.begin_nested():
            with session.begin_nested():
                rename(session)
            with session.begin_nested() as inner:
                session.add(Label())
                session.flush()
                inner.rollback()
        session.commit()
    assert fell(shop)


def test_a_savepoint_that_is_rolled_back_takes_those_in_it_along(shop: Shop) -> None:
    shop.tags_of(name_of)
    with shop.sessions() as session:
        session.add(Label())
        session.flush()
        outer = session.begin_nested()
        session.begin_nested()
        rename(session)
        outer.rollback()
        session.commit()
    assert not fell(shop)


def test_savepoints_in_text_are_savepoints(shop: Shop) -> None:
    shop.tags_of(name_of)
    with shop.engine.begin() as connection:
        connection.execute(insert(Label))
        connection.execute(text("SAVEPOINT here"))
        connection.execute(update(Product).values(name="new"))
        connection.exec_driver_sql("ROLLBACK TO here")
    assert not fell(shop)
    with shop.engine.begin() as connection:
        connection.execute(insert(Label))
        connection.execute(text("SAVEPOINT here"))
        connection.execute(update(Product).values(name="new"))
        connection.execute(text("RELEASE here"))
    assert fell(shop)


@pytest.mark.parametrize("goes", [None, asyncio.CancelledError()])
def test_a_savepoint_without_a_transaction_is_committed_by_the_driver_of_sqlite(
    shop: Shop, goes: BaseException | None
) -> None:
    """Nor is it undone with the connection, as where a later statement is cancelled."""
    shop.tags_of(name_of)
    with shop.engine.connect() as connection:
        with connection.begin_nested():
            connection.execute(update(Product).where(Product.id == 1).values(name="new"))
        if goes is None:
            connection.rollback()
        else:
            connection.invalidate(goes)
    with shop.sessions() as session:
        kept = name_of(session) == "new"
    assert fell(shop) or not kept


def test_a_commit_of_core_hits(shop: Shop) -> None:
    shop.tags_of(name_of)
    with shop.engine.begin() as connection:
        connection.execute(update(Product).values(name="new"))
        assert not fell(shop)
    assert fell(shop)


def test_with_autocommit_each_statement_hits(shop: Shop) -> None:
    shop.tags_of(lambda s: s.get(Label, 3))
    with shop.engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
        connection.execute(insert(Label).values(text="x"))
        assert fell(shop)


def test_with_autocommit_a_statement_that_fails_hits_what_it_has_changed_before(shop: Shop) -> None:
    shop.tags_of(lambda s: s.get(Label, 3))
    with shop.engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
        with pytest.raises(IntegrityError):
            connection.execute(insert(Label), [{"id": 3, "text": "x"}, {"id": 1, "text": "there already"}])
        assert fell(shop)
        assert connection.scalar(select(Label.text).where(Label.id == 3)) == "x"


def test_without_it_a_statement_that_fails_hits_nothing(shop: Shop) -> None:
    shop.tags_of(name_of)
    with shop.engine.connect() as connection:
        connection.execute(update(Product).values(name="new"))
        with pytest.raises(OperationalError):
            connection.exec_driver_sql("select nothing")
        connection.rollback()
    assert not fell(shop)


@pytest.mark.parametrize("sql", ["COMMIT", "-- over\nend"])
def test_a_commit_in_text_is_a_commit(shop: Shop, sql: str) -> None:
    shop.tags_of(name_of)
    with shop.engine.connect() as connection:
        connection.execute(update(Product).values(name="new"))
        assert not fell(shop)
        connection.exec_driver_sql(sql)
    assert fell(shop)
    assert not any("sql" in cut for cut in shop.watcher.cuts)


def test_also_one_that_fails(shop: Shop) -> None:
    shop.tags_of(name_of)
    with shop.engine.connect() as connection:
        connection.execute(update(Product).values(name="new"))
        driver: Any = connection.connection.driver_connection
        driver.commit()
        with pytest.raises(OperationalError, match="no transaction is active"):
            connection.execute(text("COMMIT"))
    assert fell(shop)


def test_a_result_that_fails_when_its_connection_is_gone_fails_as_ever(shop: Shop) -> None:
    with shop.engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
        result: Any = connection.execute(select(Label.id))
    result.cursor.close()
    with pytest.raises(ProgrammingError, match="closed cursor"):
        result.all()


def test_a_commit_in_text_of_what_another_has_prepared_hits_everything() -> None:
    found = footprint(None, "COMMIT PREPARED 'it'")
    assert (found.commits, found.anything, found.unknown) == (True, True, False)


@pytest.mark.parametrize(
    ("sql", "changes", "commits"),
    [
        ("SET LOCAL lock_timeout = 1; UPDATE products SET price = 1", True, False),
        ("BEGIN; DELETE FROM reviews; COMMIT;", True, True),
        ("SELECT '--'; TRUNCATE reviews", True, False),
        ("SELECT 'it''s --', 1; TRUNCATE reviews", True, False),
        ("SELECT E'\\' -- '; UPDATE reviews SET stars = 0; COMMIT; --'", True, True),
        ("WITH one AS (SELECT '--' AS n) UPDATE reviews SET stars = 0", True, False),
        ("/* old: /* x */ select */ UPDATE reviews SET stars = 0", True, False),
        ("SELECT stars FROM reviews -- ; of", False, False),
        ("/* a; b */ SELECT 1;", False, False),
        ("SHOW timezone; SELECT 1", False, False),
        ("SET x = 1;\n", False, False),
    ],
)
def test_in_text_no_statement_is_overlooked_wherever_it_stands(sql: str, *, changes: bool, commits: bool) -> None:
    found = footprint(None, sql)
    assert (found.anything, found.commits) == (changes, commits)


def test_a_guess_at_a_commit_keeps_the_real_one_from_nothing(shop: Shop, monkeypatch: pytest.MonkeyPatch) -> None:
    def guessed(compiled: Any, sql: str) -> Footprint:
        return replace(footprint(compiled, sql), commits=True)

    monkeypatch.setattr(_source, "footprint", guessed)
    shop.tags_of(name_of)
    with shop.engine.begin() as connection:
        connection.execute(update(Product).values(name="new"))
        assert fell(shop), "cut, in doubt"
        assert not fell(shop)
    assert fell(shop)


returning = text("update products set name = 'new' returning id").columns(Product.id)


@pytest.mark.parametrize("statement", [returning, select(Product).where(Product.id.in_(select(returning.cte().c.id)))])
def test_text_whose_columns_are_named_may_change_something_too(statement: Any) -> None:
    dialect = cast("Any", postgresql).dialect()
    dialect.statement_compiler = noting(dialect.statement_compiler)
    compiled = statement.compile(dialect=dialect)
    assert footprint(compiled, str(compiled)).anything


def test_of_many_rows_of_which_one_cannot_be_added_those_before_it_may_be_there(shop: Shop) -> None:
    shop.tags_of(lambda s: s.get(Label, 3))
    with shop.engine.begin() as connection:
        with pytest.raises(IntegrityError):
            connection.execute(insert(Label), [{"id": 3, "text": "x"}, {"id": 1, "text": "there already"}])
        assert not fell(shop)
    with shop.sessions() as session:
        there = session.get(Label, 3) is not None
    assert fell(shop) or not there
    assert there


def test_a_commit_that_fails_hits_too_for_nobody_knows_what_it_did(shop: Shop, monkeypatch: pytest.MonkeyPatch) -> None:
    engine = create_engine(shop.engine.url)

    def fails(_: object) -> None:
        raise OSError

    monkeypatch.setattr(engine.dialect, "do_commit", fails)
    track(engine, shop.cache)
    shop.tags_of(name_of)
    with Session(engine) as session:
        rename(session)
        with pytest.raises(OSError):  # noqa: PT011 - there is nothing else to tell it by
            session.commit()
    assert fell(shop)
    engine.dispose()


# -- nothing that is not committed is stored -------------------------------------------------------------------------


def test_what_is_made_of_an_uncommitted_change_is_not_stored(shop: Shop) -> None:
    def reading(session: Session) -> Any:
        rename(session)
        session.expire_all()
        return name_of(session)

    assert shop.reason_of(reading) == "uncommitted"


def test_nor_where_it_was_read_before_it_was_changed(shop: Shop) -> None:
    def reading(session: Session) -> Any:
        found = session.get_one(Product, 1)
        found.price += 1
        session.flush()
        return found.price

    assert shop.reason_of(reading) == "uncommitted"


def test_a_change_of_something_else_keeps_nothing_from_being_stored(shop: Shop) -> None:
    def reading(session: Session) -> Any:
        session.add(Label(text="seen"))
        session.flush()
        session.commit()
        return name_of(session)

    assert shop.reason_of(reading) == "stored"


def test_what_a_statement_returns_of_its_own_change_is_not_stored(shop: Shop) -> None:
    def reading(session: Session) -> Any:
        return session.scalars(update(Product).values(price=5).returning(Product.price)).all()

    assert shop.reason_of(reading) == "uncommitted"


def test_nor_what_a_part_of_it_returns(shop: Shop) -> None:
    changed = update(Product).values(name="new").returning(Product.name).cte()
    compiled: Any = select(changed.c.name).compile(shop.engine)  # which SQLite cannot execute
    found = footprint(compiled, str(compiled))
    assert (found.reads, found.changes) == (("products",), ("products",))


# -- what a session holds --------------------------------------------------------------------------------------------


def _one(_: Session) -> int:
    return 0


def name_of_ninth(session: Session) -> Any:
    return name_of(session, 9)


def merged(session: Session, found: Product) -> Product:
    return session.merge(found, load=False)


class Handed:
    """A memoised function that is handed a session, as `key=` allows."""

    def __init__(self, shop: Shop, reading: Any) -> None:
        self.shop = shop

        @shop.cache.memoize(ttl="1h", key=_one)
        def read(session: Session) -> str:
            shop.calls += 1
            return str(reading(session))

        self.read = read

    def fell(self) -> bool:
        calls = self.shop.calls
        with self.shop.sessions() as session:
            self.read(session)
        return self.shop.calls > calls


def test_an_object_that_the_session_of_the_caller_holds_has_been_read(shop: Shop) -> None:
    handed = Handed(shop, name_of)
    with shop.sessions() as session:
        kept = session.get(Product, 1)
        handed.read(session)
        assert kept is not None
    assert not handed.fell()
    shop.do(rename)
    assert handed.fell()


def test_an_object_that_a_session_holds_is_as_old_as_when_it_was_loaded(shop: Shop) -> None:
    handed = Handed(shop, name_of)
    with shop.sessions() as session:
        kept = session.get(Product, 1)
        session.commit()
        assert kept is not None
        session.refresh(kept)
        session.connection().rollback()
        shop.do(rename)
        assert handed.read(session) == "p1"
    assert handed.fell()


def test_a_reference_that_a_session_holds_has_been_read(shop: Shop) -> None:
    def name_of_maker(session: Session) -> Any:
        maker = session.get_one(Product, 1).maker
        return maker and maker.name

    handed = Handed(shop, name_of_maker)
    with shop.sessions() as session:
        kept = session.get(Product, 1), session.get(Maker, 1)
        handed.read(session)
        assert all(kept)
    assert not handed.fell()
    shop.do(lambda s: setattr(s.get_one(Maker, 1), "name", "x"))
    assert handed.fell()


def test_what_is_made_of_an_object_that_is_changed_and_not_flushed_is_not_stored(shop: Shop) -> None:
    handed = Handed(shop, name_of)
    with shop.sessions() as session:
        session.get_one(Product, 1).name = "never"
        kept = session.get(Product, 1)
        assert handed.read(session) == "never"
        assert kept is not None
    assert handed.fell()


def test_what_a_session_held_before_a_commit_that_expires_it_is_forgotten(shop: Shop) -> None:
    handed = Handed(shop, name_of)
    with shop.sessions() as session:
        session.get_one(Product, 1).name = "new"
        reviews = session.scalars(select(Review)).all()
        session.commit()
        assert handed.read(session) == "new"
        assert reviews
    assert not handed.fell()
    shop.do(lambda s: s.add(Review(product_id=1)))
    assert not handed.fell()


def test_what_a_session_has_flushed_and_rolls_back_is_not_stored(shop: Shop) -> None:
    handed = Handed(shop, name_of)
    with shop.sessions() as session:
        kept = session.get_one(Product, 1)
        rename(session, "never")
        assert handed.read(session) == "never"
        session.rollback()
        assert kept.name == "p1"
    assert handed.fell()


def test_nor_what_it_has_added(shop: Shop) -> None:
    handed = Handed(shop, name_of_ninth)
    with shop.sessions() as session:
        session.add(kept := Product(id=9, name="never"))
        session.flush()
        assert handed.read(session) == "never"
        assert kept
    with shop.sessions() as session, pytest.raises(NoResultFound):
        handed.read(session)


def test_nor_what_is_rolled_back_to_a_savepoint(shop: Shop) -> None:
    handed = Handed(shop, name_of)
    with shop.sessions() as session:
        with session.begin_nested() as savepoint:
            kept = session.get_one(Product, 1)
            rename(session, "never")
            assert handed.read(session) == "never"
            savepoint.rollback()
        session.commit()
        assert kept
    assert handed.fell()


def test_nor_what_a_bulk_update_has_changed_in_the_objects_of_a_session(shop: Shop) -> None:
    handed = Handed(shop, name_of)
    with shop.sessions() as session:
        kept = session.get_one(Product, 1)
        session.execute(update(Product).where(Product.id == 1).values(name="never"))
        assert kept.name == "never"
        assert handed.read(session) == "never"
        session.rollback()
    assert handed.fell()


def test_nor_what_a_production_has_added_itself(shop: Shop) -> None:
    def reading(session: Session) -> Any:
        session.scalar(select(func.count()).select_from(Label))
        kept = Product(id=9, name="never")
        session.add(kept)
        session.flush()
        return name_of(session, 9)

    assert shop.reason_of(reading) == "uncommitted"


def test_what_a_session_has_committed_and_still_holds_is_not_stored(shop: Shop) -> None:
    """It may be older than what others have committed since."""
    handed = Handed(shop, name_of_ninth)
    with Session(shop.engine, expire_on_commit=False) as session:
        session.add(kept := Product(id=9, name="old"))
        session.commit()
        shop.do(lambda s: setattr(s.get_one(Product, 9), "name", "new"))
        assert handed.read(session) == "old"
        assert kept
    assert handed.fell()


def test_a_session_that_has_forgotten_what_it_flushed_is_as_good_as_new(shop: Shop) -> None:
    handed = Handed(shop, name_of)
    with Session(shop.engine, expire_on_commit=False) as session:
        session.add(kept := Label(text="seen"))
        session.commit()
        session.close()
        assert handed.read(session) == "p1"
        assert kept
    assert not handed.fell()


def test_a_session_that_only_reads_has_nothing_to_doubt(shop: Shop) -> None:
    handed = Handed(shop, name_of)
    with Session(shop.engine, expire_on_commit=False) as session:
        kept = session.get(Product, 1)
        session.commit()
        assert handed.read(session) == "p1"
        assert kept
    assert not handed.fell()
    shop.do(rename)
    assert handed.fell()


@pytest.mark.parametrize("hand", [Session.add, merged])
def test_what_another_session_has_loaded_is_not_stored(shop: Shop, hand: Any) -> None:
    handed = Handed(shop, name_of)
    with shop.sessions() as elsewhere:
        found = elsewhere.get_one(Product, 1)
        elsewhere.expunge(found)
    shop.do(rename)
    with shop.sessions() as session:
        session.get(Label, 1)
        kept = hand(session, found), session.get(Product, 1)
        assert handed.read(session) == "p1"
        assert kept[1] is not None
    assert shop.watcher.reasons == ["objects-unknown"]
    assert handed.fell()


def test_nor_what_a_session_holds_of_which_it_is_not_known_when_it_was_loaded(shop: Shop) -> None:
    handed = Handed(shop, name_of)
    with shop.sessions() as session:
        kept = session.get(Product, 1)
        session.info.clear()
        assert handed.read(session) == "p1"
        assert kept
    assert shop.watcher.reasons == ["objects-unknown"]
    assert handed.fell()


def test_an_inner_value_does_not_take_what_others_have_read(shop: Shop) -> None:
    @shop.cache.memoize(ttl="1h")
    def inner() -> int:
        with shop.sessions() as session:
            return session.scalar(select(func.count()).select_from(Label)) or 0

    shop.reads["outer"] = lambda s: (name_of(s), inner())
    shop.read("outer")
    assert set(shop.watcher.tags[0]) == {"sql", "sql:labels"}
    assert {"sql:products:1", "sql:labels"} < set(shop.watcher.tags[1])


# -- bounds, threads, mistakes ---------------------------------------------------------------------------------------


def test_of_many_rows_the_table_is_named(shop: Shop) -> None:
    tags = shop.tags_of(lambda s: [s.get(Label, number) for number in range(PARTS + 1)])
    assert tags == {"sql", "sql:labels", "sql:labels:*"}
    assert len(shop.tags_of(lambda s: [s.get(Label, number) for number in range(PARTS)])) == PARTS + 2


def test_of_many_changed_rows_all_are(shop: Shop) -> None:
    shop.tags_of(lambda s: s.get(Label, 7000))
    shop.do(lambda s: s.add_all([Label(id=number) for number in range(100, 300)]))
    assert fell(shop)


def test_what_is_read_in_a_thread_of_its_own_is_read(shop: Shop) -> None:
    async def reading() -> str:
        def work() -> str:
            with shop.sessions() as session:
                return str(name_of(session))

        return await asyncio.to_thread(work)

    memoised = shop.cache.memoize(ttl=60)(reading)
    asyncio.run(memoised())
    assert "sql:products:1" in shop.watcher.tags[-1]


def test_threads_read_for_themselves(shop: Shop) -> None:
    barrier = threading.Barrier(2)
    shop.reads = {"one": lambda s: (barrier.wait(), name_of(s, 1)), "two": lambda s: (barrier.wait(), name_of(s, 2))}
    threads = [threading.Thread(target=shop.read, args=[name]) for name in shop.reads]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(max(tags) for tags in shop.watcher.tags) == ["sql:products:1", "sql:products:2"]


class SQLiteModel(DeclarativeBase): ...


class Odd(SQLiteModel):
    """Keys by which equal rows may be written otherwise."""

    __tablename__ = "odd"
    code = mapped_column(String(collation="NOCASE"), primary_key=True)
    number = mapped_column(Integer, primary_key=True)


@pytest.mark.parametrize("written", [7, "7"])
def test_a_key_that_can_be_written_in_several_ways_is_read_by_its_table(shop: Shop, written: Any) -> None:
    SQLiteModel.metadata.create_all(shop.engine)
    shop.do(lambda s: s.add(Odd(code="a", number=written)))
    assert shop.tags_of(lambda s: s.get(Odd, ("A", 7))) == {"sql", "sql:odd"}


def test_a_row_that_is_written_by_another_type_is_hit(shop: Shop) -> None:
    shop.tags_of(lambda s: s.get(Label, 7))
    shop.do(lambda s: s.add(Label(id="7")))
    assert fell(shop)


def test_what_was_compiled_before_it_was_tracked_is_understood(engine: Engine) -> None:
    with Session(engine) as session:
        rename(session)
        session.scalars(select(Product).where(Product.id == 1)).all()
        session.commit()
    shop = Shop(engine)
    shop.tags_of(name_of)
    shop.do(lambda s: rename(s, "newer"))
    assert fell(shop)
    assert not any("sql" in cut for cut in shop.watcher.cuts)


def test_a_sessionmaker_is_tracked_by_its_engines(engine: Engine) -> None:
    cache = Cache()
    track(sessionmaker(engine), cache)
    track(scoped_session(sessionmaker(binds={Product: engine})), cache)
    with pytest.raises(ConfigurationError, match="for another cache"):
        track(engine, Cache())
    with pytest.raises(ConfigurationError, match="by another name"):
        track(engine, cache, name="stock")


@pytest.mark.parametrize("source", [sessionmaker(), "sqlite://", None])
def test_what_has_no_engine_cannot_be_tracked(source: object) -> None:
    with pytest.raises(ConfigurationError, match="it has no engine"):
        track(source, Cache())


def through(engine: Engine) -> Callable[[Session], Any]:
    def reading(_: Session) -> Any:
        with Session(engine) as session:
            return name_of(session)

    return reading


def test_while_others_are_not_heard_no_engine_of_the_database_stores(shop: Shop) -> None:
    engines = [create_engine(shop.engine.url) for _ in range(3)]
    track(engines[0], shop.cache)
    track(engines[1], shop.cache, name="stock")
    track(engines[2], Cache())
    deaf: set[object] = cast("Any", shop.engine.dialect).tiercel_source.deaf
    deaf |= {"one", "other"}  # two that listen, and do not hear
    said = [shop.reason_of(through(engine)) for engine in engines]
    assert said == ["not-listening", "stored", "stored"]
    for hearing, then in (("one", "not-listening"), ("other", "stored")):
        deaf.remove(hearing)
        assert shop.reason_of(through(engines[0])) == then
    for engine in engines:
        engine.dispose()


def test_two_databases_have_tags_of_their_own(shop: Shop) -> None:
    engine = create_engine(shop.engine.url)
    track(engine, shop.cache, name="stock")
    shop.tags_of(name_of)
    with Session(engine) as session:
        rename(session, "there")
        session.commit()
    assert not fell(shop)
    engine.dispose()
