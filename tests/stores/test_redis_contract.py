"""The contract of stores, over a real Redis."""

from collections.abc import Generator
from itertools import count
from pathlib import Path

import pytest
from redis_server import Server, servers

from tiercel.spi import Store
from tiercel.stores.redis import RedisStore
from tiercel.testing import StoreContract

_numbers = count()


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Generator[Server]:
    made = Server(Path(tmp_path_factory.mktemp("redis")))
    with servers([made]):
        yield made


@pytest.mark.realtime
class TestRedisStore(StoreContract):
    @pytest.fixture
    def place(self, server: Server) -> tuple[str, int]:
        return server.url, next(_numbers)

    def make(self, place: tuple[str, int], namespace: str) -> Store:
        url, number = place
        return RedisStore(url, namespace=f"{number}:{namespace}")
