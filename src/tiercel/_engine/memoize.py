"""`memoize`: a function in front of its values."""

import functools
import inspect
import os
from collections.abc import Callable, Iterable
from typing import Any, cast

from tiercel._core.calls import ArgumentKey
from tiercel._core.policy import Policy
from tiercel._core.templates import check_template
from tiercel._engine.classes import parts_of
from tiercel._engine.endpoint import Declaration, declaration_of, rendered
from tiercel._engine.joining import Making, TagsOf, Terms
from tiercel._engine.recall import Recall
from tiercel._engine.values import Codec, codec_of
from tiercel.errors import ConfigurationError

Function = Callable[..., Any]


class Memoizer:
    """Puts functions in front of the values of one cache."""

    def __init__(self, recall: Recall, *, namespace: str) -> None:
        self._recall = recall
        self._namespace = namespace
        self._named: dict[tuple[str, str], Function] = {}

    def memoized(self, function: Any, policy: Policy) -> Any:  # noqa: ANN401 - a function, or what becomes one in its class
        """What looks a value up before it calls `function`.

        Raises:
            ConfigurationError: Its calls cannot be told apart, or what it returns cannot be kept.
        """
        if isinstance(function, staticmethod | classmethod):
            kind: Any = type(cast("object", function))
            return kind(self.memoized(cast("Any", function).__func__, policy))
        _check(function)
        codec = codec_of(function)
        key_of = ArgumentKey(
            function,
            namespace=f"{self._namespace_of(function)}:{codec.layout}",
            parts=parts_of,
            salt=os.urandom(16),
            key=policy.key,
        )
        call = _Call(function, policy, key_of, codec, self._recall)
        made = call.awaiting() if inspect.iscoroutinefunction(function) else call.returning()
        return _Method(made, key_of) if key_of.bound_to_instance else made

    def _namespace_of(self, function: Function) -> str:
        """Of several functions by one name, such as those that a wrapper makes, each but the first has a random one."""
        name = (function.__module__, function.__qualname__)
        if "<" in name[1] or self._named.setdefault(name, function) is function:
            return self._namespace
        return f"{self._namespace}:{os.urandom(16).hex()}"


class _Call:
    """What is the same for all calls of one function."""

    def __init__(self, function: Function, policy: Policy, key_of: ArgumentKey, codec: Codec, recall: Recall) -> None:
        self._function = function
        self._over = policy.tags
        self._key_of = key_of
        self._recall = recall
        name = function.__qualname__
        self._terms = Terms(
            label=name,
            codec=codec,
            ttl=policy.ttl or 0.0,
            stale_while_revalidate=policy.stale_while_revalidate,
            stale_if_error=policy.stale_if_error,
            shared=not key_of.local,
        )
        for template in () if callable(policy.tags) else policy.tags:
            check_template(template, inspect.signature(function).parameters, f"{name}()")

    def awaiting(self) -> Function:
        key_of, fresh, terms, wanted = self._key_of, self._recall.fresh, self._terms, self._wanted
        label, decode, recall = terms.label, terms.codec.decode, self._recall.recall

        @functools.wraps(self._function)
        async def remembering(*args: Any, **kwargs: Any) -> Any:  # noqa: ANN401 - as `function`
            key = key_of(args, kwargs)
            found = fresh(label, key)
            return await recall(wanted(key, args, kwargs)) if found is None else decode(found.payload)

        return remembering

    def returning(self) -> Function:
        key_of, fresh, terms, wanted = self._key_of, self._recall.fresh, self._terms, self._wanted
        label, decode, recall_now = terms.label, terms.codec.decode, self._recall.recall_now

        @functools.wraps(self._function)
        def remembering(*args: Any, **kwargs: Any) -> Any:  # noqa: ANN401 - as `function`
            key = key_of(args, kwargs)
            found = fresh(label, key)
            return recall_now(wanted(key, args, kwargs)) if found is None else decode(found.payload)

        return remembering

    def _wanted(self, key: bytes, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Making:
        make = functools.partial(self._function, *args, **kwargs)
        return self._recall.wanted(self._terms, key, self._tags(args, kwargs), make)

    def _tags(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> tuple[str, ...] | TagsOf:
        over = self._over
        if not over:
            return ()
        arguments = self._key_of.arguments(args, kwargs)
        if callable(over):
            return lambda value: _texts(over(arguments, value), self._terms.label)
        try:
            return rendered(over, arguments)
        except Exception:  # noqa: BLE001 - of an attribute of an argument; it is told once there is a value
            return lambda _: rendered(over, arguments)


class _Method:
    """Stands in for a memoised method until its class is made, and says then if its instances cannot be keyed.

    Where another decorator has wrapped it, its class does not see it: then it is a function like any other.
    """

    def __init__(self, function: Function, key_of: ArgumentKey) -> None:
        functools.update_wrapper(self, function)
        # By these `inspect` takes it for a function, `async def` or not.
        self.__code__ = function.__code__
        self.__defaults__ = function.__defaults__
        self.__kwdefaults__ = function.__kwdefaults__
        self._function = function
        self._key_of = key_of

    def __set_name__(self, owner: type, name: str) -> None:
        self._key_of.check_owner(owner)
        setattr(owner, name, self._function)

    def __call__(self, *args: Any, **kwargs: Any) -> Any:  # noqa: ANN401 - as the function
        return self._function(*args, **kwargs)

    def __get__(self, instance: object, owner: type | None = None) -> Any:  # noqa: ANN401 - a bound method
        return self._function.__get__(instance, owner)


def endpoint_of(function: Function, declaration: Declaration) -> Function:
    """The endpoint under a declaration, which `memoize` goes in front of instead.

    Raises:
        ConfigurationError: Something stands between them, which would change places, too.
    """
    endpoint = declaration.endpoint
    directly: bool = getattr(function, "__wrapped__", None) is endpoint
    if directly and declaration_of(endpoint) is None:
        return endpoint
    message = (
        f"@cache.memoize on {function.__qualname__}() stands above another decorator, and that above @cache.response. "
        "Put @cache.memoize below @cache.response."
    )
    raise ConfigurationError(message)


def _check(function: Any) -> None:  # noqa: ANN401 - whatever was decorated
    """Names and signatures tell the functions of a program apart, and nothing that carries arguments of its own."""
    inner = inspect.unwrap(function, stop=lambda one: isinstance(one, functools.partial))
    if not inspect.isfunction(inner):
        message = (
            f"memoize cannot tell {function!r} from others of its kind. Put it on a function made by `def`; "
            "of an object or a partial, on a function that calls it."
        )
        raise ConfigurationError(message)
    if inspect.isgeneratorfunction(inner) or inspect.isasyncgenfunction(inner):
        message = (
            f"memoize on {inner.__qualname__}(): it yields, and what it yields can be read once only. "
            "Memoize a function that returns the whole, such as a list; a dependency with `yield` can call it."
        )
        raise ConfigurationError(message)


def _texts(tags: Iterable[str], label: str) -> tuple[str, ...]:
    """The tags that a callable returned, of which one alone is one tag, not one for each character."""
    given = (tags,) if isinstance(tags, str) else tuple(tags)
    for tag in given:
        if not isinstance(tag, str):  # pyright: ignore[reportUnnecessaryIsInstance] - what a program returns
            message = f"The tags of {label} are {given!r}. Let `tags` return strings."
            raise ConfigurationError(message)
    return tuple(dict.fromkeys(given))
