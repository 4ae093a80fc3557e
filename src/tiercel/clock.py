"""The clock of the machine: the only place where Tiercel reads the time."""

import time


class SystemClock:
    """Real time. What a cache uses unless it is given another clock.

    Example:
        >>> clock = SystemClock()
        >>> clock.monotonic() <= clock.monotonic()
        True
    """

    __slots__ = ()

    def time(self) -> float:
        """Seconds since the Unix epoch; steps when the machine's clock is set."""
        return time.time()

    def monotonic(self) -> float:
        """Seconds since an arbitrary moment; never steps back."""
        return time.monotonic()
