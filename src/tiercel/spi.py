"""What others may plug in: clocks and observers; and the events that observers are told of."""

from typing import Protocol

from tiercel._core.events import Answered, Discarded, Event, Failed, Invalidated, Stored

__all__ = ["Answered", "Clock", "Discarded", "Event", "Failed", "Invalidated", "Observer", "Stored"]


class Clock(Protocol):
    """Where time comes from. `tiercel.testing.VirtualClock` is one whose time a test moves.

    Example:
        >>> from tiercel import Cache, Clock
        >>> from tiercel.testing import VirtualClock
        >>> clock: Clock = VirtualClock()
        >>> cache = Cache(clock=clock)
    """

    def time(self) -> float:
        """Seconds since the Unix epoch: what stored responses are dated with.

        Example:
            >>> from tiercel.clock import SystemClock
            >>> SystemClock().time() > 1_700_000_000
            True
        """
        ...

    def monotonic(self) -> float:
        """Seconds that never step back: what durations are measured with.

        Example:
            >>> from tiercel.clock import SystemClock
            >>> clock = SystemClock()
            >>> clock.monotonic() <= clock.monotonic()
            True
        """
        ...


class Observer(Protocol):
    """Told of what happened.

    Called synchronously: on the event loop, and in the threads that call memoised functions. Return quickly. What it
    raises is logged, and changes nothing.

    Example:
        >>> from tiercel import Cache
        >>> class Printing:
        ...     def on_event(self, event: object) -> None:
        ...         print(type(event).__name__)
        >>> cache = Cache(observers=[Printing()])
        >>> import asyncio
        >>> ack = asyncio.run(cache.invalidate("products"))
        Invalidated
    """

    def on_event(self, event: Event) -> None:
        """Take one event of the closed union `tiercel.spi.Event`.

        Args:
            event: What happened.

        Example:
            >>> from tiercel.spi import Answered, Event
            >>> class Counting:
            ...     hits = 0
            ...     def on_event(self, event: Event) -> None:
            ...         match event:
            ...             case Answered(result="hit"):
            ...                 self.hits += 1
        """
        ...
