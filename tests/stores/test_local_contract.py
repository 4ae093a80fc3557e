"""The contract of stores, over LMDB."""

from pathlib import Path

import pytest

from tiercel.spi import Store
from tiercel.stores.local import LocalStore
from tiercel.testing import StoreContract


@pytest.mark.realtime
class TestLocalStore(StoreContract):
    @pytest.fixture
    def place(self, tmp_path: Path) -> Path:
        return tmp_path

    def make(self, place: Path, namespace: str) -> Store:
        return LocalStore(place, size=8_000_000, namespace=namespace)
