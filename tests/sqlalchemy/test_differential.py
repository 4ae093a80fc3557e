"""Whatever is read and changed, in any order: once a commit has returned, nothing that is cached is older than it.

Each seed plays a history: reads through the cache, alone, over one another, and with sessions that are kept open;
transactions of the ORM, in bulk, of Core and in text, with savepoints, committed or rolled back, also between the
moment at which a read has its rows and the one at which it is over. After each commit every cached read is compared
with one that the cache knows nothing of. Each mutant takes one defence away, and some seed has to find out.
"""

from collections import Counter
from collections.abc import Callable, Iterator
from contextvars import Context
from pathlib import Path
from random import Random
from typing import Any, Final, cast
from uuid import UUID

import pytest
from shelves import Clerk, Label, Maker, Model, Person, Price, Product, Review, Shelf, Ticket, stock, tagged
from sqlalchemy import Table, create_engine, delete, event, func, insert, inspect, select, text, union, update
from sqlalchemy.dialects.sqlite import insert as upsert
from sqlalchemy.exc import IntegrityError
from sqlalchemy.orm import Session, aliased, joinedload, selectinload, sessionmaker

from tiercel import Cache
from tiercel._engine.reading import Reads, reading
from tiercel._engine.recall import Recall
from tiercel.sqlalchemy import _source, _statements, track
from tiercel.sqlalchemy._changes import Changes
from tiercel.sqlalchemy._promise import Promise
from tiercel.sqlalchemy._sessions import Held
from tiercel.sqlalchemy._source import Source

SEEDS: Final = 12
OVER: Final = "over others"
UNDER: Final = ("a row", "count", "reference")
STEPS: Final = 25
PRODUCTS: Final = cast("Table", inspect(Product).local_table)
OTHER: Final = aliased(Product)


def rows(found: Any) -> list[tuple[Any, ...]]:
    return sorted([tuple(row) for row in found], key=repr)


def product(session: Session, number: int) -> Any:
    found = session.get(Product, number)
    return found and (found.name, found.price, found.maker_id)


def maker_of(session: Session, number: int) -> Any:
    found = session.get(Product, number)
    return found and found.maker and found.maker.name


def reviews_of(session: Session, number: int) -> Any:
    found = session.get(Product, number)
    return found and [(one.id, one.stars) for one in found.reviews]


def labels_of(session: Session, number: int) -> Any:
    found = session.get(Product, number)
    return found and [(one.id, one.text) for one in found.labels]


def desk(session: Session, number: int) -> Any:
    found = session.get(Person, number)
    return found and (found.name, isinstance(found, Clerk) and found.desk)


READS: Final[dict[str, Callable[[Session, int], Any]]] = {
    "a row": product,
    "a row by equality": lambda s, n: rows(s.execute(select(Product.name, Product.price).where(Product.id == n))),
    "a row and more": lambda s, n: s.scalar(select(func.count()).where(Product.id == n, Product.price > 2)),
    "another class": lambda s, n: (found := s.get(Maker, n)) and found.name,
    "composite": lambda s, n: (found := s.get(Price, ("fr" if n % 2 else "de", n))) and found.cents,
    "UUID": lambda s, n: (found := s.get(Ticket, UUID(int=n))) and found.note,
    "a shelf": lambda s, n: (found := s.get(Shelf, n)) and (found.id, found.above_id),
    "a review": lambda s, n: (found := s.get(Review, n)) and found.stars,
    "inherited": desk,
    "reference": maker_of,
    "collection": reviews_of,
    "many to many": labels_of,
    "all": lambda s, n: rows(s.execute(select(Product.id, Product.name, Product.price, Product.maker_id))),
    "some": lambda s, n: rows(s.execute(select(Product.id).where(Product.price >= n))),
    "join": lambda s, n: rows(s.execute(select(Product.id, Maker.name).join(Product.maker).where(Product.price < n))),
    "count": lambda s, n: s.scalar(select(func.count()).select_from(Review)),
    "exists": lambda s, n: rows(s.execute(select(Maker.name).where(Maker.products.any(Product.price > n)))),
    "subquery": lambda s, n: rows(
        s.execute(select(Product.id).where(Product.id.in_(select(Review.product_id).where(Review.stars >= n))))
    ),
    "scalar subquery": lambda s, n: s.scalar(
        select(Product.name).where(Product.id == n, Product.price >= select(func.max(OTHER.price)).scalar_subquery())
    ),
    "union": lambda s, n: rows(s.execute(union(select(Product.name), select(Maker.name).where(Maker.id == n)))),
    "CTE": lambda s, n: rows(s.execute(select(select(Review.stars).where(Review.product_id == n).cte().c.stars))),
    "joined": lambda s, n: [
        (one.id, [review.stars for review in one.reviews])
        for one in s.scalars(select(Product).options(joinedload(Product.reviews)).order_by(Product.id)).unique()
    ],
    "selectin": lambda s, n: [
        (one.id, [label.text for label in one.labels])
        for one in s.scalars(select(Product).options(selectinload(Product.labels)).order_by(Product.id))
    ],
    "Core": lambda s, n: rows(s.connection().execute(select(PRODUCTS.c.name).where(PRODUCTS.c.id == n))),
    "text": lambda s, n: rows(
        s.execute(text("select id, name from makers"), execution_options={"tables": [Maker]}),
    ),
    "shelves": lambda s, n: rows(s.execute(select(Shelf.id, Shelf.above_id))),
}


