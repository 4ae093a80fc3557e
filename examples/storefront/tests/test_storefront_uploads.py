"""What the README says about files of products."""

import asyncio
import os
import re
import shutil
import socket
import sqlite3
import tracemalloc
import zlib
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Iterator, Sequence
from contextlib import asynccontextmanager, closing, suppress
from datetime import timedelta
from email.message import Message
from hashlib import sha256
from pathlib import Path
from signal import SIGKILL
from time import time
from typing import Any
from urllib.parse import unquote

import httpx
import pytest
from httpx import AsyncClient, Response
from hypothesis import given
from hypothesis import strategies as st
from postgres_server import Postgres
from pydantic import TypeAdapter, ValidationError
from rich.console import Console
from shop_client import bearer, client_of, is_hit, lifespan, sqlite
from sqlalchemy import event, make_url
from starlette.types import ASGIApp
from uvicorn_server import serving, started

from storefront.load import load
from storefront.main import surrounded
from storefront.parts import Parts
from storefront.settings import Settings
from storefront.uploads import tidy as tidying
from storefront.uploads.kinds import Kind
from storefront.uploads.names import FileName, disposition, ending_as
from storefront.uploads.tidy import tidy

PNG_HEAD = b"\x89PNG\r\n\x1a\n\x00\x00\x00\rIHDR\x00\x00\x00\x01\x00\x00\x00\x01\x08\x06\x00\x00\x00\x1f\x15\xc4\x89"
PNG = PNG_HEAD + b"\x00\x00\x00\x0aIDAT" + zlib.compress(b"\0" * 5) + b"\x00\x00\x00\x00IEND\xaeB`\x82"
FILES = {
    Kind.PNG: PNG,
    Kind.JPEG: b"\xff\xd8\xff\xe0\x00\x10JFIF\x00\x01\x01\x00\x00\x01\x00\x01\x00\x00\xff\xd9",
    Kind.GIF: b"GIF89a\x01\x00\x01\x00\x80\x00\x00\x00\x00\x00\xff\xff\xff!\xf9\x04\x01;",
    Kind.WEBP: b"RIFF\x1a\x00\x00\x00WEBPVP8L\x0d\x00\x00\x00/\x00\x00\x00\x10\x07\x10\x11\x11\x88\x88\xfe\x07\x00",
    Kind.PDF: b"%PDF-1.7\n%\xe2\xe3\xcf\xd3\n1 0 obj\n<</Type/Catalog>>\nendobj\ntrailer\n<</Root 1 0 R>>\n%%EOF\n",
}
FILES_OF_1 = "/products/1/files"


def large(size: int) -> bytes:
    """A picture by its first bytes, and as large as you like."""
    return PNG_HEAD + os.urandom(size - len(PNG_HEAD))


def on_disk(settings: Settings) -> set[str]:
    return {file.name for file in settings.uploads.iterdir()} if settings.uploads.exists() else set()


async def add(shop: AsyncClient, who: dict[str, str], content: Any = PNG, name: str = "ring.png") -> Response:
    return await shop.post(FILES_OF_1, params={"name": name}, content=content, headers=who)


async def added(shop: AsyncClient, who: dict[str, str], content: bytes = PNG, name: str = "ring.png") -> str:
    answer = await add(shop, who, content, name)
    assert answer.status_code == 201, answer.text
    return f"http://shop{answer.headers['location']}"


@asynccontextmanager
async def shop_with(settings: Settings, **more: object) -> AsyncGenerator[AsyncClient]:
    app = surrounded(Parts.made_for(settings.model_copy(update=more)))
    async with lifespan(app), client_of(app) as shop:
        yield shop


