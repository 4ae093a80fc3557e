"""Values put into store, and why some are not."""

import threading

from tiercel._core.calls import Value
from tiercel._core.events import Discarded, Failed, Stored
from tiercel._core.freshness import rough
from tiercel._engine.engine import Engine
from tiercel._engine.joining import Making
from tiercel._engine.reading import Reads
from tiercel._engine.stamps import Verdict
from tiercel._engine.tiers import key_tag, weigh_tags
from tiercel._engine.values import ValueNotStorable

VALUE_OVERHEAD = 170
"""Bytes of a `Value` and its key beyond what it carries, as tracemalloc counts them."""


class Keeper:
    """Stores the values of one cache, and tells of it."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._storing = threading.Lock()

    def keep(  # noqa: PLR0913 - what a value is made of
        self,
        making: Making,
        payload: object,
        tags: tuple[str, ...] | None,
        *,
        born: int,
        cost: float = 0.0,
        reads: Reads | None = None,
    ) -> Value:
        """Store what was made of a value, if it is still of use, and return what there is to decode."""
        engine, terms, reads = self._engine, making.terms, reads or Reads()
        now = engine.clock.time()
        if tags is None:
            reads.doubt("tags-unknown")
        tags = tuple(dict.fromkeys((*(tags or ()), *reads.tags)))
        value = Value(
            payload=payload,
            tags=tags,
            born=int(min(born, reads.born)),
            made_at=now,
            fresh_until=min(now + terms.ttl * (1.0 - engine.limits.jitter * engine.random()), reads.until),
            stale_while_revalidate=terms.stale_while_revalidate,
            stale_if_error=terms.stale_if_error,
            cost=rough(cost),
        )
        weight = terms.codec.weight(payload) + weigh_tags(tags) + VALUE_OVERHEAD
        reason = reads.unknown or ("stale-parts" if reads.until <= now else "")
        reason = reason or self._stored(making, value, weight=weight, now=now)
        if reason:
            self._discarded(making, reason)
            return value
        engine.counts.stored += 1
        if engine.observers:
            engine.tell(Stored(key=making.key.hex(), weight=weight, lifetime=value.fresh_until - now, tags=tags))
        return value

    def adopt(self, making: Making, value: Value, *, since: float) -> None:
        """Keep what was asked for in the shared store at `since`."""
        weight = making.terms.codec.weight(value.payload) + weigh_tags(value.tags) + VALUE_OVERHEAD
        tiers, now = self._engine.tiers, self._engine.clock.time()
        with self._storing:
            tiers.store_value(making.key, value, weight=weight, now=now, since=since)

    def kept(self, making: Making, outcome: object) -> Value | None:
        """What was made, if it is kept here: for others it is as good, or as bad."""
        return outcome if isinstance(outcome, Value) and self._engine.tiers.memory.peek(making.key) is outcome else None

    def tags_of(self, making: Making, value: object) -> tuple[str, ...] | None:
        """None where they cannot be told: no invalidation would hit it."""
        if not callable(making.tags):
            return making.tags
        try:
            return making.tags(value)
        except Exception as error:  # noqa: BLE001 - of a callable of the program's
            self.tell(making, error)
            return None

    def refuse(self, making: Making, error: ValueNotStorable) -> None:
        """For a while everyone who wants it is on its own, and waits for nobody else's."""
        tiers, now = self._engine.tiers, self._engine.clock.time()
        self.tell(making, error)
        self._discarded(making, "not-storable")
        there = tiers.memory.peek(making.key)
        if not isinstance(there, Value) or now >= there.retain_until:
            tiers.mark(making.key, until=now + self._engine.limits.pass_for, now=now)

    def _stored(self, making: Making, value: Value, *, weight: int, now: float) -> str:
        """Empty, or the reason why not."""
        tiers = self._engine.tiers
        with self._storing:
            there = tiers.memory.peek(making.key)
            if isinstance(there, Value) and there.born > value.born:
                return "superseded"
            if tiers.store_value(making.key, value, weight=weight, now=now, since=making.since):
                return ""
        cut = self._engine.stamps.verdict((*value.tags, key_tag(making.key)), value.born) is Verdict.CUT
        return "invalidated" if cut else "too-large"

    def tell(self, making: Making, error: BaseException) -> None:
        self._engine.tell(Failed(where=making.terms.label, error=error, key=making.key.hex()))

    def _discarded(self, making: Making, reason: str) -> None:
        self._engine.counts.discarded += 1
        if self._engine.observers:
            self._engine.tell(Discarded(key=making.key.hex(), reason=reason))