def one_of(session: Session, draw: Random, kind: Any) -> Any:
    found = session.scalars(select(kind)).all()
    return draw.choice(found) if found else None


def alter(session: Session, draw: Random) -> None:
    if found := one_of(session, draw, Product):
        found.name, found.price = f"n{draw.random():.6f}", draw.randrange(9)


def alter_another(session: Session, draw: Random) -> None:
    for kind, field in [(Maker, "name"), (Label, "text"), (Review, "stars"), (Clerk, "desk"), (Clerk, "name")]:
        if draw.random() < 0.3 and (found := one_of(session, draw, kind)):
            setattr(found, field, draw.randrange(10**6) if field in {"stars", "desk"} else f"{draw.random():.6f}")


def move(session: Session, draw: Random) -> None:
    if found := one_of(session, draw, Label):
        session.execute(update(Label).where(Label.id == found.id).values(text=str(draw.random())))
    if found := one_of(session, draw, Product):
        found.maker_id = draw.choice([one.id for one in session.scalars(select(Maker))] or [None])


def come(session: Session, draw: Random) -> None:
    makers = [one.id for one in session.scalars(select(Maker))]
    session.add(Product(name="came", price=draw.randrange(9), maker_id=draw.choice([None, *makers])))
    session.add(draw.choice([Maker(name="came"), Label(text="came"), Clerk(name="came", desk=draw.randrange(9))]))
    if found := one_of(session, draw, Product):
        session.add_all([Review(product_id=found.id, stars=draw.randrange(9)) for _ in range(draw.randrange(3))])


def go(session: Session, draw: Random) -> None:
    if found := one_of(session, draw, draw.choice([Product, Review, Ticket, Price, Shelf])):
        session.delete(found)


def go_by_the_database(session: Session, draw: Random) -> None:
    kind: Any = draw.choice([Product, Maker, Shelf])
    if found := one_of(session, draw, kind):
        session.execute(delete(kind).where(kind.id == found.id))


def label(session: Session, draw: Random) -> None:
    found, label = one_of(session, draw, Product), one_of(session, draw, Label)
    if found and label in found.labels:
        found.labels.remove(label)
    elif found and label:
        found.labels.append(label)


def rekey(session: Session, draw: Random) -> None:
    found = one_of(session, draw, Shelf)
    free = {1, 2, 3, 4, 5} - set(session.scalars(select(Shelf.id)))
    if found and free and not session.scalar(select(Shelf.id).where(Shelf.above_id == found.id)):
        session.execute(update(Shelf).where(Shelf.id == found.id).values(id=min(free)))
    elif free:
        session.add(Shelf(id=min(free), above_id=draw.choice([None, found and found.id])))


def in_bulk(session: Session, draw: Random) -> None:
    session.execute(update(Product).where(Product.price > draw.randrange(9)).values(name=f"bulk {draw.random():.6f}"))
    if draw.random() < 0.2:
        session.execute(delete(Review).where(Review.stars > draw.randrange(9)))


def in_bulk_by_key(session: Session, draw: Random) -> None:
    numbers = session.scalars(select(Product.id)).all()[:2]
    if numbers:
        session.execute(update(Product), [{"id": number, "price": draw.randrange(99)} for number in numbers])


def by_core(session: Session, draw: Random) -> None:
    connection, number = session.connection(), draw.randrange(1, 6)
    match draw.randrange(4):
        case 0:
            connection.execute(PRODUCTS.update().where(PRODUCTS.c.id == number).values(name=str(draw.random())))
        case 1:
            connection.execute(insert(PRODUCTS), [{"name": "core", "price": draw.randrange(9)} for _ in range(2)])
        case 2:
            connection.execute(tagged.delete().where(tagged.c.product_id == number))
        case _:
            connection.execute(insert(Review).from_select(["product_id", "stars"], select(Product.id, Product.price)))
    session.expire_all()


