"""What a value or a response has read decides when it falls."""

# pyright: reportUnknownLambdaType=false, reportUnknownArgumentType=false

from collections.abc import Callable
from typing import Any, cast
from uuid import uuid4

import pytest
from shelves import ID, Clerk, Label, Maker, Person, Price, Product, Review, Shelf, Shop, Ticket
from sqlalchemy import Engine, Table, delete, exists, func, insert, inspect, literal_column, select, table, text, update
from sqlalchemy.dialects.sqlite import insert as upsert
from sqlalchemy.orm import Session, aliased, joinedload, selectinload

from tiercel import Cache, ConfigurationError
from tiercel.sqlalchemy import track


def row(table: str, *texts: str) -> set[str]:
    return {"sql", f"sql:{table}:*", *[f"sql:{table}:{text}" for text in texts]}


def tables(*names: str) -> set[str]:
    return {"sql", *[f"sql:{name}" for name in names]}


PRODUCTS = cast("Table", inspect(Product).local_table)


def name_of_maker(session: Session) -> Any:
    maker = session.get_one(Product, 1).maker
    return maker and maker.name


def desk_of_person(session: Session) -> Any:
    found = session.get_one(Person, 1)
    return isinstance(found, Clerk) and found.desk


# -- what is read ----------------------------------------------------------------------------------------------------

OTHER = aliased(Product)
READS: list[tuple[str, Callable[[Session], Any], set[str]]] = [
    ("get", lambda s: s.get_one(Product, 1).name, row("products", "1")),
    ("get of nothing", lambda s: s.get(Product, 99), row("products", "99")),
    ("get twice", lambda s: (s.get_one(Product, 1).name, s.get_one(Product, 1).price), row("products", "1")),
    ("composite key", lambda s: s.get_one(Price, ("fr", 1)).cents, row("prices", "1,fr")),
    ("UUID", lambda s: s.get_one(Ticket, ID).note, row("tickets", str(ID))),
    ("key by equality", lambda s: s.scalars(select(Product.name).where(Product.id == 2)).all(), row("products", "2")),
    (
        "key and more",
        lambda s: s.scalars(select(Product).where(Product.price > 1, Product.id == 2)).all(),
        row("products", "2"),
    ),
    ("count of one row", lambda s: s.scalar(select(func.count()).where(Product.id == 2)), row("products", "2")),
    ("Core", lambda s: s.connection().execute(select(Product.__table__.c.name)).all(), tables("products")),
    ("part of a key", lambda s: s.scalars(select(Price).where(Price.country == "fr")).all(), tables("prices")),
    (
        "key or more",
        lambda s: s.scalars(select(Product).where((Product.id == 1) | (Product.price > 1))).all(),
        tables("products"),
    ),
    ("not the key", lambda s: s.scalars(select(Product).where(Product.id != 1)).all(), tables("products")),
    ("key by text", lambda s: s.scalars(select(Product).where(Product.id == "1")).all(), tables("products")),
    ("key by a sum", lambda s: s.scalars(select(Product).where(Product.id + 1 == 2)).all(), tables("products")),
    ("count", lambda s: s.scalar(select(func.count()).select_from(Product)), tables("products")),
    ("nothing found", lambda s: s.scalars(select(Product).where(Product.name == "none")).all(), tables("products")),
    (
        "columns",
        lambda s: s.execute(select(Product.id, Maker.name).join(Product.maker)).all(),
        tables("products", "makers"),
    ),
    ("implicit from", lambda s: s.scalar(select(func.max(Product.price))), tables("products")),
    (
        "key and a subquery of others",
        lambda s: s.scalars(
            select(Product).where(Product.id == 1, Product.price < select(func.max(OTHER.price)).scalar_subquery())
        ).all(),
        tables("products"),
    ),
    (
        "exists",
        lambda s: s.scalars(select(Maker.name).where(exists().where(Review.stars > 1), Maker.id == 1)).all(),
        tables("makers", "reviews"),
    ),
    (
        "a relationship in a subquery",
        lambda s: s.scalars(
            select(Maker.name).where(Maker.id.in_(select(Product.maker_id).join(Product.labels)))
        ).all(),
        tables("makers", "products", "tagged", "labels"),
    ),
    (
        "any",
        lambda s: s.scalars(select(Product.name).where(Product.labels.any())).all(),
        tables("products", "tagged", "labels"),
    ),
    ("CTE", lambda s: s.scalars(select(select(Review.stars).cte().c.stars)).all(), tables("reviews")),
    (
        "union",
        lambda s: s.scalars(
            select(Product.name).where(Product.id == 1).union(select(Maker.name).where(Maker.id == 1))
        ).all(),
        tables("products", "makers"),
    ),
    ("alias", lambda s: s.scalars(select(OTHER).where(OTHER.id == 1)).all(), tables("products")),
    (
        "lazy collection",
        lambda s: [r.stars for r in s.get_one(Product, 1).reviews],
        row("products", "1") | tables("reviews"),
    ),
    ("lazy reference", name_of_maker, row("products", "1") | row("makers", "1")),
    (
        "many to many",
        lambda s: [x.text for x in s.get_one(Product, 1).labels],
        row("products", "1") | tables("labels", "tagged"),
    ),
    (
        "joinedload",
        lambda s: [len(p.reviews) for p in s.scalars(select(Product).options(joinedload(Product.reviews))).unique()],
        tables("products", "reviews"),
    ),
    (
        "get with joinedload",
        lambda s: s.get_one(Product, 1, options=[joinedload(Product.reviews)]).reviews[0].stars,
        tables("products", "reviews"),
    ),
    (
        "selectinload",
        lambda s: [len(p.reviews) for p in s.scalars(select(Product).options(selectinload(Product.reviews)))],
        tables("products", "reviews"),
    ),
    ("joined inheritance", lambda s: s.get_one(Clerk, 1).desk, tables("people", "clerks")),
    ("its base", desk_of_person, row("people", "1") | row("clerks", "1")),
    ("Query", lambda s: s.query(Product).filter_by(price=2).all(), tables("products")),
    ("refresh", lambda s: s.refresh(s.get(Product, 1)), row("products", "1")),
    ("order by text", lambda s: s.scalars(select(Product.id).order_by(text("price"))).all(), tables("products")),
    ("literal column", lambda s: s.scalars(select(literal_column("1")).select_from(Product)).all(), tables("products")),
    (
        "text with tables=",
        lambda s: s.execute(text("select name from products"), execution_options={"tables": [Product]}).all(),
        tables("products"),
    ),
    (
        "text with tables= of an option",
        lambda s: s.scalars(
            select(Maker).from_statement(text("select * from makers")).execution_options(tables="main.makers")
        ).all(),
        tables("makers"),
    ),
    (
        "a function that makes rows",
        lambda s: s.scalars(select(func.json_each("[1]").table_valued("value"))).all(),
        set(),
    ),
    ("nothing", lambda s: 1, set()),
]


