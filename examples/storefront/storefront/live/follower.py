"""What other processes have told, by way of Redis."""

import asyncio
import logging
from contextlib import suppress

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
                    feed.append(place, ProductChanged.model_validate_json(text))
        except (RedisError, OSError) as error:
            _log.warning("nobody hears of changes: %r", error)
            begun = False
            await asyncio.sleep(PAUSE)


async def _catch_up(streams: Streams, feed: Feed) -> None:
    now = await streams.now()
    known = [(place, ProductChanged.model_validate_json(text)) for place, text in await streams.told()]
    places = [place for place, _ in known]
    if feed.place not in places:
        # The first time; or more was told than is kept, or Redis has forgotten all.
        feed.begin(known, now)
        return
    for place, changed in known[places.index(feed.place) + 1 :]:
        feed.append(place, changed)