def or_else(session: Session, draw: Random) -> None:
    number = draw.randrange(1, 6)
    made = upsert(Price).values(country="fr" if number % 2 else "de", article=number, cents=draw.randrange(10**6))
    session.execute(
        made.on_conflict_do_update(index_elements=["country", "article"], set_={"cents": made.excluded.cents})
    )
    session.execute(insert(Ticket).prefix_with("OR REPLACE").values(id=UUID(int=number), note=str(draw.random())))
    session.expire_all()


def replaced(session: Session, draw: Random) -> None:
    """A row is gone first, and with it what hangs on it."""
    session.flush()
    session.execute(insert(Product).prefix_with("OR REPLACE").values(id=draw.randrange(1, 4), name="replaced", price=1))
    session.expire_all()


def in_text(session: Session, draw: Random) -> None:
    name = f"text {draw.random():.6f}"
    statement = text("update makers set name = :name where id < 3")
    if draw.random() < 0.5:
        statement = statement.execution_options(tables="makers")
    session.execute(statement, {"name": name})
    session.expire_all()


CHANGES: Final[list[Callable[[Session, Random], None]]] = [
    *[
        alter,
        alter_another,
        move,
        come,
        go,
        go_by_the_database,
        label,
        rekey,
        in_bulk,
        in_bulk_by_key,
        by_core,
        or_else,
    ],
    *[replaced, in_text],
]


class World:
    """One database, one cache, one history."""

    def __init__(self, path: Path, seed: int) -> None:
        self.draw = Random(seed)
        url = f"sqlite:///{path}/shop{seed}.db"
        self.engine, self.aside = create_engine(url), create_engine(url)
        for engine in (self.engine, self.aside):
            event.listen(engine, "connect", _set_up)
        Model.metadata.create_all(self.aside)
        with Session(self.aside) as session:
            stock(session)
            session.add_all([Ticket(id=UUID(int=1), note="x"), Price(country="de", article=2, cents=5)])
            session.commit()
        self.cache = Cache(jitter=0.0, draw=lambda: 0.0)
        self.within = False
        self.ask_before_each_commit()
        track(self.engine, self.cache)
        self.sessions = sessionmaker(self.engine)
        self.counts: Counter[str] = Counter()
        self.asked: dict[tuple[str, int], None] = {}
        self.handed_over: dict[tuple[str, int], None] = {}
        self.meanwhile: Callable[[], None] | None = None
        self.kept: list[tuple[Session, list[Any]]] = []

        @self.cache.memoize(ttl="1h")
        def read(name: str, number: int) -> str:
            self.counts["made"] += 1
            if name == OVER:
                return repr([read(other, number) for other in UNDER])
            with self.sessions() as session:
                found = READS[name](session, number)
                if self.meanwhile is not None:
                    self.within = True
                    Context().run(self.meanwhile)
                    self.within = False
                return repr(found)

        @self.cache.memoize(ttl="1h", key=_named)
        def handed(session: Session, name: str, number: int) -> str:
            return repr(READS[name](session, number))

        self.read, self.handed = read, handed

    def close(self) -> None:
        for session, _ in self.kept:
            session.close()
        self.engine.dispose()
        self.aside.dispose()

    def step(self) -> None:
        match self.draw.randrange(10):
            case 0 | 1 | 2:
                self.ask()
            case 3 | 4:
                self.ask_with_a_session()
            case 5 | 6:
                self.ask_across_a_change()
                self.compare()
            case _:
                self.transaction(self.ask)
                self.compare()

    def ask_before_each_commit(self) -> None:
        """Where the database is about to do it: what is read there is old at once."""
        dialect: Any = self.engine.dialect
        commit = dialect.do_commit

        def do_commit(connection: Any) -> None:
            if not self.within:  # who is asked there would wait for itself
                Context().run(self.ask)
            commit(connection)

        dialect.do_commit = do_commit

    def ask(self) -> None:
        for _ in range(5):
            key = self.draw.choice([*READS, OVER]), self.draw.randrange(1, 5)
            self.asked[key] = None
            self.read(*key)

    def ask_across_a_change(self) -> None:
        """It has its rows, and is not over, as others commit."""

        def meanwhile() -> None:
            self.meanwhile = None
            self.transaction(lambda: None)

        self.meanwhile = meanwhile
        self.ask()
        self.meanwhile = None

    def ask_with_a_session(self) -> None:
        """One that has loaded things long ago: of these the caller gets what it holds, and nobody else may."""
        if len(self.kept) < 2:
            session = self.sessions()
            self.kept.append((session, [session.scalars(select(kind)).all() for kind in (Product, Maker, Review)]))
        session, _ = self.draw.choice(self.kept)
        self.hand_over(session)

    def hand_over(self, session: Session) -> None:
        for _ in range(4):
            key = self.draw.choice([*READS]), self.draw.randrange(1, 5)
            self.handed_over[key] = None
            self.handed(session, *key)

    def transaction(self, before_it_ends: Callable[[], None]) -> None:
        with self.sessions() as session:
            try:
                self.change(session, depth=0)
                session.flush()
                before_it_ends()
                if not self.within:
                    self.hand_over(session)
                if self.draw.random() < 0.8:
                    session.commit()
                    self.counts["committed"] += 1
                    return
            except IntegrityError:
                self.counts["refused"] += 1
            session.rollback()

    def change(self, session: Session, depth: int) -> None:
        for _ in range(self.draw.randrange(1, 3)):
            if depth == 2 or self.draw.random() < 0.7:
                self.draw.choice(CHANGES)(session, self.draw)
                continue
            session.flush()
            savepoint = session.begin_nested()
            self.change(session, depth + 1)
            if self.draw.random() < 0.5:
                savepoint.commit()
            else:
                savepoint.rollback()

    def compare(self) -> None:
        with Session(self.aside) as session:
            for key in self.asked:
                made = self.counts["made"]
                found = self.read(*key)
                self.counts["hits"] += made == self.counts["made"]
                assert found == self.fresh(session, *key), key
        for key in self.handed_over:
            with self.sessions() as session, Session(self.aside) as other:
                assert self.handed(session, *key) == self.fresh(other, *key), key

    def fresh(self, session: Session, name: str, number: int) -> str:
        if name == OVER:
            return repr([self.fresh(session, other, number) for other in UNDER])
        found = repr(READS[name](session, number))
        session.expunge_all()
        return found


