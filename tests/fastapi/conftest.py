"""The same tests on both roads: the application is called, or a server that speaks bytes with its clients."""

import httpx
import pytest
import wire


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """A test that looks at what only a caller of an application sees says so by its mark."""
    if "road" in metafunc.fixturenames:
        called_only = metafunc.definition.get_closest_marker("called")
        metafunc.parametrize("road", ["called"] if called_only else ["called", "served"], indirect=True)


@pytest.fixture(autouse=True)
def road(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """By which road applications are asked."""
    if request.param == "served":
        monkeypatch.setattr(wire, "by_server", True)
        monkeypatch.setattr(httpx, "ASGITransport", wire.ServedTransport)
    return str(request.param)
