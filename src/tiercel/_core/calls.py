"""Memoised calls: what to do with a stored value, and the key that a function and its arguments make."""

import inspect
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import date
from hashlib import blake2b
from math import log
from typing import Final, NamedTuple
from uuid import UUID

from tiercel._core.annotations import resolved
from tiercel._core.arguments import Encoders, Parts, Unkeyable, check_annotation
from tiercel.errors import ConfigurationError


@dataclass(frozen=True, slots=True, kw_only=True)
class Value:
    """A stored value. Moments are seconds since the Unix epoch, durations seconds."""

    payload: object
    """What the codec made of the value."""
    tags: tuple[str, ...] = ()
    born: int
    """Id of the last invalidation that was applied before the call began."""
    made_at: float
    fresh_until: float
    stale_while_revalidate: float = 0.0
    stale_if_error: float = 0.0
    cost: float = 0.0
    """Seconds that producing it took; weighs early refresh."""

    @property
    def certain_until(self) -> float:
        """Until then `on_call` says Hit, whatever is drawn, unless the value has been cut."""
        return self.fresh_until - self.cost * _EARLIEST

    @property
    def retain_until(self) -> float:
        """From when on it is of no use: neither fresh nor in a window."""
        window = max(self.stale_while_revalidate, self.stale_if_error)
        return self.fresh_until + window if window > 0.0 else self.fresh_until  # mostly: one number, held once


_EARLIEST = -log(2.0**-53)
"""Costs before its expiry that the earliest refresh comes: `random()` yields no less than that, but 0."""


class Hit(NamedTuple):
    """Fresh."""

    value: Value


class HitRefresh(NamedTuple):
    """Fresh, and this caller is to have it renewed behind."""

    value: Value


class Stale(NamedTuple):
    """Stale, and good enough while it is renewed behind."""

    value: Value


class Miss(NamedTuple):
    """Nothing usable: call the function."""


class UseStale(NamedTuple):
    """The function failed: stale is better than that."""

    value: Value


_MISS = Miss()


def on_call(
    value: Value | None, now: float, *, draw: float = 1.0, soft: bool = False
) -> Hit | HitRefresh | Stale | Miss:
    """What answers a call. `draw` is a random number in (0, 1]; `soft`: the value was cut softly.

    Early refresh is XFetch: Vattani et al., "Optimal probabilistic cache stampede prevention", VLDB 2015.
    """
    if value is None:
        return _MISS
    if now >= value.fresh_until:
        return Stale(value) if now < value.fresh_until + value.stale_while_revalidate else _MISS
    if soft:
        return Stale(value)
    if draw < 1.0 and now - value.cost * log(draw) >= value.fresh_until:
        return HitRefresh(value)
    return Hit(value)


def on_call_failure(value: Value | None, now: float) -> UseStale | None:
    """What answers a call whose function failed; None: its exception. RFC 5861 §4, for values.

    A value that was cut softly is stale although it is not past its lifetime.
    """
    if value is None or value.stale_if_error <= 0.0 or now >= value.fresh_until + value.stale_if_error:
        return None
    return UseStale(value)


_POSITIONAL = (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)
_BY_NAME = (inspect.Parameter.POSITIONAL_OR_KEYWORD, inspect.Parameter.KEYWORD_ONLY)

_REMEMBERED: Final = 2048
"""Calls of a function whose keys are kept at hand; then all are forgotten."""
_REMEMBERED_BYTES: Final = 256
_MEMORABLE: Final = frozenset({type(None), bool, int, float, str, bytes, UUID, date})
"""Types whose instances, where equal, are written down alike; 0.0 and -0.0 are not."""


