"""What a response has read decides when it falls: SQLAlchemy told of what is read, and of what is changed.

track             one line, and routes and memoised functions need no tags
create_triggers   have PostgreSQL tell of what others change
listening         ... and hear it
"""

from typing import Any, cast

from sqlalchemy import Engine
from sqlalchemy.ext.asyncio import AsyncEngine, async_sessionmaker
from sqlalchemy.orm import scoped_session, sessionmaker

from tiercel.cache import Cache
from tiercel.errors import ConfigurationError
from tiercel.sqlalchemy._listening import listening
from tiercel.sqlalchemy._names import Names
from tiercel.sqlalchemy._sessions import listen
from tiercel.sqlalchemy._source import Source
from tiercel.sqlalchemy._triggers import create_triggers, drop_triggers

__all__ = ["create_triggers", "drop_triggers", "listening", "track"]


def track(source: Any, cache: Cache, *, name: str = "sql") -> None:
    """Have whatever is read through an engine decide when what was made of it falls.

    While a response or the value of a memoised function is produced, what its statements read become its tags: a row,
    where the whole primary key is given, else tables. When a transaction commits, the rows and tables that it changed
    are invalidated, before the commit returns.

    Text is not understood: `text("...").execution_options(tables=[Product])` says what it reads or changes. What is
    made of text that does not is not stored; and where it may have changed something, everything is invalidated.

    Args:
        source: An `Engine`, an `AsyncEngine`, or a sessionmaker that is bound to one.
        cache: The cache whose responses and values are made of what is read there.
        name: Of the database, in tags. Give each another where a program reads several, lest their tables be taken for
            one another: nothing would be wrong, but more invalidated than need be.

    Raises:
        ConfigurationError: It is none of these, or is tracked for another cache.

    Example:
        >>> from sqlalchemy import create_engine
        >>> from tiercel import Cache
        >>> from tiercel.sqlalchemy import track
        >>> engine, cache = create_engine("sqlite://"), Cache()
        >>> track(engine, cache)
    """
    for engine in _engines(source):
        dialect: Any = engine.dialect
        known: object = getattr(dialect, "tiercel_source", None)
        if not isinstance(known, Source):
            dialect.tiercel_source = Source(engine, cache.engine, Names(name))
        elif known.cache is not cache.engine or known.names.everything != name:
            message = f"track({engine!r}): it is tracked already, for another cache or by another name. Track it once."
            raise ConfigurationError(message)
    listen()


def _engines(source: Any) -> list[Engine]:
    """What statements are executed by, in the end."""
    maker: Any = source
    if isinstance(maker, scoped_session):
        maker = cast("Any", maker).session_factory
    found: list[Any] = [source]
    if isinstance(maker, sessionmaker | async_sessionmaker):
        given: dict[str, Any] = cast("Any", maker).kw
        bound: list[Any] = [given.get("bind"), *(given.get("binds") or {}).values()]
        found = [one for one in bound if one is not None]
    engines: list[Any] = [one.sync_engine if isinstance(one, AsyncEngine) else one for one in found]
    if engines and all(isinstance(one, Engine) for one in engines):
        return list(dict.fromkeys(engines))
    message = f"track({source!r}): it has no engine. Give an Engine, an AsyncEngine, or a sessionmaker(engine)."
    raise ConfigurationError(message)
