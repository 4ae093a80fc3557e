"""What other processes have told, by way of Redis."""

import asyncio
import logging
from contextlib import suppress

from pydantic import ValidationError
from redis.exceptions import RedisError

from storefront.events.schemas import ProductChanged
from storefront.events.streams import Streams
from storefront.live.feed import Feed

PAUSE = 1.0
"""Seconds until Redis is asked again when it has failed."""

_log = logging.getLogger("storefront.live")


async def begin(streams: Streams, feed: Feed) -> bool:
    """Learn what was told before: then who joins need not come back. False where Redis does not answer."""
    with suppress(RedisError, OSError, TimeoutError):
        async with asyncio.timeout(PAUSE):
            await _catch_up(streams, feed)
            return True
    return False


async def follow(streams: Streams, feed: Feed, *, begun: bool) -> None:
    """Tell the feed of this process what is told in any; for ever."""
    while True:
        try:
            if not begun:
                await _catch_up(streams, feed)
            while True:
                for place, text in await streams.told_since(feed.place):
                    _tell(feed, place, text)
        except (RedisError, OSError) as error:
            _log.warning("nobody hears of changes: %r", error)
            begun = False
            await asyncio.sleep(PAUSE)


async def _catch_up(streams: Streams, feed: Feed) -> None:
    now = await streams.now()
    told = await streams.told()
    places = [place for place, _ in told]
    if feed.place not in places:
        # The first time; or more was told than is kept, or Redis has forgotten all.
        read = ((place, _read(place, text)) for place, text in told)
        feed.begin([(place, changed) for place, changed in read if changed is not None], now)
        return
    for place, text in told[places.index(feed.place) + 1 :]:
        _tell(feed, place, text)


def _tell(feed: Feed, place: str, text: str) -> None:
    changed = _read(place, text)
    if changed is None:
        feed.pass_over(place)
    else:
        feed.append(place, changed)


def _read(place: str, text: str) -> ProductChanged | None:
    try:
        return ProductChanged.model_validate_json(text)
    except ValidationError as error:  # of a later release, or none of ours: what comes after it is still told
        _log.warning("nobody hears of the change at %s: %s", place, error.errors(include_url=False))
        return None
