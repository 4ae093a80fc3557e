"""Stores at one place: here and in other processes."""

import asyncio
import contextlib
import json
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

from tiercel._core.events import Event, Failed, Unreadable
from tiercel.spi import Ask, Parcel
from tiercel.stores._environment import FORMAT
from tiercel.stores.local import LocalStore
from tiercel.testing import RecordingLog

FILE = f"tiercel-{FORMAT}.mdb"
KEY = b"key"


def parcel(blob: bytes = b"blob", **more: Any) -> Parcel:
    given: dict[str, Any] = {"born": 0, "fresh_for": 60.0, "retain_for": 60.0, "blob": blob, **more}
    return Parcel(**given)


PLAY = """
async def play(rounds):
    import random
    wrong = found = 0
    for _ in range(rounds):
        name = random.choice("abc")
        match random.choice("cpppff"):
            case "c":
                cut = await store.append([name])
                kept = (await store.fetch(Ask(key=name.encode(), fields={}))).kept
                wrong += any(one.parcel.born < cut for one in kept)
            case "p":
                store.current()
                born = log.position
                await asyncio.sleep(0)
                await store.put(name.encode(), b"", parcel(tags=(name,), born=born), None)
            case _:
                store.current()
                before = log.position
                known = max([cut.id for cut in log.cuts if cut.tags == (name,)], default=0)
                kept = (await store.fetch(Ask(key=name.encode(), fields={}))).kept
                wrong += any(one.parcel.born < known for one in kept)
                found += len(kept)
    return wrong, found
"""

PROGRAM = f"""
import asyncio, json, os, sys
from pathlib import Path
from tiercel.spi import Ask, Parcel
from tiercel.stores.local import LocalStore
from tiercel.testing import RecordingLog

def parcel(**more):
    return Parcel(**{{"born": 0, "fresh_for": 60.0, "retain_for": 60.0, "blob": b"blob", **more}})

store, log = LocalStore(Path(sys.argv[1]), size=8_000_000, namespace="test"), RecordingLog()


async def take():
    return (await store.fetch(Ask(key=b"key", fields={{}}, lease=60.0))).lease is not None

async def die_reading():
    opened = store._open
    reading = opened._env.lmdb.begin()
    reading.get(b"boot", db=opened._env.tables[b"meta"])
    os.write(1, b'"reading"\\n')
    os.kill(os.getpid(), 9)

async def die_in_the_middle():
    opened = store._open
    def dying():
        transaction = opened._env.lmdb.begin(write=True)
        opened._ledger.cut(transaction, ["a"], soft=False)
        os.write(1, b'"dying"\\n')
        os.kill(os.getpid(), 9)
    await store._write(dying)

{PLAY}

async def main():
    async with store.running(log, lambda event: None):
        print(json.dumps("ready"), flush=True)
        while line := await asyncio.to_thread(sys.stdin.readline):
            print(json.dumps(await eval(line)), flush=True)

asyncio.run(main())
"""
"""What another process does, one line after the other."""


class Process:
    """Another process with a store at the same place."""

    def __init__(self, place: Path) -> None:
        self._popen = subprocess.Popen(
            [sys.executable, "-c", PROGRAM, str(place)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        self.pid = self._popen.pid

    async def ready(self) -> "Process":
        assert await self._read() == "ready"
        return self

    async def do(self, line: str) -> Any:
        assert self._popen.stdin is not None
        self._popen.stdin.write(f"{line}\n")
        self._popen.stdin.flush()
        return await self._read()

    async def _read(self) -> Any:
        assert self._popen.stdout is not None
        return json.loads(await asyncio.to_thread(self._popen.stdout.readline))

    def end(self, how: signal.Signals = signal.SIGKILL) -> None:
        with contextlib.suppress(ProcessLookupError):
            os.kill(self.pid, how)
        self._popen.wait()
        for pipe in (self._popen.stdin, self._popen.stdout):
            if pipe is not None:
                pipe.close()


class Here:
    """A store in this process."""

    def __init__(self, place: Path, **more: Any) -> None:
        given: dict[str, Any] = {"size": 8_000_000, "namespace": "test", **more}
        self.store = LocalStore(place, **given)
        self.log = RecordingLog()
        self.events: list[Event] = []

    def running(self) -> contextlib.AbstractAsyncContextManager[None]:
        return self.store.running(self.log, self.events.append)

    async def blobs(self, key: bytes = KEY) -> list[bytes]:
        return [one.parcel.blob for one in (await self.store.fetch(Ask(key=key, fields={}))).kept]

    @property
    def reasons(self) -> list[str]:
        return [event.reason for event in self.events if isinstance(event, Unreadable)]

    @property
    def failures(self) -> list[str]:
        return [str(event.error) for event in self.events if isinstance(event, Failed)]