@pytest.mark.parametrize(("reading", "tags"), [case[1:] for case in READS], ids=[case[0] for case in READS])
def test_what_is_read_are_its_tags(shop: Shop, reading: Callable[[Session], Any], tags: set[str]) -> None:
    assert shop.tags_of(reading) - ({"sql"} - tags) == tags


UNKNOWN: list[tuple[str, Callable[[Session], Any]]] = [
    ("text", lambda s: s.execute(text("select 1")).all()),
    ("driver SQL", lambda s: s.connection().exec_driver_sql("select name from products").all()),
    ("from_statement", lambda s: s.scalars(select(Product).from_statement(text("select * from products"))).all()),
    ("columns of text", lambda s: s.execute(text("select name from products").columns(Product.name)).all()),
    ("text in where", lambda s: s.scalars(select(Product).where(text("exists (select 1 from makers)"))).all()),
    ("text as a table", lambda s: s.execute(select(text("name")).select_from(text("makers"))).all()),
    (
        "text in a subquery",
        lambda s: s.scalars(
            select(Product).where(Product.id.in_(text("select id from makers").columns(Maker.id)))
        ).all(),
    ),
    ("literal column", lambda s: s.execute(select(literal_column("(select max(id) from makers)"))).all()),
    ("WITH", lambda s: s.execute(text("with x as (select 1) select * from x")).all()),
    ("a function as a table", lambda s: s.execute(select(func.pragma_table_info("makers").table_valued("name"))).all()),
]


@pytest.mark.parametrize("reading", [case[1] for case in UNKNOWN], ids=[case[0] for case in UNKNOWN])
def test_what_is_made_of_text_that_nobody_understands_is_not_stored(
    shop: Shop, reading: Callable[[Session], Any], caplog: pytest.LogCaptureFixture
) -> None:
    assert shop.reason_of(reading) == "tables-unknown"
    assert ".execution_options(tables=" in caplog.text


SAID = "no such table is mapped"
TEXT = "select count(*) from products"


@pytest.mark.parametrize("told", [["product"], "roducts", ("main.produts",), ["products", "product"]], ids=str)
def test_a_name_that_no_table_has_is_believed_and_said_once(
    shop: Shop, told: Any, caplog: pytest.LogCaptureFixture
) -> None:
    for _ in range(2):
        shop.tags_of(lambda s: s.execute(text(TEXT), execution_options={"tables": told}).all())
    assert caplog.text.count(SAID) == 1
    assert f"{SAID}, nor is it in: {TEXT}" in caplog.text
    assert ".execution_options(tables=[Product])" in caplog.text


