"""Every exception that Tiercel raises on purpose.

TiercelError
├── ConfigurationError     a mistake in the program: what, where and what to do; raised at start-up
├── StoreError             a shared store could not be used
│   └── NotAcknowledged    an invalidation could not be made durable
"""


class TiercelError(Exception):
    """The root: `except TiercelError` catches whatever Tiercel raises on purpose."""


class ConfigurationError(TiercelError):
    """A declaration or a setting cannot work. The message says what, where and what to do."""


class StoreError(TiercelError):
    """A shared store did not do what it was asked to."""


class NotAcknowledged(StoreError):  # noqa: N818 - the word of the contract, read as "raise NotAcknowledged"
    """An invalidation was applied in this process, but could not be made durable for the others."""
