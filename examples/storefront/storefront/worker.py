"""The worker: `python -m storefront.worker` handles the events that come through Redis; as many of them as you like.

FastStream reads the stream, claims what a dead worker has left, and ends in order. What it has read is acknowledged by
us, together with taking it off the stream; what has failed is left for later, and what has failed too often put aside.
"""

import asyncio
import logging
import os
import secrets
import socket
import sys
from collections.abc import AsyncGenerator
from contextlib import AsyncExitStack, aclosing, asynccontextmanager
from dataclasses import dataclass
from typing import Annotated, Any

from faststream import AckPolicy, Context, FastStream
from faststream.redis import RedisBroker, StreamSub
from faststream.redis.message import RedisStreamMessage
from pydantic import ValidationError

from storefront import logs, schema
from storefront.database import Database
from storefront.events.bus import OverRedis
from storefront.events.consumers import Consumers
from storefront.events.outbox import Outbox
from storefront.events.relay import Relay
from storefront.events.retries import Retries
from storefront.events.schemas import read
from storefront.events.streams import GROUP, WORK, Streams
from storefront.settings import Settings, settings_of_the_environment
from tiercel import Cache

LOOKING = 200
"""Milliseconds between looks for what others have left."""

AT_ONCE = 10
"""Events that a worker takes for itself; the others are for the others."""

_log = logging.getLogger("storefront.worker")


def main() -> None:
    """Work until a signal comes."""
    logs.configure()
    settings = settings_of_the_environment()
    if settings.events_url == "memory://" or settings.cache_url == "memory://":
        sys.exit(
            "A worker hears of events through Redis, and invalidates what others have cached: set STOREFRONT_EVENTS_URL"
            " to a redis:// URL, and STOREFRONT_CACHE_URL to where they keep it. Without Redis the application handles"
            " its events itself."
        )
    asyncio.run(Worker.made_for(settings).run())


@dataclass(frozen=True, slots=True, kw_only=True)
class Worker:
    """The parts of one worker."""

    name: str
    database: Database
    cache: Cache
    streams: Streams
    consumers: Consumers
    retries: Retries
    relay: Relay
    broker: RedisBroker

    @classmethod
    def made_for(cls, settings: Settings) -> "Worker":
        """Make the parts that these settings describe. It connects to nothing."""
        database = Database(settings.database_url, pool=settings.database_pool)
        cache, streams = Cache(settings.cache_url, store_timeout=5), Streams(settings.events_url)
        bus = OverRedis(database=database, streams=streams)
        return cls(
            name=f"{socket.gethostname()}-{os.getpid()}-{secrets.token_hex(4)}",
            database=database,
            cache=cache,
            streams=streams,
            consumers=Consumers(database=database, cache=cache),
            retries=Retries.of(settings),
            relay=Relay(database=database, outbox=Outbox(), bus=bus, sweep=settings.events_sweep),
            broker=RedisBroker(settings.events_url, logger=_log, graceful_timeout=10),
        )

    async def run(self) -> None:
        """Work until a signal comes, then finish what was begun."""
        patience = round(self.retries.patience.total_seconds() * 1000)
        new = StreamSub(WORK, group=GROUP, consumer=self.name, max_records=AT_ONCE)
        left = StreamSub(WORK, group=GROUP, consumer=self.name, min_idle_time=patience, polling_interval=LOOKING)
        for stream in (new, left):
            self.broker.subscriber(stream=stream, ack_policy=AckPolicy.MANUAL)(self._take)
        await FastStream(self.broker, logger=_log, lifespan=self._open).run()

    async def _take(self, message: Annotated[RedisStreamMessage, Context("message")]) -> None:
        entry = message.raw_message["message_ids"][0]
        attempt = await message.get_delivery_count()
        try:
            await self._handle(message.body, attempt)
        except Exception as error:  # noqa: BLE001 - whatever it is: it is logged, and tried again or put aside
            _log.exception("event %s failed, attempt %s", entry, attempt)
            await self._failed(entry, message.body, attempt, error)
        else:
            await self.streams.settle(entry)

    async def _handle(self, event: bytes, attempt: int) -> None:
        if attempt > self.retries.attempts:
            raise DiedOfItError(f"whoever has taken it has died of it, or was ended, {attempt - 1} times")
        async with asyncio.timeout(self.retries.patience.total_seconds()):
            await self.consumers.take(read(event))

    async def _failed(self, entry: bytes, event: bytes, attempt: int, error: Exception) -> None:
        wait = None if isinstance(error, ValidationError) else self.retries.after(attempt)
        if wait is None:
            await self.streams.bury(entry, event, attempt, repr(error))
        else:
            await self.streams.postpone(entry, self.name, wait, self.retries.patience)

    @asynccontextmanager
    async def _open(self, **_options: Any) -> AsyncGenerator[None]:  # noqa: ANN401 - what FastStream was started with
        async with AsyncExitStack() as opened:
            await opened.enter_async_context(aclosing(self.database))
            await opened.enter_async_context(aclosing(self.cache))
            await opened.enter_async_context(aclosing(self.streams))
            await schema.check(self.database)
            await self.streams.prepare()
            opened.push_async_callback(self.streams.leave, self.name)
            await opened.enter_async_context(self.relay.open())
            yield


class DiedOfItError(Exception):
    """An event that nobody has lived to say anything about."""


if __name__ == "__main__":
    main()
