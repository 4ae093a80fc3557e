"""What others may plug in: clocks and observers."""

from typing import Protocol

from tiercel._core.events import Event


class Clock(Protocol):
    """Where time comes from. `tiercel.testing.VirtualClock` is one whose time a test moves."""

    def time(self) -> float:
        """Seconds since the Unix epoch: what stored responses are dated with."""
        ...

    def monotonic(self) -> float:
        """Seconds that never step back: what durations are measured with."""
        ...


class Observer(Protocol):
    """Told of what happened. Called synchronously on the event loop: return quickly, raise nothing."""

    def on_event(self, event: Event) -> None:
        """Take one event of the closed union `tiercel._core.events.Event`."""
        ...
