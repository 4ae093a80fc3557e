"""Redis, as events use it: a stream of work for a group of consumers, dead letters, and what is told to browsers."""

from collections.abc import Iterable, Mapping, Sequence
from datetime import timedelta
from typing import Any, cast

from pydantic import ValidationError
from redis.asyncio import Redis
from redis.exceptions import ResponseError

from storefront.events.letters import Letter
from storefront.events.schemas import ProductChanged, read

WORK = "storefront:events"
GROUP = "storefront"
DEAD = "storefront:events:dead"
LIVE = "storefront:live"

BODY = "__data__"
"""The field of an event: where FastStream looks for it."""

KEPT = 1_000
"""Changes that a browser may have missed, and is told when it comes back."""

PATIENCE = 5.0
"""Seconds for an answer of Redis. Nobody's request waits for it."""


class Streams:
    """The streams of one URL. To make it connects to nothing."""

    def __init__(self, url: str) -> None:
        self.redis: Redis = Redis.from_url(  # pyright: ignore[reportUnknownMemberType]
            url, protocol=2, socket_timeout=2 * PATIENCE, socket_connect_timeout=PATIENCE
        )

    async def aclose(self) -> None:
        """End the connections."""
        await self.redis.aclose()

    async def prepare(self) -> None:
        """Make the group of consumers, from the first event on: one that came before any consumer is for it, too."""
        try:
            await self.redis.xgroup_create(WORK, GROUP, id="0", mkstream=True)
        except ResponseError as error:
            if "BUSYGROUP" not in str(error):
                raise

    async def hand_on(self, events: Iterable[str]) -> None:
        """Add events to the stream of work, and changes of products to what is told to browsers: all or nothing."""
        together = self.redis.pipeline(transaction=True)
        for text in events:
            together.xadd(WORK, {BODY: text})
            if (told := _to_tell(text)) is not None:
                together.xadd(LIVE, {BODY: told}, maxlen=KEPT, approximate=True)
        await together.execute()

    async def settle(self, entry: bytes) -> None:
        """Take an event off the stream: it is done. So the stream holds what is still to do, and no more."""
        together = self.redis.pipeline(transaction=True)
        together.xack(WORK, GROUP, entry)
        together.xdel(WORK, entry)
        await together.execute()

    async def postpone(self, entry: bytes, consumer: str, wait: timedelta, patience: timedelta) -> None:
        """Leave an event to whoever claims it after `wait`: who claims takes what was idle for `patience`."""
        idle = max(0, round((patience - wait).total_seconds() * 1000))
        # `justid`: this is no attempt, so it is not counted as one.
        await self.redis.xclaim(WORK, GROUP, consumer, 0, [entry], idle=idle, justid=True)

    async def bury(self, entry: bytes, event: bytes, attempts: int, error: str) -> None:
        """Put an event that has failed too often aside, with why."""
        together = self.redis.pipeline(transaction=True)
        together.xadd(DEAD, {BODY: event, "attempts": attempts, "error": error[:500]})
        together.xack(WORK, GROUP, entry)
        together.xdel(WORK, entry)
        await together.execute()

    async def leave(self, consumer: str) -> None:
        """Take a consumer out of the group, unless something is left that it was at: that is for others to claim.

        Raises `ResponseError` where there is no such group any more: Redis has forgotten everything.
        """
        pending = await self.redis.xpending_range(WORK, GROUP, min="-", max="+", count=1, consumername=consumer)
        if not pending:
            await self.redis.xgroup_delconsumer(WORK, GROUP, consumer)

    async def letters(self) -> list[Letter]:
        """Read the dead letters, the oldest first."""
        return [
            Letter(entry, fields[BODY], int(fields["attempts"]), fields["error"])
            for entry, fields in _decoded(await self.redis.xrange(DEAD))
        ]

    async def replay(self, letter: str) -> bool:
        """Add a dead letter to the stream of work again, as an event that nobody has tried."""
        try:
            found = _decoded(await self.redis.xrange(DEAD, min=letter, max=letter))
        except ResponseError:
            return False  # this is no id
        for entry, fields in found:
            together = self.redis.pipeline(transaction=True)
            together.xadd(WORK, {BODY: fields[BODY]})
            together.xdel(DEAD, entry)
            await together.execute()
        return bool(found)

    async def now(self) -> str:
        """Tell the place before everything that is told from now on."""
        seconds, micros = await self.redis.time()  # pyright: ignore[reportUnknownMemberType]
        return f"{seconds * 1000 + micros // 1000}-0"

    async def told(self) -> list[tuple[str, str]]:
        """Read what was told to browsers lately: ids and changes, in their order."""
        return [
            (entry, fields.get(BODY, ""))
            for entry, fields in reversed(_decoded(await self.redis.xrevrange(LIVE, count=KEPT)))
        ]

    async def told_since(self, entry: str) -> list[tuple[str, str]]:
        """Wait for what is told to browsers after this; nothing, when it takes long."""
        found = await self.redis.xread({LIVE: entry}, block=round(PATIENCE * 1000), count=KEPT)
        streams = cast("Sequence[tuple[bytes, Any]]", found or ())
        return [(each, fields.get(BODY, "")) for _, entries in streams for each, fields in _decoded(entries)]


def _to_tell(text: str) -> str | None:
    try:
        event = read(text)
    except ValidationError:
        return None  # of a later release: the consumers will say so
    return event.model_dump_json() if isinstance(event, ProductChanged) else None


def _decoded(entries: Any) -> list[tuple[str, dict[str, str]]]:  # noqa: ANN401 - as Redis answers
    found = cast("Sequence[tuple[bytes, Mapping[bytes, bytes]]]", entries)
    return [
        # What is no text is for whoever reads it to refuse: one such entry must not hide the others.
        (
            entry.decode(),
            {name.decode(errors="replace"): value.decode(errors="replace") for name, value in fields.items()},
        )
        for entry, fields in found
    ]
