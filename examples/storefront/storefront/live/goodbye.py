"""The end of the server, heard of before it waits for who is still connected.

uvicorn ends the lifespan when all connections are gone, and a stream of events does not go by itself: without this a
server with one listener would never end. There is no word in ASGI for it, so we listen to the signals as uvicorn does.
"""

import asyncio
import signal
import threading
from collections.abc import Callable, Generator
from contextlib import ExitStack, contextmanager
from types import FrameType


@contextmanager
def before_the_end(close: Callable[[], None]) -> Generator[None]:
    """Have `close` called when the server is told to end, or else when this is left; more than once does no harm."""
    main = threading.current_thread() is threading.main_thread()  # no other may ask for signals
    with ExitStack() as heard:
        heard.callback(close)
        for number in (signal.SIGINT, signal.SIGTERM) if main else ():
            heard.enter_context(_hearing(number, close, asyncio.get_running_loop()))
        yield


@contextmanager
def _hearing(number: signal.Signals, close: Callable[[], None], loop: asyncio.AbstractEventLoop) -> Generator[None]:
    before = signal.getsignal(number)

    def hear(number: int, frame: FrameType | None) -> None:
        if not loop.is_closed():
            loop.call_soon_threadsafe(close)
        if callable(before):
            before(number, frame)

    if callable(before):  # else whoever runs us has not asked for this signal: it goes its way
        signal.signal(number, hear)
    yield
    if signal.getsignal(number) is hear:
        signal.signal(number, before)
