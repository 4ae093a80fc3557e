"""A shop in SQLite, in a file: several connections see what one has committed."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from shelves import Model, Shop, stock
from sqlalchemy import Engine, create_engine, event
from sqlalchemy.orm import Session


@pytest.fixture
def engine(tmp_path: Path) -> Iterator[Engine]:
    engine = create_engine(f"sqlite:///{tmp_path}/shop.db")

    @event.listens_for(engine, "connect")
    def enforce(connection: Any, _: object) -> None:
        connection.execute("PRAGMA foreign_keys = ON")
        connection.execute("PRAGMA synchronous = OFF")

    Model.metadata.create_all(engine)
    with Session(engine) as session:
        stock(session)
        session.commit()
    yield engine
    engine.dispose()


@pytest.fixture
def shop(engine: Engine) -> Shop:
    return Shop(engine)
