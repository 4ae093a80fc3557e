"""Tiercel: the complete caching layer for FastAPI."""

from tiercel._core.policy import Policy
from tiercel._core.status import CacheStatus
from tiercel.asgi import CacheMiddleware
from tiercel.cache import Cache
from tiercel.errors import ConfigurationError, NotAcknowledged, StoreError, TiercelError
from tiercel.spi import Clock, Observer, Store

__all__ = [
    "Cache",
    "CacheMiddleware",
    "CacheStatus",
    "Clock",
    "ConfigurationError",
    "NotAcknowledged",
    "Observer",
    "Policy",
    "Store",
    "StoreError",
    "TiercelError",
]
