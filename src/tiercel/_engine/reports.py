"""What a cache tells the program that holds it: acknowledgements, and what it has done so far."""

from dataclasses import dataclass

from tiercel._engine.engine import Engine


@dataclass(frozen=True, slots=True, kw_only=True)
class Ack:
    """That an invalidation has been applied: no read that begins now returns what was made before it.

    Args:
        id: Its place in the invalidation log; later ones have larger ids.
        durable: Whether every process that shares the store is bound by it, also after a restart. A cache that lives in
            one process is as durable as the process, so it is True there.
        applied: Names of the processes that are known to have applied it.

    Example:
        >>> import asyncio
        >>> from tiercel import Cache
        >>> ack = asyncio.run(Cache().invalidate("products"))
        >>> ack.id, ack.durable, len(ack.applied)
        (1, True, 1)
    """

    id: int
    durable: bool
    applied: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Stats:
    """What a cache has done since it was made, and what it holds.

    Each answer is one of `hits`, `stale`, `collapsed`, `bypassed` and `missed`, or was filled for.

    Args:
        hits: Answers with what was fresh in store.
        stale: Answers with what was stale, while it was renewed or because that failed.
        collapsed: Answers with what another caller's fill brought.
        fills: How often an application, or a function, was asked for something to store.
        bypassed: Answers that were made for one caller only, outside of the cache.
        missed: How often `get` found nothing.
        stored: Fills that ended in store.
        discarded: Fills of which nothing was kept.
        failed: Fills that raised.
        invalidations: How often tags were cut.
        entries: How many responses and values are held.
        weight: Bytes that they take.
        bound: Bytes that they may take.

    Example:
        >>> from tiercel import Cache
        >>> stats = Cache(memory="1MB").stats()
        >>> stats.bound, stats.entries, stats.hit_ratio
        (1000000, 0, 0.0)
    """

    hits: int
    stale: int
    collapsed: int
    fills: int
    bypassed: int
    missed: int
    stored: int
    discarded: int
    failed: int
    invalidations: int
    entries: int
    weight: int
    bound: int

    @property
    def hit_ratio(self) -> float:
        """The share of answers that nobody had to be asked for, 0 to 1.

        Those that joined a running fill count among them, those that are not for the cache not at all.

        Example:
            >>> from tiercel import Cache
            >>> cache = Cache()
            >>> @cache.memoize(ttl=60)
            ... def double(number: int) -> int:
            ...     return 2 * number
            >>> [double(2) for _ in range(4)], cache.stats().hit_ratio
            ([4, 4, 4, 4], 0.75)
        """
        found = self.hits + self.stale + self.collapsed
        answered = found + self.fills + self.missed
        return found / answered if answered else 0.0


def stats_of(engine: Engine, *, missed: int) -> Stats:
    counts, memory = engine.counts, engine.tiers.memory
    return Stats(
        hits=counts.hits,
        stale=counts.stale,
        collapsed=counts.collapsed,
        fills=counts.fills,
        bypassed=counts.bypassed,
        missed=missed,
        stored=counts.stored,
        discarded=counts.discarded,
        failed=counts.failed,
        invalidations=counts.invalidations,
        entries=len(memory),
        weight=memory.weight,
        bound=memory.bound,
    )