@pytest.mark.parametrize("told", [["product"], "product"], ids=str)
def test_a_change_of_a_table_that_nobody_knows_is_said(
    engine: Engine, told: Any, caplog: pytest.LogCaptureFixture
) -> None:
    track(engine, Cache())
    with engine.begin() as connection:
        connection.execute(text("update products set price = 1"), execution_options={"tables": told})
    assert SAID in caplog.text


@pytest.mark.parametrize(
    ("told", "sql"),
    [
        (Product, TEXT),
        (Product.__table__, TEXT),
        ([Product.__table__], TEXT),
        ("Products", TEXT),
        (["main.products"], TEXT),
        ([Product], "select 1"),
        (["products", "MAKERS"], "select 1 -- what a view shows is mapped"),
        (table("a view's"), "select 1"),
        ("no class", 'select 1 as "no class"'),
        ([], TEXT),
    ],
    ids=str,
)
def test_a_table_that_is_given_as_such_is_mapped_or_stands_in_the_text_is_taken_without_a_word(
    shop: Shop, told: Any, sql: str, caplog: pytest.LogCaptureFixture
) -> None:
    found = shop.tags_of(lambda s: s.execute(text(sql), execution_options={"tables": told}).all())
    assert ("sql:products" in found) == ("roduct" in str(told))
    assert SAID not in caplog.text


@pytest.mark.parametrize("told", [5, [5], int, [int]], ids=str)
def test_what_is_no_table_is_an_error(shop: Shop, told: Any) -> None:
    with pytest.raises(ConfigurationError, match="is no table"):
        shop.tags_of(lambda s: s.execute(text(TEXT), execution_options={"tables": told}).all())


# -- what is changed -------------------------------------------------------------------------------------------------


def product(number: int) -> Callable[[Session], Any]:
    return lambda session: session.get(Product, number) and session.get_one(Product, number).name


def count(session: Session) -> Any:
    return session.scalar(select(func.count()).select_from(Product))


def reviews(session: Session) -> Any:
    return session.scalars(select(Review.stars)).all()


def rename(number: int) -> Callable[[Session], Any]:
    return lambda session: setattr(session.get_one(Product, number), "name", "new")


def move(session: Session) -> None:
    session.get_one(Product, 3).id = 30


def label(session: Session) -> None:
    found = session.get_one(Product, 1)
    found.labels.append(session.get_one(Label, 2))


def unlabel(session: Session) -> None:
    found = session.get_one(Product, 1)
    found.labels.clear()


def bulk_by_key(session: Session) -> None:
    session.execute(update(Product), [{"id": 2, "name": "new"}])


