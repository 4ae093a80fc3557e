"""Every exception that Tiercel raises on purpose.

TiercelError
├── ConfigurationError     a mistake in the program: what, where and what to do; raised at start-up
├── StoreError             a shared store could not be used
│   └── NotAcknowledged    an invalidation could not be made durable
"""


class TiercelError(Exception):
    """The root: `except TiercelError` catches whatever Tiercel raises on purpose.

    Example:
        >>> from tiercel import Cache, TiercelError
        >>> try:
        ...     Cache(memory="a lot")
        ... except TiercelError as error:
        ...     print(error)
        Cache(memory=): 'a lot' is not a size. Give bytes, 64000 at least, or text such as "256MB" or "1GiB".
    """


class ConfigurationError(TiercelError):
    """A declaration or a setting cannot work. The message says what, where and what to do.

    Example:
        >>> from tiercel import Cache
        >>> Cache().memoize()
        Traceback (most recent call last):
        tiercel.errors.ConfigurationError: @cache.memoize needs a lifetime. Give one: @cache.memoize(ttl=60).
    """


class StoreError(TiercelError):
    """A shared store did not do what it was asked to.

    Example:
        >>> from tiercel import StoreError, TiercelError
        >>> issubclass(StoreError, TiercelError)
        True
    """


class NotAcknowledged(StoreError):  # noqa: N818 - the word of the contract, read as "raise NotAcknowledged"
    """An invalidation was applied in this process, but could not be made durable for the others.

    Example:
        >>> from tiercel import Cache, NotAcknowledged
        >>> async def rename(cache: Cache) -> str:
        ...     try:
        ...         await cache.invalidate("product:42")
        ...     except NotAcknowledged:
        ...         return "other processes may show the old name for a while"
        ...     return "done"
        >>> import asyncio
        >>> asyncio.run(rename(Cache()))
        'done'
    """