class ArgumentKey:
    """Makes the keys of one function's calls. All spellings of a call make one key; other arguments make another.

    `key`, over the same arguments, stands for them in the key. `parts` takes values of foreign classes apart. `salt` is
    random, and mixed in where the function's name does not tell it apart from others: a closure, a lambda.
    """

    __slots__ = (
        "_as_given", "_defaults", "_encoders", "_key", "_known", "_label", "_names", "_room", "_seed", "_signature",
        "_still", "bound_to_instance", "local",
    )  # fmt: skip

    def __init__(
        self,
        function: Callable[..., object],
        *,
        namespace: str,
        parts: Parts,
        salt: bytes,
        key: Callable[..., object] | None = None,
    ) -> None:
        self._label = _name(function)
        self._key = key
        self._encoders = Encoders(parts)
        self._signature = inspect.signature(function)
        parameters = tuple(self._signature.parameters.values())
        self._names = tuple(one.name for one in parameters)
        positional = sum(one.kind in _POSITIONAL for one in parameters)
        self._as_given = len(parameters) if positional == len(parameters) else -1
        """So many positional arguments, and no others, are bound as they are."""
        by_name = positional if all(one.kind in _BY_NAME for one in parameters) else -1
        self._still = tuple(frozenset(self._names[given:]) for given in range(by_name + 1))
        """After so many positional arguments: the names still open. Empty: a signature that only `inspect` can bind."""
        self._defaults = {one.name: one.default for one in parameters if one.default is not one.empty}
        self._known: dict[tuple[type, ...], dict[tuple[object, ...], bytes]] = {}
        self._room = _REMEMBERED
        self.local = "<" in self._label
        """The name is not the function's own, so its keys mean nothing to other processes."""
        identity = (namespace, function.__module__, self._label, self._names, salt if self.local else b"")
        self._seed = blake2b(self._encoders.encode(identity), digest_size=16, person=b"tiercel-call")
        self.bound_to_instance = key is None and _takes_self(parameters, self._label)
        """A method whose class, not made yet, must define `__cache_key__`: see `check_owner`."""
        if key is None:
            self._check(function, parameters, parts)

    def __call__(self, args: tuple[object, ...], kwargs: Mapping[str, object]) -> bytes:
        """The key of a call: 16 bytes. ConfigurationError where an argument cannot be part of one."""
        if (key := self._key) is not None:
            args = (self._of_key(key, args, kwargs),)
        elif kwargs or len(args) != self._as_given:
            args = self._bound(args, kwargs)
        # The types come first: 1 == 1.0 == True, and no foreign __hash__ or __eq__ is ever called.
        known = self._known.get(tuple(map(type, args)))
        if known is not None and (digest := known.get(args)) is not None:
            return digest
        return self._digest(args)

    def arguments(self, args: tuple[object, ...], kwargs: Mapping[str, object]) -> dict[str, object]:
        """The arguments of a call by name, defaults included."""
        return dict(zip(self._names, self._bound(args, kwargs), strict=True))

    def check_owner(self, owner: type) -> None:
        """Raise ConfigurationError if instances of the class cannot be part of a key."""
        if self.bound_to_instance and not hasattr(owner, "__cache_key__"):
            raise self._refusal(self._names[0], owner.__qualname__)

    def _bound(self, args: tuple[object, ...], kwargs: Mapping[str, object]) -> tuple[object, ...]:
        """The arguments in the order of the parameters, defaults included."""
        defaults = self._defaults
        if len(args) < len(self._still) and kwargs.keys() <= self._still[len(args)]:
            try:
                rest = [kwargs[name] if name in kwargs else defaults[name] for name in self._names[len(args) :]]
            except KeyError:
                pass  # one is missing: `inspect` words the error
            else:
                return (*args, *rest)
        return tuple(self._inspected(args, kwargs).arguments.values())

    def _inspected(self, args: tuple[object, ...], kwargs: Mapping[str, object]) -> inspect.BoundArguments:
        """TypeError, as the call itself would raise, where the arguments do not fit."""
        bound = self._signature.bind(*args, **kwargs)
        bound.apply_defaults()
        return bound

    def _of_key(self, key: Callable[..., object], args: tuple[object, ...], kwargs: Mapping[str, object]) -> object:
        if len(args) == self._as_given and not kwargs:
            return key(*args)
        bound = self._inspected(args, kwargs)
        return key(*bound.args, **bound.kwargs)

    def _digest(self, values: tuple[object, ...]) -> bytes:
        encoders = self._encoders
        try:
            encoded = b"".join([encoders[type(value)](value) for value in values])
        except (Unkeyable, RecursionError) as verdict:
            raise self._unkeyable(values, verdict) from None
        state = self._seed.copy()
        state.update(encoded)
        digest = state.digest()
        if len(encoded) <= _REMEMBERED_BYTES and _memorable(values):
            self._remember(values, digest)
        return digest

    def _remember(self, values: tuple[object, ...], digest: bytes) -> None:
        if self._room <= 0:
            self._known.clear()
            self._room = _REMEMBERED
        self._known.setdefault(tuple(map(type, values)), {})[values] = digest
        self._room -= 1

    def _check(self, function: Callable[..., object], parameters: tuple[inspect.Parameter, ...], parts: Parts) -> None:
        owner = inspect.unwrap(function)
        for parameter in parameters:
            if parameter.annotation is parameter.empty:
                continue
            try:
                check_annotation(resolved(parameter.annotation, owner), parts)
            except Unkeyable as verdict:
                raise self._refusal(parameter.name, str(verdict)) from None

    def _unkeyable(self, values: tuple[object, ...], verdict: Exception) -> ConfigurationError:
        """What to tell the caller, and which of the values it was."""
        names = self._names if self._key is None else ("key=",)
        tried = zip(names, values, strict=True)
        name = next((name for name, value in tried if not self._keyable(value)), "an argument")
        return self._refusal(name, str(verdict) if isinstance(verdict, Unkeyable) else "something nested too deeply")

    def _keyable(self, value: object) -> bool:
        try:
            self._encoders.encode(value)
        except (Unkeyable, RecursionError):
            return False
        return True

    def _refusal(self, name: str, what: str) -> ConfigurationError:
        if name == "key=":
            way_out = "Return a string, a number, bytes, or a tuple of these."
        elif self.bound_to_instance and name == self._names[0]:
            way_out = "Define `__cache_key__(self) -> str` on the class, or give key=, a callable over the arguments."
        else:
            kept = ", ".join(one for one in self._names if one != name)
            example = f"lambda {', '.join(self._names)}: ({kept})"
            way_out = f"If the result does not depend on it, leave it out: key={example}"
        return ConfigurationError(f"memoize on {self._label}(): {name}: {what} cannot be part of a key. {way_out}")


def _name(function: Callable[..., object]) -> str:
    name = getattr(function, "__qualname__", None)
    if isinstance(name, str) and callable(function):
        return name
    message = (
        f"memoize cannot name {function!r} in a key. Put it on a function made by `def`,"
        " below @classmethod and @staticmethod."
    )
    raise ConfigurationError(message)


def _takes_self(parameters: tuple[inspect.Parameter, ...], label: str) -> bool:
    in_class = "." in label and not label.rpartition(".")[0].endswith("<locals>")
    return in_class and bool(parameters) and parameters[0].name == "self"


def _memorable(values: tuple[object, ...]) -> bool:
    """Whether equal values of these types, in this order, always make the same key."""
    return all(type(one) in _MEMORABLE and (type(one) is not float or _plain(one)) for one in values)


def _plain(value: float) -> bool:
    return value < 0.0 or value > 0.0  # neither a zero nor nan