FALLS: list[tuple[str, Callable[[Session], Any], Callable[[Session], Any], bool]] = [
    ("a row by its change", product(1), rename(1), True),
    ("a row by the change of another", product(1), rename(2), False),
    ("a list by the change of a row", count, rename(1), True),
    ("a row by its deletion", product(3), lambda s: s.delete(s.get(Product, 3)), True),
    ("a row by the deletion of another", product(1), lambda s: s.delete(s.get(Product, 3)), False),
    ("no row by its coming", product(9), lambda s: s.add(Product(id=9)), True),
    ("no row by the coming of one whose key the database makes", product(4), lambda s: s.add(Product(name="x")), True),
    ("no row by the coming of one of many", product(5), lambda s: s.add_all([Product(), Product(), Product()]), True),
    ("a row by the coming of another", product(1), lambda s: s.add(Product(name="x")), False),
    ("a row by the coming of many", product(1), lambda s: s.add_all([Product(), Product()]), False),
    ("a list by the coming of a row", count, lambda s: s.add(Product()), True),
    ("another table", reviews, rename(1), False),
    ("a row that goes to another key", product(3), move, True),
    ("a row that comes from another key", product(30), move, True),
    ("a row by a bulk update", product(1), lambda s: s.execute(update(Product).values(price=9)), True),
    ("a list by a bulk update", count, lambda s: s.execute(update(Product).values(price=9)), True),
    (
        "a row by a bulk update by its key",
        product(1),
        lambda s: s.execute(update(Product).where(Product.id == 1).values(price=9)),
        True,
    ),
    (
        "a row by a bulk update by another key",
        product(1),
        lambda s: s.execute(update(Product).where(Product.id == 2).values(price=9)),
        False,
    ),
    (
        "a row by a bulk update of a key",
        product(1),
        lambda s: s.execute(update(Product).where(Product.id == 3).values(id=31)),
        True,
    ),
    ("a row by a bulk update of rows", product(2), bulk_by_key, True),
    ("a row by a bulk update of other rows", product(1), bulk_by_key, False),
    ("a row by a bulk delete", product(3), lambda s: s.execute(delete(Product).where(Product.price == 3)), True),
    ("what the database deletes", reviews, lambda s: s.execute(delete(Product).where(Product.id == 1)), True),
    (
        "a row of the same table that the database deletes",
        lambda s: s.get(Shelf, 2) and 2,
        lambda s: s.execute(delete(Shelf).where(Shelf.id == 1)),
        True,
    ),
    ("a row that the database deletes", lambda s: s.get(Review, 1) and 1, lambda s: s.delete(s.get(Product, 1)), True),
    ("a row that the database sets to NULL", product(1), lambda s: s.execute(delete(Maker).where(Maker.id == 1)), True),
    ("Core", count, lambda s: s.connection().execute(insert(PRODUCTS).values(name="x")), True),
    ("no row by Core", product(8), lambda s: s.execute(insert(PRODUCTS), [{"id": 8, "name": "x"}]), True),
    (
        "no row by Core of many",
        product(5),
        lambda s: s.execute(insert(PRODUCTS), [{"name": "x"}, {"name": "y"}]),
        True,
    ),
    (
        "no row by an insert that returns",
        product(4),
        lambda s: s.scalars(insert(Product).returning(Product), [{"name": "x"}]).all(),
        True,
    ),
    (
        "no row by an insert from others",
        product(4),
        lambda s: s.execute(insert(Product).from_select(["name"], select(Maker.name))),
        True,
    ),
    (
        "no row by several values",
        product(5),
        lambda s: s.execute(insert(Product).values([{"name": "x"}, {"name": "y"}])),
        True,
    ),
    (
        "a row by an upsert",
        product(1),
        lambda s: s.execute(
            upsert(Product).values(id=1, name="x").on_conflict_do_update(index_elements=["id"], set_={"name": "x"})
        ),
        True,
    ),
    (
        "a row by a replacement",
        product(1),
        lambda s: s.execute(insert(Product).prefix_with("OR REPLACE").values(id=1, name="x")),
        True,
    ),
    (
        "what a replacement deletes",
        reviews,
        lambda s: s.execute(insert(Product).prefix_with("OR REPLACE").values(id=1, name="x")),
        True,
    ),
    (
        "a composite key",
        lambda s: s.get_one(Price, ("fr", 1)).cents,
        lambda s: setattr(s.get(Price, ("fr", 1)), "cents", 2),
        True,
    ),
    (
        "another composite key",
        lambda s: s.get_one(Price, ("fr", 1)).cents,
        lambda s: s.add(Price(country="fr", article=2)),
        False,
    ),
    ("a UUID", lambda s: s.get_one(Ticket, ID).note, lambda s: setattr(s.get(Ticket, ID), "note", "x"), True),
    ("another UUID", lambda s: s.get_one(Ticket, ID).note, lambda s: s.add(Ticket(id=uuid4())), False),
    ("joined inheritance", lambda s: s.get_one(Clerk, 1).desk, lambda s: setattr(s.get(Clerk, 1), "desk", 9), True),
    ("the base of it", lambda s: s.get_one(Person, 1).name, lambda s: setattr(s.get(Clerk, 1), "name", "x"), True),
    ("many to many", lambda s: len(s.get_one(Product, 1).labels), label, True),
    ("many to many, taken off", lambda s: len(s.get_one(Product, 1).labels), unlabel, True),
    ("text that nobody understands", product(1), lambda s: s.execute(text("update reviews set stars = 0")), True),
    ("driver SQL", count, lambda s: s.connection().exec_driver_sql("delete from reviews"), True),
    (
        "text with tables=",
        reviews,
        lambda s: s.execute(text("update reviews set stars = 0"), execution_options={"tables": ["reviews"]}),
        True,
    ),
    (
        "text with other tables=",
        count,
        lambda s: s.execute(text("update reviews set stars = 0"), execution_options={"tables": ["reviews"]}),
        False,
    ),
    ("text that only reads", count, lambda s: s.execute(text("select 1")), False),
    ("legacy bulk", product(2), lambda s: s.bulk_update_mappings(Product, [{"id": 2, "name": "x"}]), True),
    ("a CTE that changes", reviews, lambda s: s.execute(delete(Review).where(Review.id.in_(select(Review.id)))), True),
    (
        "what the database follows",
        lambda s: s.get_one(Product, 1).maker_id,
        lambda s: s.execute(update(Maker).where(Maker.id == 2).values(name="x")),
        False,
    ),
]


@pytest.mark.parametrize(("reading", "change", "falls"), [case[1:] for case in FALLS], ids=[case[0] for case in FALLS])
def test_a_commit_hits_what_has_read_what_it_changed(
    shop: Shop, reading: Callable[[Session], Any], change: Callable[[Session], Any], *, falls: bool
) -> None:
    assert shop.falls(reading, change) is falls
