"""Values under names that a program gives them: set, got, deleted, made where there is none, written through."""

import asyncio
import inspect
import threading
from collections.abc import Callable, Iterable
from dataclasses import replace
from typing import Any, Final

from tiercel._core import keys
from tiercel._core.calls import Hit, HitRefresh, Miss, Stale
from tiercel._core.policy import Duration, Policy, seconds
from tiercel._engine.engine import Engine
from tiercel._engine.joining import Making, Terms
from tiercel._engine.reading import reading
from tiercel._engine.recall import Recall
from tiercel._engine.tiers import key_tag
from tiercel._engine.values import Codec, ValueNotStorable
from tiercel.errors import ConfigurationError, NotAcknowledged

LABEL = "value"
"""What observers know all of them by: names may be without number."""

HEARING: Final = (0.0, 0.001, 0.002, 0.004, 0.008, 0.016, 0.032)
"""Seconds between two looks for what others have cut."""

BUILT_ON: Final = 4_096
"""Keys that are remembered because something was made of their values; after that, any may have been."""

Tagged = str | Iterable[str]
"""Tags, one or several."""


class _DataOnly(Codec):
    """For values that no annotation describes."""

    def encode(self, value: object) -> object:
        try:
            return super().encode(value)
        except ConfigurationError:
            kind = type(value).__qualname__
            message = (
                f"A named value is or holds what only an annotation could describe: {kind}. Give its data: builtins, "
                "dates, UUIDs, and containers of these; or memoize a function that says what it returns."
            )
            raise TypeError(message) from None


_codec = _DataOnly(Any, where="a named value")
_seen = Terms(label=LABEL, codec=_codec, ttl=0.0)


