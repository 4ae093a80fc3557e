"""`python -m benchmarks.peers.calls MODULE FUNCTION`: each line that is a number is answered by microseconds a call.

What the function returns is called so often, with a base and a day.
"""

import sys
from collections.abc import Awaitable, Coroutine
from importlib import import_module
from typing import Any

from benchmarks.timing import on_loop, per_await, per_call

if __name__ == "__main__":
    make = getattr(import_module(f"benchmarks.peers.{sys.argv[1]}"), sys.argv[2])
    with on_loop() as runner:

        async def first() -> float:
            """The value, whether or not it is awaited; on the loop, as all of it is called."""
            made: Any = rate("EUR", 1)
            value: float = await made if hasattr(made, "__await__") else made
            return value

        rate = make()
        if runner.run(first()) != 1.25:
            sys.exit("It gives another value.")
        coming = rate("EUR", 1)
        is_awaited = isinstance(coming, Awaitable)
        if isinstance(coming, Coroutine):
            coming.close()
        for line in sys.stdin:
            if is_awaited:
                print(per_await(runner, lambda: rate("EUR", 1), int(line)), flush=True)
            else:
                print(per_call(lambda: rate("EUR", 1), int(line)), flush=True)