def _named(_: Session, name: str, number: int) -> tuple[str, int]:
    return name, number


def _set_up(connection: Any, _: object) -> None:
    for pragma in ("foreign_keys = ON", "journal_mode = WAL", "synchronous = OFF"):
        connection.execute(f"PRAGMA {pragma}")


def played(path: Path, seed: int, steps: int = STEPS) -> Counter[str]:
    world = World(path, seed)
    try:
        for _ in range(steps):
            world.step()
    finally:
        world.close()
    return world.counts


@pytest.mark.parametrize("seed", range(SEEDS))
def test_nothing_that_is_cached_is_older_than_the_last_commit(tmp_path: Path, seed: int) -> None:
    counts = played(tmp_path, seed)
    assert counts["committed"] > 3
    assert counts["hits"] > counts["committed"]  # or it would hold without a cache


def _nothing(*_: object, **__: object) -> None: ...


def _row_of_another(pins: Any, values: Any, dialect: str) -> str | None:
    return "0"


def _cut_early(promise: Any) -> None:
    promise._cache.invalidate_now(promise._tags)
    promise._tags = ()


def _no_names(*_: object) -> Iterator[str]:
    return iter(())


def _no_rows(*_: object) -> list[str]:
    return []


def _no_keys(*_: object) -> set[str]:
    return set()


def _true(*_: object) -> bool:
    return True


MUTANTS: Final[dict[str, tuple[object, str, object]]] = {
    "a commit cuts nothing": (Promise, "keep", _nothing),
    "a commit cuts before it, not after it": (Promise, "__enter__", _cut_early),
    "inner savepoints are forgotten": (Changes, "_merge", _nothing),
    "foreign keys are not followed": (_statements, "_following", _no_names),
    "what is added is no row": (Source, "_rows_of", _no_rows),
    "the row that is changed is another": (_source, "row_of", _row_of_another),
    "every insert only adds": (_statements, "_is_plain", _true),
    "what a key was given is not looked at": (_statements, "_given", _no_keys),
    "what a session holds was not read": (Held, "by", property(lambda _: reading.get(), _nothing)),
    "values hand nothing on": (Recall, "_hand_on", _nothing),
    "what was read has no age": (Reads, "older", _nothing),
    "what was read has no name": (Reads, "name", _nothing),
    "rows that were read have no name": (Reads, "part", _nothing),
    "what is not committed may be stored": (Reads, "disjoint", _true),
    "text changes nothing": (Changes, "anything", _nothing),
    "tables that are told change nothing": (_source, "names_of", _no_rows),
}


@pytest.mark.parametrize("mutant", MUTANTS)
def test_without_any_one_defence_it_is(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, mutant: str) -> None:
    monkeypatch.setattr(*MUTANTS[mutant])
    assert any(stale(tmp_path, seed) for seed in range(100))


def stale(path: Path, seed: int) -> bool:
    try:
        played(path, seed)
    except AssertionError:
        return True
    return False