class Named:
    """The named values of one cache."""

    def __init__(self, engine: Engine, recall: Recall, *, namespace: str) -> None:
        self._engine = engine
        self._recall = recall
        self._namespace = namespace.encode("utf-8", "surrogatepass")
        self.missed = 0
        """How often there was none to get."""
        self._writing: dict[bytes, int] = {}
        self._built_on: dict[bytes, None] = {}
        """Keys of which something was made that is stored elsewhere, the latest last."""
        self._forgotten = False
        """Whether there were too many of them to know all."""
        self._changing = threading.Lock()

    async def get(self, name: str) -> Any:  # noqa: ANN401 - what was set
        """None where there is none."""
        wanted = self._recall.wanted(_seen, self._key(name), (), _nothing)
        self._build_on(wanted.key)
        if isinstance(self._recall.look(wanted.key), Miss):
            _build_on_none(wanted.key)
            await self._seek(wanted)
        match self._recall.look(wanted.key):
            case Hit(value=value) | HitRefresh(value=value):
                return self._recall.answer(wanted, value, "hit")
            case Stale(value=value):
                return self._recall.answer(wanted, value, "stale")
            case Miss():
                self.missed += 1
                self._recall.count(wanted, "miss")
                return None

    async def _seek(self, wanted: Making) -> None:
        """Bring what others have set into memory."""
        depot = self._engine.depot
        if depot is not None:
            sought = await depot.seek(wanted.key, _codec, make=False)
            if sought.value is not None:
                self._recall.keeper.adopt(wanted, sought.value, since=sought.since)

    async def set(self, name: str, value: object, *, ttl: Duration, tags: Tagged) -> None:
        wanted, named = self._wanted(name, _nothing, ttl, tags)
        payload = _payload(name, value)
        noticed = self._is_noticed(wanted.key)
        born = await self._cut(name, wanted.key) if noticed else self._engine.stamps.position
        await self._keep(name, wanted, payload, named, born)

    async def delete(self, name: str) -> int:
        return await self._cut(name, self._key(name))

    async def get_or_set(self, name: str, factory: Callable[[], Any], *, ttl: Duration, tags: Tagged) -> Any:  # noqa: ANN401
        key = self._key(name)
        self._build_on(key)
        found = self._recall.fresh(LABEL, key)
        if found is not None:
            return _codec.decode(found.payload)
        _build_on_none(key)
        wanted, named = self._wanted(name, factory, ttl, tags)
        return await self._recall.recall(replace(wanted, tags=(*named, _none_tag(key))))

    async def write_through(
        self, name: str, value: object, writer: Callable[[Any], Any], *, ttl: Duration, tags: Tagged
    ) -> int:
        """Store what has been written, unless something else has changed meanwhile; the id of the cut."""
        wanted, named = self._wanted(name, _nothing, ttl, tags)
        payload = _payload(name, value)
        with self._engine.stamps.listening((*named, key_tag(wanted.key))) as heard:
            async with self._engine.mutation((key_tag(wanted.key),)) as change:
                began = self._engine.stamps.position
                self._begin(wanted.key)
                try:
                    written = writer(value)
                    if inspect.isawaitable(written):
                        await written
                finally:
                    others = self._end(wanted.key)
                    self._unbuilt(wanted.key)
            undisturbed = await self._heard_all(change.cut)
            undisturbed = undisturbed and {cut for cut in heard.hits if cut > began} - change.others == {change.cut}
        if undisturbed and not others:
            return await self._keep(name, wanted, payload, named, change.cut)
        return change.cut

    async def _heard_all(self, cut: int) -> bool:
        """Wait for what others have cut before: their cuts may come after a younger one of our own."""
        for wait in HEARING:
            if self._engine.stamps.complete >= cut:
                return True
            await asyncio.sleep(wait)
        return False

    async def _keep(self, name: str, wanted: Making, payload: object, tags: tuple[str, ...], born: int) -> int:
        """Store it, and cut what was made since `born` of there being none yet; the id of the last cut."""
        value = self._recall.keeper.keep(wanted, payload, tags, born=born)
        if self._engine.depot is not None:
            await self._engine.depot.put_value(wanted.key, _codec, self._recall.keeper.kept(wanted, value), None)
        return await self._cut_tag(name, _none_tag(wanted.key)) if self._is_noticed(wanted.key) else born

    def _is_noticed(self, key: bytes) -> bool:
        """Whether something may be made of it that does not see that it is another now.

        A cut for each would make the log forget others: only what is running, or elsewhere, has to hear of it.
        """
        here = self._recall.is_making(key) or key in self._writing or key in self._built_on
        return here or self._forgotten or self._engine.depot is not None

    def _begin(self, key: bytes) -> None:
        with self._changing:
            self._writing[key] = self._writing.get(key, 0) + 1

    def _end(self, key: bytes) -> int:
        """How many others are at it."""
        with self._changing:
            others = self._writing.pop(key) - 1
            if others:
                self._writing[key] = others
            return others

    def _key(self, name: str) -> bytes:
        if not isinstance(name, str):  # pyright: ignore[reportUnnecessaryIsInstance] - what a program gives
            message = (
                f"A key is a string, not {type(name).__qualname__}: {name!r}. Give a string, such as {str(name)!r}."
            )
            raise TypeError(message)
        return keys.primary(b"value", self._namespace, name.encode("utf-8", "surrogatepass"))

    def _build_on(self, key: bytes) -> None:
        """Whatever is being made here falls when the value does, or when there is one at last."""
        reads = reading.get()
        if reads is None:
            return
        reads.name((key_tag(key),))
        with self._changing:
            self._built_on[key] = None
            if len(self._built_on) > BUILT_ON:
                self._built_on.clear()
                self._forgotten = True

    async def _cut(self, name: str, key: bytes) -> int:
        self._unbuilt(key)
        return await self._cut_tag(name, key_tag(key))

    async def _cut_tag(self, name: str, tag: str) -> int:
        try:
            return await self._engine.invalidate([tag])
        except NotAcknowledged as error:
            message = (
                f"{name!r} is replaced or forgotten in this process, but not for the others yet. {error.__cause__}"
            )
            raise NotAcknowledged(message) from error

    def _unbuilt(self, key: bytes) -> None:
        with self._changing:
            self._built_on.pop(key, None)

    def _wanted(
        self, name: str, make: Callable[[], Any], ttl: Duration, tags: Tagged
    ) -> tuple[Making, tuple[str, ...]]:
        named = Policy(tags=tags).tags
        if callable(named):
            message = f"The tags of {name!r} cannot be a callable: there are no arguments to name. Give strings."
            raise ConfigurationError(message)
        terms = Terms(label=LABEL, codec=_codec, ttl=seconds(ttl, where=f"The ttl of {name!r}"), shared=True)
        return self._recall.wanted(terms, self._key(name), named, make), named


def _none_tag(key: bytes) -> str:
    """The synthetic tag of what was made of there being none: the key's own is cut before the value is there."""
    return f"{key_tag(key)}:none"


def _build_on_none(key: bytes) -> None:
    """Whatever is being made here falls once there is one; said before it is asked for."""
    reads = reading.get()
    if reads is not None:
        reads.name((_none_tag(key),))


def _payload(name: str, value: object) -> object:
    try:
        return _codec.encode(value)
    except ValueNotStorable as error:
        message = f"The value of {name!r} cannot be stored: {error}."
        raise TypeError(message) from None


def _nothing() -> None: ...
