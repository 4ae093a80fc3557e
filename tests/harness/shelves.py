"""A small shop in a database: what the tests of `tiercel.sqlalchemy` read and change."""

from collections.abc import Callable
from typing import Any
from uuid import UUID, uuid4

from sqlalchemy import Column, Engine, ForeignKey, Integer, MetaData, Table, insert
from sqlalchemy.orm import DeclarativeBase, Mapped, Session, mapped_column, relationship, sessionmaker

from tiercel import Cache
from tiercel._core.events import Discarded, Invalidated, Stored
from tiercel.sqlalchemy import track

ID = UUID(int=7)


class Model(DeclarativeBase):
    metadata = MetaData()


tagged = Table(
    "tagged",
    Model.metadata,
    Column("product_id", Integer, ForeignKey("products.id", ondelete="CASCADE"), primary_key=True),
    Column("label_id", Integer, ForeignKey("labels.id"), primary_key=True),
)


class Maker(Model):
    __tablename__ = "makers"
    id: Mapped[int] = mapped_column(primary_key=True)
    name: Mapped[str] = mapped_column(default="")
    products: Mapped[list["Product"]] = relationship(back_populates="maker", order_by="Product.id")


class Product(Model):
    __tablename__ = "products"
    id: Mapped[int] = mapped_column(primary_key=True)
    name: Mapped[str] = mapped_column(default="")
    price: Mapped[int] = mapped_column(default=0)
    maker_id: Mapped[int | None] = mapped_column(ForeignKey("makers.id", ondelete="SET NULL"))
    maker: Mapped[Maker | None] = relationship(back_populates="products")
    reviews: Mapped[list["Review"]] = relationship(
        back_populates="product", order_by="Review.id", cascade="all, delete-orphan", passive_deletes=True
    )
    labels: Mapped[list["Label"]] = relationship(secondary=tagged, order_by="Label.id", passive_deletes=True)


class Review(Model):
    __tablename__ = "reviews"
    id: Mapped[int] = mapped_column(primary_key=True)
    stars: Mapped[int] = mapped_column(default=0)
    product_id: Mapped[int] = mapped_column(ForeignKey("products.id", ondelete="CASCADE"))
    product: Mapped[Product] = relationship(back_populates="reviews")


class Label(Model):
    __tablename__ = "labels"
    id: Mapped[int] = mapped_column(primary_key=True)
    text: Mapped[str] = mapped_column(default="")


class Shelf(Model):
    """Rows that go with another of their own table."""

    __tablename__ = "shelves"
    id: Mapped[int] = mapped_column(primary_key=True)
    above_id: Mapped[int | None] = mapped_column(ForeignKey("shelves.id", ondelete="CASCADE"))


class Price(Model):
    """By a composite key."""

    __tablename__ = "prices"
    country: Mapped[str] = mapped_column(primary_key=True)
    article: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)
    cents: Mapped[int] = mapped_column(default=0)


class Ticket(Model):
    __tablename__ = "tickets"
    id: Mapped[UUID] = mapped_column(primary_key=True, default=uuid4)
    note: Mapped[str] = mapped_column(default="")


class Person(Model):
    """The base of a joined inheritance."""

    __tablename__ = "people"
    id: Mapped[int] = mapped_column(primary_key=True)
    name: Mapped[str] = mapped_column(default="")
    kind: Mapped[str] = mapped_column(default="person")
    __mapper_args__: dict[str, Any] = {"polymorphic_on": "kind", "polymorphic_identity": "person"}  # noqa: RUF012


class Clerk(Person):
    __tablename__ = "clerks"
    id: Mapped[int] = mapped_column(ForeignKey("people.id"), primary_key=True)
    desk: Mapped[int] = mapped_column(default=0)
    __mapper_args__: dict[str, Any] = {"polymorphic_identity": "clerk"}  # noqa: RUF012


def stock(session: Session) -> None:
    """What it begins with."""
    session.add_all([Maker(id=1, name="Ada"), Maker(id=2, name="Bo"), Label(id=1), Label(id=2)])
    session.flush()
    session.add_all([Product(id=n, name=f"p{n}", price=n, maker_id=1) for n in (1, 2, 3)])
    session.flush()
    session.add_all([Review(id=n, product_id=1, stars=n) for n in (1, 2)])
    session.add_all([Shelf(id=1), Shelf(id=2, above_id=1)])
    session.add_all([Price(country="fr", article=1), Ticket(id=ID), Clerk(id=1, name="Cy", desk=4)])
    session.flush()
    session.execute(insert(tagged), [{"product_id": 1, "label_id": 1}])


class Watcher:
    """Hears what is stored, by which tags, what is not, and why, and what is cut."""

    def __init__(self) -> None:
        self.tags: list[tuple[str, ...]] = []
        self.reasons: list[str] = []
        self.cuts: list[tuple[str, ...]] = []

    def on_event(self, event: object) -> None:
        if isinstance(event, Stored):
            self.tags.append(event.tags)
        elif isinstance(event, Discarded):
            self.reasons.append(event.reason)
        elif isinstance(event, Invalidated):
            self.cuts.append(event.tags)


class Shop:
    """A database, a cache, and one memoised function that runs whatever it is told to."""

    def __init__(self, engine: Engine) -> None:
        self.engine = engine
        self.watcher = Watcher()
        self.cache = Cache(observers=[self.watcher], jitter=0.0)
        track(engine, self.cache)
        self.sessions = sessionmaker(engine)
        self.reads: dict[str, Callable[[Session], Any]] = {}
        self.calls = 0

        @self.cache.memoize(ttl="1h")
        def read(name: str) -> str:
            self.calls += 1
            with self.sessions() as session:
                return repr(self.reads[name](session))

        self.read = read

    def do(self, work: Callable[[Session], Any]) -> None:
        with self.sessions.begin() as session:
            work(session)

    def tags_of(self, reading: Callable[[Session], Any]) -> set[str]:
        """The tags of what is made of it; that it could be stored, too."""
        stored = len(self.watcher.tags)
        name = f"read {len(self.reads)}"
        self.reads[name] = reading
        self.read(name)
        assert len(self.watcher.tags) == stored + 1, self.watcher.reasons
        return set(self.watcher.tags[-1])

    def reason_of(self, reading: Callable[[Session], Any]) -> str:
        refused = len(self.watcher.reasons)
        name = f"read {len(self.reads)}"
        self.reads[name] = reading
        self.read(name)
        return self.watcher.reasons[-1] if len(self.watcher.reasons) > refused else "stored"

    def falls(self, reading: Callable[[Session], Any], change: Callable[[Session], Any]) -> bool:
        """Whether what was read is read again after a change."""
        self.tags_of(reading)
        name, calls = f"read {len(self.reads) - 1}", self.calls
        self.read(name)
        assert self.calls == calls
        self.do(change)
        self.read(name)
        return self.calls > calls