@pytest.fixture(scope="module")
def few(three: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A database with three products: whose files are tested, how many there are makes no difference."""
    file = tmp_path_factory.mktemp("few") / "shop.db"
    load(sqlite(file).model_copy(update={"catalogue": three}), Console(quiet=True))
    return file


@pytest.fixture
def settings(few: Path, tmp_path: Path) -> Settings:
    return sqlite(Path(shutil.copy(few, tmp_path)))


@pytest.fixture(scope="module")
def few_on_postgres(postgres: Postgres, three: Path) -> Iterator[str]:
    load(Settings(database_url=postgres.create("few"), catalogue=three), Console(quiet=True))
    yield "few"
    postgres.drop("few")


@pytest.fixture
def on_postgres(postgres: Postgres, few_on_postgres: str) -> Iterator[Settings]:
    yield Settings(database_url=postgres.create("shop", template=few_on_postgres))
    postgres.drop("shop")


@pytest.fixture
def filed(either: Settings, tmp_path: Path) -> Settings:
    """SQLite and PostgreSQL, each with a directory for its files."""
    often = dict.fromkeys(("rate", "rate_user"), "1000000/second")
    return either.model_copy(update={"uploads": tmp_path / "files", "allowed_hosts": ("shop",), **often})


# -- what comes in -----------------------------------------------------------------------------------------------------


async def test_a_file_comes_back_byte_for_byte_as_what_its_bytes_are(filed: Settings) -> None:
    async with shop_with(filed) as shop:
        alice = await bearer(shop, "alice", "wonderland")
        for number, (kind, content) in enumerate(FILES.items()):
            answer = await add(shop, {**alice, "Content-Type": "text/html"}, content, "ring.html")
            told = answer.json()
            assert (answer.status_code, told["kind"], told["size"]) == (201, kind, len(content))
            assert (told["digest"], told["name"]) == (sha256(content).hexdigest(), ending_as("ring.html", kind))
            listed = (await shop.get(FILES_OF_1)).json()
            assert (listed["items"][0], listed["total"]) == (told, number + 1)
            for hit in (False, True):
                file = await shop.get(f"http://shop{answer.headers['location']}")
                assert (is_hit(file), file.content, file.headers["content-type"]) == (hit, content, kind)
                assert file.headers["etag"] == f'"{told["digest"]}"'
            assert (await shop.get(f"/products/2/files/{told['id']}")).status_code == 404
        assert [(await shop.get(f"/products/{number}/files")).status_code for number in (2, 99999)] == [200, 404]


REFUSED = {
    "nothing": b"",
    "text": b"hello",
    "html": b"<!DOCTYPE html><script>alert(1)</script>",
    "html before a picture": b"<html><!--" + PNG + b"--></html>",
    "svg": b'<?xml version="1.0"?><svg xmlns="http://www.w3.org/2000/svg"><script>alert(1)</script></svg>',
    "svg without a prologue": b'<svg xmlns="http://www.w3.org/2000/svg" onload="alert(1)"/>',
    "zip": b"PK\x03\x04\x14\x00\x00\x00\x00\x00" + bytes(40),
    "program": b"MZ\x90\x00\x03\x00\x00\x00",
    "script": b"#!/bin/sh\nrm -rf /\n",
    "half a signature": PNG[:4],
    "a signature too late": b"\x00" + PNG,
    "large": b"\x00" * 200_000,
}


async def test_what_is_neither_picture_nor_document_is_refused_and_leaves_nothing(
    settings: Settings, shop: AsyncClient, alice: dict[str, str]
) -> None:
    for what, content in REFUSED.items():
        answer = await add(shop, {**alice, "Content-Type": "image/png"}, content)
        assert (answer.status_code, answer.headers["content-type"]) == (415, "application/problem+json"), what
        assert (answer.headers["connection"], on_disk(settings)) == ("close", set()), what
    assert (await shop.get(FILES_OF_1)).json()["total"] == 0


POLYGLOTS = {
    "gif and script": (b"GIF89a/*\x01\x00*/=1;alert(1)//<script>alert(1)</script>", Kind.GIF),
    "png and zip": (PNG + b"PK\x03\x04evil.jar" + b"PK\x05\x06" + bytes(18), Kind.PNG),
    "jpeg and html": (b"\xff\xd8\xff\xfe\x00\x2a<html><script>alert(1)</script><!--\xff\xd9", Kind.JPEG),
    "pdf and script": (FILES[Kind.PDF] + b"<script>alert(1)</script>", Kind.PDF),
}


async def test_what_is_a_picture_and_something_else_is_never_run(shop: AsyncClient, alice: dict[str, str]) -> None:
    for content, kind in POLYGLOTS.values():
        place = await added(shop, alice, content, "page.html")
        for hit in (False, True):
            file = await shop.get(place)
            headers = file.headers
            assert is_hit(file) is hit
            assert (headers["content-type"], headers["x-content-type-options"]) == (kind, "nosniff")
            assert headers["content-security-policy"] == "default-src 'none'; frame-ancestors 'none'; sandbox"
            how, _, name = headers["content-disposition"].partition("; ")
            assert how == ("attachment" if kind is Kind.PDF else "inline")
            assert name == f'filename="{ending_as("page.html", kind)}"'
            assert not name.endswith('.html"')


HOSTILE_NAMES = (
    "../../etc/passwd",
    "..",
    ".",
    "a/b.png",
    "a\\b.png",
    "a\x00.png",
    "a\r\nSet-Cookie: a=b.png",
    "\u202egnp.exe",
)


async def test_a_name_that_could_be_a_path_is_refused(
    settings: Settings, shop: AsyncClient, alice: dict[str, str]
) -> None:
    for name in (*HOSTILE_NAMES, "", "x" * 196):
        answer = await add(shop, alice, name=name)
        assert (answer.status_code, answer.headers["content-type"]) == (422, "application/problem+json"), name
    assert on_disk(settings) == set()


async def test_what_is_asked_for_is_never_a_path(shop: AsyncClient, alice: dict[str, str]) -> None:
    await added(shop, alice)
    for file_id in ("..%2f..%2fshop.db", "%2e%2e", "0" * 23, "0" * 23 + "G", "0" * 24, "0" * 24 + "%00"):
        assert (await shop.get(f"{FILES_OF_1}/{file_id}")).status_code in {404, 422}, file_id


async def test_a_file_lies_under_a_name_of_ours(settings: Settings, shop: AsyncClient, alice: dict[str, str]) -> None:
    place = await added(shop, alice, name='"quoted" ring; Größe=1 💍.PNG')
    (name,) = on_disk(settings)
    assert re.fullmatch("[0-9a-f]{32}", name)
    assert name not in place
    told = (await shop.get(place)).headers["content-disposition"]
    assert told == (
        'inline; filename="_quoted_ ring; Gr__e=1 _.PNG"; '
        "filename*=UTF-8''%22quoted%22%20ring%3B%20Gr%C3%B6%C3%9Fe%3D1%20%F0%9F%92%8D.PNG"
    )


@given(st.text(), st.sampled_from(Kind))
def test_any_name_is_refused_or_told_again_in_one_line(name: str, kind: Kind) -> None:
    try:
        taken = TypeAdapter[str](FileName).validate_python(name)
    except ValidationError:
        return
    written = disposition("inline", ending_as(taken, kind))
    assert written.isascii()
    assert written.isprintable()
    read = Message()
    read["Content-Disposition"] = written
    told = unquote(written.partition("; filename*=UTF-8''")[2]) or read.get_filename()
    assert told == ending_as(taken, kind)


async def test_who_may_not_write_uploads_nothing_and_nothing_of_it_is_read(
    settings: Settings, app: ASGIApp, shop: AsyncClient, bob: dict[str, str]
) -> None:
    read: list[bytes] = []

    async def body() -> AsyncIterator[bytes]:
        for _ in range(10):
            read.append(PNG)
            yield PNG

    answers = [await add(shop, who, body()) for who in ({}, bob)]
    answers += [await shop.put(f"{FILES_OF_1}/{'0' * 24}?name=a", content=body(), headers=who) for who in ({}, bob)]
    answers += [await shop.delete(f"{FILES_OF_1}/{'0' * 24}", headers=who) for who in ({}, bob)]
    assert [answer.status_code for answer in answers] == [401, 403] * 3
    assert (read, on_disk(settings)) == ([], set())


# -- how it comes in ---------------------------------------------------------------------------------------------------


async def test_while_a_file_comes_in_or_goes_out_others_have_the_connection(settings: Settings) -> None:
    parts = Parts.made_for(settings.model_copy(update={"database_pool": 1, "cache_memory": "1MB"}))
    app, content = surrounded(parts), large(1_000_000)
    seen: list[int] = []

    async def body() -> AsyncIterator[bytes]:
        for start in range(0, len(content), 100_000):
            seen.append((await shop.get(f"/products/{start // 100_000 + 1}")).status_code)
            yield content[start : start + 100_000]

    async def hear(message: Any) -> None:
        if message["type"] == "http.response.body" and message.get("body"):
            seen.append((await shop.get(f"/products/{len(seen)}")).status_code)

    async with lifespan(app), client_of(app) as shop:
        place = await shop.post(
            FILES_OF_1, params={"name": "a"}, content=body(), headers=await bearer(shop, "alice", "wonderland")
        )
        await ask(app, f"GET {place.headers['location']}", {}, asyncio.Event().wait, hear)
    assert len(seen) > 20
    assert set(seen) == {200, 404}


async def test_an_upload_takes_no_more_memory_than_a_few_chunks(shop: AsyncClient, alice: dict[str, str]) -> None:
    size, chunk = 9_000_000, 64 * 1024

    async def body() -> AsyncIterator[bytes]:
        yield PNG_HEAD
        for _ in range((size - len(PNG_HEAD)) // chunk):
            yield bytes(chunk)

    await added(shop, alice)  # what is loaded once is loaded
    tracemalloc.start()
    try:
        before = tracemalloc.get_traced_memory()[0]
        answer = await add(shop, alice, body())
        most = tracemalloc.get_traced_memory()[1] - before
    finally:
        tracemalloc.stop()
    assert answer.json()["size"] > size - chunk
    assert most < 16 * chunk


@pytest.mark.parametrize("announced", [True, False])
async def test_an_upload_that_is_too_large_is_a_413_while_it_comes_in_and_leaves_nothing(
    settings: Settings, *, announced: bool
) -> None:
    read: list[int] = []
    there: list[set[str]] = []

    async def body() -> AsyncIterator[bytes]:
        yield PNG_HEAD
        for number in range(1_000):
            read.append(number)
            there.append(on_disk(settings))
            yield bytes(1_000)

    async with shop_with(settings, upload_limit=100_000, body_limit=1_000) as shop:
        alice = await bearer(shop, "alice", "wonderland")
        told = {"Content-Length": "1000041"} if announced else {}
        answer = await add(shop, {**alice, **told}, body())
        assert (answer.status_code, answer.headers["content-type"]) == (413, "application/problem+json")
        assert len(read) == (0 if announced else 100)
        assert [len(names) for names in there[-1:]] == ([] if announced else [1])
        assert on_disk(settings) == set()
        await added(shop, alice, large(100_000))
        assert (await shop.patch("/products/1", content=bytes(1_001), headers=alice)).status_code == 413


Messages = Callable[[], Awaitable[Any]]
Told = Callable[[Any], Awaitable[None]]


async def ask(app: ASGIApp, line: str, headers: dict[str, str], receive: Messages, send: Told) -> None:
    """Ask by hand."""
    method, path = line.split()
    lines = [(name.lower().encode(), value.encode()) for name, value in headers.items()]
    scope = {
        "type": "http",
        "method": method,
        "scheme": "http",
        "path": path,
        "raw_path": path.encode(),
        "query_string": b"name=ring",
        "headers": [(b"host", b"shop"), *lines],
    }
    await app(scope, receive, send)


async def unheard(_message: Any) -> None:
    """What is answered does not matter: there is nobody who hears it."""


@pytest.mark.parametrize("cancelled", [False, True])
async def test_an_upload_that_breaks_off_leaves_nothing(
    settings: Settings, app: ASGIApp, shop: AsyncClient, alice: dict[str, str], *, cancelled: bool
) -> None:
    there, arrived = list[set[str]](), asyncio.Event()
    coming: list[dict[str, Any]] = [{"type": "http.request", "body": large(50_000), "more_body": True}]

    async def receive() -> dict[str, Any]:
        if coming:
            return coming.pop()
        there.append(on_disk(settings))
        arrived.set()
        if cancelled:
            await asyncio.Event().wait()
        return {"type": "http.disconnect"}

    task = asyncio.create_task(ask(app, f"POST /api/v1{FILES_OF_1}", alice, receive, unheard))
    await arrived.wait()
    if cancelled:
        task.cancel()
    outcome = (await asyncio.gather(task, return_exceptions=True))[0]
    assert isinstance(outcome, asyncio.CancelledError if cancelled else type(None))
    assert [[name.endswith(".part") for name in names] for names in there] == [[True]]
    assert on_disk(settings) == set()
    assert (await shop.get(FILES_OF_1)).json()["total"] == 0


async def test_an_upload_that_takes_too_long_is_a_408_and_leaves_nothing(settings: Settings) -> None:
    async def body() -> AsyncIterator[bytes]:
        yield PNG
        await asyncio.Event().wait()

    async with shop_with(settings, upload_time=timedelta(milliseconds=20)) as shop:
        answer = await add(shop, await bearer(shop, "alice", "wonderland"), body())
    assert (answer.status_code, answer.headers["connection"]) == (408, "close")
    assert (answer.headers["content-type"], on_disk(settings)) == ("application/problem+json", set())


def sent(url: httpx.URL, token: str, length: str, body: bytes, *, until: bytes = b"") -> list[bytes]:
    """Send a body of another length than is announced; the words of what is answered until then, or to the end."""
    head = f"POST /api/v1{FILES_OF_1}?name=ring HTTP/1.1\r\nHost: 127.0.0.1\r\nAuthorization: {token}\r\n"
    with socket.create_connection((url.host, url.port or 80), 10) as line:
        line.sendall(f"{head}Content-Length: {length}\r\n\r\n".encode() + body)
        if not until:
            line.shutdown(socket.SHUT_WR)
        answer = b""
        while (not until or until not in answer) and (some := line.recv(65536)):
            answer += some
        return answer.split()


def test_what_is_announced_wrongly_is_stored_as_announced_or_not_at_all(settings: Settings) -> None:
    with serving(settings) as place, httpx.Client(base_url=f"{place}/api/v1", timeout=20) as shop:
        answer = shop.post("/token", data={"username": "alice", "password": "wonderland"}).json()
        token, url = f"Bearer {answer['access_token']}", httpx.URL(place)
        assert b"201" not in sent(url, token, str(len(PNG) + 10), PNG)
        for absurd in ("-1", "1e3", "+70", "99999999999999999999"):
            assert sent(url, token, absurd, PNG)[1] in {b"400", b"413"}
        assert shop.get(FILES_OF_1).json()["total"] == 0
        assert on_disk(settings) == set()
        assert sent(url, token, str(len(PNG)), PNG + b"GET / HTTP/1.1\r\n", until=b"}")[1] == b"201"
        (told,) = shop.get(FILES_OF_1).json()["items"]
        assert shop.get(f"{FILES_OF_1}/{told['id']}").content == PNG


# -- what goes out -----------------------------------------------------------------------------------------------------


def ranged(answer: Response) -> tuple[int, str | None, bytes]:
    return answer.status_code, answer.headers.get("content-range"), answer.content


async def test_a_range_is_cut_from_what_is_stored_and_the_disk_is_not_read(
    settings: Settings, shop: AsyncClient, alice: dict[str, str], statements: list[str]
) -> None:
    content = large(300_000)
    place = await added(shop, alice, content)
    first = await shop.get(place, headers={"Range": "bytes=10-19"})
    assert ranged(first) == (206, "bytes 10-19/300000", content[10:20])
    await shop.get(place)
    for name in on_disk(settings):
        (settings.uploads / name).unlink()  # what is answered from here on is not from the disk
    statements.clear()
    etag = first.headers["etag"]
    asked: Sequence[tuple[dict[str, str], tuple[int, str | None, bytes]]] = (
        ({}, (200, None, content)),
        ({"Range": "bytes=0-0"}, (206, "bytes 0-0/300000", content[:1])),
        ({"Range": "bytes=299990-"}, (206, "bytes 299990-299999/300000", content[-10:])),
        ({"Range": "bytes=-5"}, (206, "bytes 299995-299999/300000", content[-5:])),
        ({"Range": "bytes=299999-400000"}, (206, "bytes 299999-299999/300000", content[-1:])),
        ({"Range": "bytes=300000-"}, (416, "bytes */300000", b"")),
        ({"Range": "bytes=5-4"}, (200, None, content)),
        ({"Range": "lines=1-2"}, (200, None, content)),
        ({"Range": "bytes=0-9", "If-Range": etag}, (206, "bytes 0-9/300000", content[:10])),
        ({"Range": "bytes=0-9", "If-Range": '"another"'}, (200, None, content)),
        ({"Range": "bytes=0-9", "If-None-Match": etag}, (304, None, b"")),
    )
    for headers, expected in asked:
        answer = await shop.get(place, headers=headers)
        if expected[0] == 416:
            assert ranged(answer)[:2] == expected[:2]
        else:
            assert ranged(answer) == expected, headers
        assert "; hit" in answer.headers["cache-status"]
    parts = await shop.get(place, headers={"Range": "bytes=0-1,4-5"})
    assert parts.status_code == 206
    assert parts.headers["content-type"].startswith("multipart/byteranges")
    for part in (content[:2], content[4:6]):
        assert b"\r\n\r\n" + part + b"\r\n" in parts.content
    head = await shop.head(place)
    assert (head.status_code, head.content, head.headers["content-length"]) == (200, b"", "300000")
    assert (head.headers["accept-ranges"], "; hit" in head.headers["cache-status"]) == ("bytes", True)
    assert statements == []


async def test_a_first_range_has_the_whole_stored(shop: AsyncClient, alice: dict[str, str]) -> None:
    content = large(200_000)
    place = await added(shop, alice, content)
    assert ranged(await shop.get(place, headers={"Range": "bytes=-1"})) == (
        206,
        "bytes 199999-199999/200000",
        content[-1:],
    )
    assert (await shop.head(place)).headers["content-length"] == "200000"
    assert (await shop.get(place)).content == content
    assert is_hit(await shop.get(place))


async def test_a_hundred_readers_of_a_cold_file_read_the_disk_once(
    shop: AsyncClient, alice: dict[str, str], statements: list[str]
) -> None:
    content = large(300_000)
    place = await added(shop, alice, content)
    statements.clear()
    asked = [{"Range": f"bytes={number}-{number + 9}"} for number in range(100)]
    answers = await asyncio.gather(*(shop.get(place, headers=headers) for headers in asked))
    assert [answer.content for answer in answers] == [content[number : number + 10] for number in range(100)]
    assert len(statements) == 1


async def test_a_file_that_was_replaced_or_removed_is_gone_at_once(filed: Settings) -> None:
    old, new = large(5_000), FILES[Kind.PDF]
    async with shop_with(filed) as shop:
        alice = await bearer(shop, "alice", "wonderland")
        place, other = await added(shop, alice, old), await added(shop, alice, PNG)
        for url in (place, other, FILES_OF_1, "/products/1"):
            await shop.get(url)
            assert is_hit(await shop.get(url))
        changed = await shop.put(place, params={"name": "paper"}, content=new, headers=alice)
        assert (changed.status_code, changed.json()["name"]) == (200, "paper.pdf")
        seen = await shop.get(place)
        assert (is_hit(seen), seen.content, seen.headers["content-type"]) == (False, new, "application/pdf")
        assert changed.json() in (await shop.get(FILES_OF_1)).json()["items"]
        assert [is_hit(await shop.get(url)) for url in (other, "/products/1")] == [True, True]
        assert len(on_disk(filed)) == 2
        assert (await shop.delete(place, headers=alice)).status_code == 204
        assert [(await shop.get(place)).status_code, (await shop.head(place)).status_code] == [404, 404]
        assert (await shop.get(FILES_OF_1)).json()["total"] == 1
        again = [await shop.delete(place, headers=alice), await shop.put(f"{place}?name=a", content=PNG, headers=alice)]
        assert [answer.status_code for answer in again] == [404, 404]
        assert len(on_disk(filed)) == 1


async def test_a_replacement_that_is_refused_leaves_the_file_as_it_was(
    settings: Settings, shop: AsyncClient, alice: dict[str, str]
) -> None:
    place = await added(shop, alice)
    await shop.get(place)
    assert (await shop.put(f"{place}?name=a", content=b"<html>", headers=alice)).status_code == 415
    assert is_hit(await shop.get(place))
    assert ((await shop.get(place)).content, len(on_disk(settings))) == (PNG, 1)


async def test_a_file_that_is_removed_while_it_is_read_is_read_to_its_end(settings: Settings) -> None:
    content, heard = large(2_000_000), list[bytes]()
    app = surrounded(Parts.made_for(settings.model_copy(update={"cache_memory": "1MB"})))  # so it is not stored
    async with lifespan(app), client_of(app) as shop:
        alice = await bearer(shop, "alice", "wonderland")
        place = await added(shop, alice, content)

        async def hear(message: Any) -> None:
            if message["type"] == "http.response.body":
                if not heard:
                    assert (await shop.delete(place, headers=alice)).status_code == 204
                heard.append(message.get("body", b""))

        whole = await shop.get(place, headers={"Range": "bytes=0-9"})
        assert ranged(whole) == (200, None, content)
        await ask(app, f"GET {httpx.URL(place).path}", {}, asyncio.Event().wait, hear)
        assert b"".join(heard) == content
        assert len(heard) > 10
        assert ((await shop.get(place)).status_code, on_disk(settings)) == (404, set())


def open_files(settings: Settings) -> list[str]:
    """Which of ours this process has open."""
    found = list[Path]()
    for each in Path("/proc/self/fd").iterdir():
        with suppress(FileNotFoundError):  # closed since it was listed
            found.append(each.readlink())
    return [path.name for path in found if path.parent == settings.uploads]


async def test_a_download_that_breaks_off_leaves_no_file_open(settings: Settings) -> None:
    parts = Parts.made_for(settings.model_copy(update={"cache_memory": "1MB"}))  # so that it goes at its reader's pace
    app, gone, seen = surrounded(parts), asyncio.Event(), list[list[str]]()

    async def hear(message: Any) -> None:
        if message.get("body"):
            seen.append(open_files(settings))
            gone.set()

    async def receive() -> dict[str, Any]:
        await gone.wait()
        return {"type": "http.disconnect"}

    async with lifespan(app), client_of(app) as shop:
        place = await added(shop, await bearer(shop, "alice", "wonderland"), large(5_000_000))
        await ask(app, f"GET {httpx.URL(place).path}", {}, receive, hear)
        while open_files(settings):  # noqa: ASYNC110 - the cache ends it behind our back
            await asyncio.sleep(0)
    assert seen[0] == [*on_disk(settings)]
    assert len(seen) < 10


# -- many at once, and what is left when a process dies ----------------------------------------------------------------


async def test_two_uploads_of_the_same_at_once_are_two_whole_files(filed: Settings) -> None:
    content = large(300_000)
    async with shop_with(filed) as shop:
        alice = await bearer(shop, "alice", "wonderland")
        places = await asyncio.gather(*(added(shop, alice, content) for _ in range(6)))
        assert len(set(places)) == len(on_disk(filed)) == 6
        assert [(await shop.get(place)).content for place in places] == [content] * 6
        assert (await shop.delete(places[0], headers=alice)).status_code == 204
        assert (await shop.get(places[1])).content == content


async def test_of_several_who_replace_a_file_at_once_each_is_told_what_became_of_it(filed: Settings) -> None:
    contents = [large(20_000) for _ in range(6)]
    async with shop_with(filed) as shop:
        alice = await bearer(shop, "alice", "wonderland")
        place = await added(shop, alice)
        answers = await asyncio.gather(
            *(shop.put(f"{place}?name=a", content=content, headers=alice) for content in contents)
        )
        done = {answer.json()["digest"]: answer for answer in answers if answer.status_code == 200}
        assert {answer.status_code for answer in answers} <= {200, 409}
        last = (await shop.get(place)).content
        assert sha256(last).hexdigest() in done
        assert len(on_disk(filed)) == 1


async def test_a_file_that_is_replaced_between_its_row_and_its_bytes_is_found(
    settings: Settings, parts: Parts, shop: AsyncClient, alice: dict[str, str]
) -> None:
    place = await added(shop, alice)
    (old,) = on_disk(settings)
    read: list[str] = []

    def replaced(_connection: object, _cursor: object, statement: str, *_rest: object) -> None:
        if "FROM uploads" in statement and not read:
            read.append(statement)
            (settings.uploads / old).rename(settings.uploads / ("d" * 32))
            file = make_url(settings.database_url).database
            with closing(sqlite3.connect(file or "")) as other, other:
                other.execute("UPDATE uploads SET blob = ?", ("d" * 32,))

    event.listen(parts.database.engine.sync_engine, "after_cursor_execute", replaced)
    assert ((await shop.get(place)).content, len(read)) == (PNG, 1)


async def test_a_file_that_the_disk_has_lost_is_a_500_and_not_stored(
    settings: Settings, app: ASGIApp, shop: AsyncClient, alice: dict[str, str]
) -> None:
    place = await added(shop, alice)
    (name,) = on_disk(settings)
    (settings.uploads / name).rename(settings.uploads / "aside")
    transport = httpx.ASGITransport(app, raise_app_exceptions=False)
    async with AsyncClient(transport=transport) as there:
        lost = await there.get(place)
    assert (lost.status_code, lost.headers["content-type"]) == (500, "application/problem+json")
    (settings.uploads / "aside").rename(settings.uploads / name)
    assert (await shop.get(place)).content == PNG


async def test_a_product_with_files_stays(shop: AsyncClient, alice: dict[str, str]) -> None:
    place = await added(shop, alice)
    refused = await shop.delete("/products/1", headers=alice)
    assert (refused.status_code, "has files" in refused.json()["detail"]) == (409, True)
    await shop.delete(place, headers=alice)
    assert (await shop.delete("/products/1", headers=alice)).status_code == 204
    assert [(await shop.get(FILES_OF_1)).status_code, (await add(shop, alice)).status_code] == [404, 404]


async def test_a_product_that_goes_while_its_file_comes_in_leaves_no_file(
    settings: Settings, shop: AsyncClient, alice: dict[str, str]
) -> None:
    async def body() -> AsyncIterator[bytes]:
        yield PNG
        assert (await shop.delete("/products/1", headers=alice)).status_code == 204

    answer = await add(shop, alice, body())
    assert (answer.status_code, on_disk(settings)) == (404, set())


def written_an_hour_ago(settings: Settings) -> None:
    then = time() - tidying.YOUNGEST - 1
    for file in settings.uploads.iterdir():
        os.utime(file, (then, then))


@pytest.mark.parametrize("when", ["before", "after"])
def test_what_a_process_that_is_killed_leaves_is_a_file_without_a_row_and_tidied_up(
    settings: Settings, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], when: str
) -> None:
    monkeypatch.setenv("KILLED", when)  # an insert: before its commit; a removal: after it
    with started(settings, "killed_while_filing:create") as (place, process):
        with httpx.Client(base_url=f"{place}/api/v1", timeout=20) as shop:
            token = shop.post("/token", data={"username": "alice", "password": "wonderland"}).json()["access_token"]
            alice = {"Authorization": f"Bearer {token}"}

            def add_and_remove() -> None:
                kept = shop.post(f"{FILES_OF_1}?name=a", content=PNG, headers=alice).headers["location"]
                shop.delete(f"{place}{kept}", headers=alice)

            with pytest.raises(httpx.TransportError):
                add_and_remove()
        assert process.wait(20) == -SIGKILL
    assert len(on_disk(settings)) == 1
    assert asyncio.run(tidy(settings)) == (set(), set()), "it may be an upload that is about to be committed"
    written_an_hour_ago(settings)
    monkeypatch.setattr(tidying, "settings_of_the_environment", lambda: settings)
    with pytest.raises(SystemExit) as done:
        tidying.main()
    assert (done.value.code, capsys.readouterr().out) == (0, "removed 1 files that belong to nothing\n")
    assert on_disk(settings) == set()


async def test_tidying_leaves_what_is_known_or_new_or_not_ours_and_tells_what_is_lost(
    settings: Settings, shop: AsyncClient, alice: dict[str, str], monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    assert await tidy(settings) == (set(), set())
    await added(shop, alice)
    (known,) = on_disk(settings)
    for name in ("README", "a" * 32, "b" * 32 + ".part"):
        (settings.uploads / name).write_bytes(PNG)
    written_an_hour_ago(settings)
    (settings.uploads / ("c" * 32)).write_bytes(PNG)
    assert await tidy(settings) == ({"a" * 32, "b" * 32 + ".part"}, set())
    assert on_disk(settings) == {known, "README", "c" * 32}
    (settings.uploads / known).unlink()
    assert await tidy(settings) == (set(), {known})
    monkeypatch.setattr(tidying, "settings_of_the_environment", lambda: settings)
    with pytest.raises(SystemExit) as done:
        await asyncio.to_thread(tidying.main)
    assert (done.value.code, capsys.readouterr().out.splitlines()[1]) == (1, f"lost: {settings.uploads / known}")


async def test_the_document_says_what_an_upload_takes_and_answers(shop: AsyncClient) -> None:
    document = (await shop.get("http://shop/openapi.json")).json()
    files, file = (document["paths"][f"/api/v1/products/{{product_id}}/files{each}"] for each in ("", "/{file_id}"))
    assert [*files["post"]["requestBody"]["content"]] == ["application/octet-stream"]
    assert {"201", "401", "403", "404", "408", "413", "415", "422"} <= set(files["post"]["responses"])
    assert {"200", "409"} <= set(file["put"]["responses"])
    assert {"200", "206", "304", "404", "416"} <= set(file["get"]["responses"])
    assert set(file["get"]["responses"]["206"]["content"]) == set(Kind)
    assert [*files["post"]["responses"]["413"]["content"]] == ["application/problem+json"]
