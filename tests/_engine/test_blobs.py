"""Stored responses as bytes: what comes back is what was put, older by the time in store, and never fresher."""

import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tiercel._core import codec
from tiercel._core.entry import Entry, Partial
from tiercel._core.freshness import current_age, seconds_until_stale
from tiercel._engine.blobs import Blobs
from tiercel._engine.compression import zstd
from tiercel._engine.settings import threshold
from tiercel.errors import ConfigurationError

KEY = b"k" * 16
NOW = 1_800_000_000.0
PLAIN = Blobs()
SIGNED = (b"the secret of the golden files",)

times = st.floats(0.0, 1e6)
names = st.binary(min_size=1, max_size=9)
entries = st.builds(
    Entry,
    method=st.sampled_from(["GET", "HEAD", "QUERY"]),
    status=st.integers(200, 599),
    headers=st.lists(st.tuples(names, st.binary(max_size=20))),
    body=st.binary(max_size=100),
    selecting=st.lists(st.tuples(names, st.none() | st.binary(min_size=16, max_size=16))).map(tuple),
    tags=st.lists(st.text(st.characters(exclude_categories=["Cs"]))).map(tuple),
    born=st.just(7),
    asked_at=times.map(lambda ago: NOW - ago),
    answered_at=times.map(lambda ago: NOW - ago),
    initial_age=times,
    lifetime=times,
    stale_while_revalidate=times,
    stale_if_error=times,
    must_revalidate=st.booleans(),
    must_validate=st.booleans(),
    cost=times,
    partial=st.none() | st.builds(Partial, first=st.integers(0, 9), last=st.integers(9, 99), complete=st.none()),
)


def entry(**more: Any) -> Entry:
    given_: dict[str, Any] = {
        "method": "GET", "status": 200, "headers": [(b"a", b"b")], "body": b"hello", "born": 7, "asked_at": NOW - 3,
        "answered_at": NOW - 2, "lifetime": 60.0, **more,
    }  # fmt: skip
    return Entry(**given_)


@given(stored=entries)
def test_what_is_written_is_read(stored: Entry) -> None:
    found = PLAIN.read(PLAIN.write(stored, key=KEY, now=NOW), key=KEY, now=NOW, age=0.0, born=7)
    assert isinstance(found, Entry)
    assert replace(found, headers=list(found.headers)) == replace(stored, headers=list(stored.headers))


@given(stored=entries, age=st.floats(0.0, 1e6), clock=st.floats(0.0, 4e9))
def test_time_in_store_makes_nothing_fresher_whatever_the_readers_clock_says(
    stored: Entry, age: float, clock: float
) -> None:
    found = PLAIN.read(PLAIN.write(stored, key=KEY, now=NOW), key=KEY, now=clock, age=age, born=7)
    assert isinstance(found, Entry)
    assert current_age(found, clock) == pytest.approx(current_age(stored, NOW + age), abs=1e-3)
    assert seconds_until_stale(found, clock) == pytest.approx(seconds_until_stale(stored, NOW) - age, abs=1e-3)


def test_a_store_whose_clock_went_back_makes_nothing_fresher() -> None:
    found = PLAIN.read(PLAIN.write(entry(), key=KEY, now=NOW), key=KEY, now=NOW, age=-30.0, born=7)
    assert isinstance(found, Entry)
    assert found.answered_at == NOW - 2


def test_what_has_another_head_than_ours_is_damaged() -> None:
    for head in (b"", b"\xc1", msgspec.msgpack.encode(["GET"]), msgspec.msgpack.encode({"method": "GET"})):
        blob = codec.seal(codec.Frame(codec.RESPONSE, head, b""), key=KEY)
        assert PLAIN.read(blob, key=KEY, now=NOW, age=0.0, born=0) == "damaged"


def test_what_is_signed_is_read_by_who_knows_the_secret() -> None:
    ours, older = Blobs([b"new", b"old"]), Blobs([b"old"])
    blob = older.write(entry(), key=KEY, now=NOW)
    assert isinstance(ours.read(blob, key=KEY, now=NOW, age=0.0, born=0), Entry)
    assert older.read(ours.write(entry(), key=KEY, now=NOW), key=KEY, now=NOW, age=0.0, born=0) == "forged"
    assert ours.read(PLAIN.write(entry(), key=KEY, now=NOW), key=KEY, now=NOW, age=0.0, born=0) == "unsigned"


# -- compressed ------------------------------------------------------------------------------------------------------


def test_what_is_larger_is_compressed_and_comes_back_as_it_was() -> None:
    large, small = entry(body=b"0123456789" * 1_000), entry(body=b"0123456789")
    ours = Blobs(SIGNED, compress_above=100)
    assert len(ours.write(large, key=KEY, now=NOW)) < 1_000
    assert ours.write(small, key=KEY, now=NOW) == Blobs(SIGNED).write(small, key=KEY, now=NOW)
    for stored in (large, small):
        assert Blobs(SIGNED).read(ours.write(stored, key=KEY, now=NOW), key=KEY, now=NOW, age=0.0, born=7) == stored


def test_what_unpacks_to_more_than_it_says_is_not_unpacked() -> None:
    found = zstd()
    assert found is not None
    packed = found.compress(bytes(1_000_000))
    assert found.decompress(packed, 1_000_000) == bytes(1_000_000)
    for data, size in ((packed, 10), (packed, 10_000_000), (b"", 10), (b"x" * 40, 10), (packed[:20], 1_000_000)):
        with pytest.raises(ValueError, match=r"."):
            found.decompress(data, size)


def test_without_the_package_it_is_not_read_and_cannot_be_asked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    blob = Blobs(compress_above=0).write(entry(body=bytes(1_000)), key=KEY, now=NOW)
    monkeypatch.setitem(sys.modules, "zstandard", None)
    assert Blobs().read(blob, key=KEY, now=NOW, age=0.0, born=7) == "compressed"
    with pytest.raises(ConfigurationError, match=r"needs the package zstandard. Install the extra: pip install"):
        threshold("4KB", "Cache(compress_above=)")


# -- what releases have written --------------------------------------------------------------------------------------

GOLDEN = Path(__file__).parent / "golden"
WRITTEN = entry(
    headers=[(b"content-type", b"application/json"), (b"etag", b'"abc"')],
    body=b'{"name":"lamp"}',
    selecting=((b"accept", b"d" * 16), (b"x-absent", None)),
    tags=("product:1", "größe"),
    initial_age=1.5,
    stale_while_revalidate=30.0,
    stale_if_error=300.0,
    must_revalidate=True,
    cost=0.25,
    partial=Partial(first=0, last=14, complete=None),
)


@pytest.mark.parametrize(("name", "secrets"), [("response-1", ()), ("response-1-signed", SIGNED)])
def test_what_this_format_was_when_it_was_released_is_what_it_is(name: str, secrets: tuple[bytes, ...]) -> None:
    """Another layout needs another version: what other workers have written must not be taken for something else."""
    golden = (GOLDEN / name).read_bytes()
    assert Blobs(secrets).write(WRITTEN, key=KEY, now=NOW) == golden
    assert Blobs(secrets).read(golden, key=KEY, now=NOW, age=0.0, born=7) == WRITTEN


def test_a_later_version_is_not_read() -> None:
    golden = bytearray((GOLDEN / "response-1").read_bytes())
    golden[3] = codec.VERSION + 1
    assert PLAIN.read(bytes(golden), key=KEY, now=NOW, age=0.0, born=7) == "version"
