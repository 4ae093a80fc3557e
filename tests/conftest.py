"""What every test stands on: `async def` tests run in virtual time, unless marked `realtime`."""

import asyncio

import httpx
import pytest
import wire
from hypothesis import HealthCheck, settings

from tiercel.testing import VirtualClock, VirtualLoop

# Other work on the machine must not fail a test: no example is judged by how long it took.
settings.register_profile("tiercel", deadline=None, suppress_health_check=[HealthCheck.too_slow], print_blob=True)
settings.load_profile("tiercel")


@pytest.fixture
def anyio_backend(request: pytest.FixtureRequest) -> tuple[str, dict[str, object]]:
    """Tell anyio's plugin how to run this test."""
    test: pytest.Item = request.node
    real = test.get_closest_marker("realtime")
    return "asyncio", {"loop_factory": asyncio.SelectorEventLoop if real else VirtualLoop}


@pytest.fixture
def clock() -> VirtualClock:
    """Read the loop of the test."""
    return VirtualClock()


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Begin with the file that takes longest: a file is one process's, and the others are done long before it is."""
    items.sort(key=lambda item: "simulation" not in item.path.parts)


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """A test that looks at what only a caller of an application sees says so by its mark."""
    if "road" in metafunc.fixturenames:
        called_only = metafunc.definition.get_closest_marker("called")
        metafunc.parametrize("road", ["called"] if called_only else ["called", "served"], indirect=True)


@pytest.fixture
def road(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """By which road applications are asked: they are called, or a server speaks bytes with their clients."""
    if request.param == "served":
        monkeypatch.setattr(wire, "by_server", True)
        monkeypatch.setattr(httpx, "ASGITransport", wire.ServedTransport)
        monkeypatch.setattr(wire, "_served", {})
    return str(request.param)
