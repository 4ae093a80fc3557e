"""Content codings: RFC 9110 §8.4, §8.8.3.3, §12.5.3; RFC 9111 §5.2.2.6."""

import gzip
from dataclasses import replace

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from tiercel._core import coding
from tiercel._core.coding import CODINGS, LEAST
from tiercel._core.entry import Coded, Entry, Head, Header

ZSTD, BR, GZIP = CODINGS


def accepting(*values: bytes) -> list[Header]:
    return [(b"accept-encoding", value) for value in values]


# -- which coding ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("value", "wanted"),
    [
        (b"gzip", [GZIP]),
        (b"gzip, deflate, br, zstd", [ZSTD, BR, GZIP]),  # a browser
        (b"GZip,BR", [BR, GZIP]),
        (b"x-gzip", [GZIP]),
        (b"gzip;q=1.0, br;q=0.5", [GZIP, BR]),
        (b"gzip ; q=0.5 , br;\tq=0.501", [BR, GZIP]),
        (b"zstd;q=0.001", [ZSTD]),
        (b"*", [ZSTD, BR, GZIP]),
        (b"*;q=0.5, gzip", [GZIP, ZSTD, BR]),
        (b"*, zstd;q=0", [BR, GZIP]),
        (b"identity, gzip", [GZIP]),  # as good as each other: the shorter one
        (b"identity;q=0.5, gzip;q=0.5, br;q=0.4", [GZIP]),
        (b"identity;q=0, br", [BR]),
        (b"*;q=0, gzip;q=0.1", [GZIP]),
        (b"gzip;q=0.2, *;q=0.8", [ZSTD, BR]),  # the asterisk stands for the identity, too
        # None of ours.
        (b"", []),
        (b"identity", []),
        (b"deflate, compress, dcb", []),
        (b"gzip;q=0", []),
        (b"gzip;q=0.000, br;q=0.0", []),
        (b"*;q=0", []),
        (b"identity;q=0", []),
        (b"identity;q=1, gzip;q=0.9", []),  # who wants the identity gets it
        (b"identity, *;q=0.5", []),
        # What cannot be read is not wanted.
        (b"gzip;q=2", []),
        (b"gzip;q=1.001", []),
        (b"gzip;q=0.1234", []),
        (b"gzip;q=-1", []),
        (b"gzip;q=", []),
        (b"gzip;level=9", []),
        (b"gzip;q=1;q=0", []),
        (b"gzip/1", []),
        (b"gzip, gzip;q=0", []),
        (b"gzip, gzip;q=x, br", [BR]),
        (b"*;q=x", []),
        (b",,gzip,,", [GZIP]),
        (b'"gzip"', []),
        (b"gzip\xff", []),
    ],
)
def test_the_codings_that_a_client_would_rather_have(value: bytes, wanted: list[bytes]) -> None:
    assert coding.preferred(accepting(value)) == tuple(wanted)


def test_who_sends_no_accept_encoding_gets_the_identity() -> None:
    assert coding.preferred([(b"accept", b"gzip")]) == ()


def test_several_lines_are_one_list() -> None:
    assert coding.preferred(accepting(b"gzip;q=0.5", b"br")) == (BR, GZIP)


member = st.builds(
    b"".join,
    st.tuples(
        st.sampled_from([*CODINGS, b"x-gzip", b"identity", b"*", b"deflate", b"GZIP", b"", b"\xff"]),
        st.sampled_from(
            [b"", b";q=0", b";q=1", b";q=0.5", b"; q=0.001", b";q=1.000", b";Q=0.7", b";q=7", b";a=b", b";"]
        ),
    ),
)
fields = st.one_of(st.binary(max_size=700), st.lists(member, max_size=8).map(b", ".join))


@given(fields)
@example(b"gzip," * 1000)
def test_whatever_is_sent_only_what_is_acceptable_is_chosen(value: bytes) -> None:
    wanted = coding.preferred(accepting(value))
    assert len(set(wanted)) == len(wanted)
    for one in wanted:
        assert weight(one, value) > 0
        assert weight(one, value) >= weight(b"identity", value, absent=0.0)
    weights = [weight(one, value) for one in wanted]
    assert weights == sorted(weights, reverse=True)


def weight(name: bytes, value: bytes, absent: float = 0.0) -> float:
    """RFC 9110 §12.5.3, word by word, in another way: the least of what is said of a coding, else of the asterisk."""
    said: dict[bytes, list[float]] = {}
    for part in value.lower().split(b","):
        first, *parameters = [one.strip(b" \t") for one in part.strip(b" \t").split(b";")]
        readable = len(parameters) == 0 or (len(parameters) == 1 and parameters[0].startswith(b"q="))
        q = parameters[0][2:].decode("latin-1") if parameters else "1"
        digits = q.replace(".", "", 1)
        fits = (
            readable
            and q[:1] in {"0", "1"}
            and digits.isascii()
            and digits.isdigit()
            and len(q) <= 5
            and q[1:2] in {"", "."}
        )
        found = float(q) if fits and float(q) <= 1.0 else 0.0
        said.setdefault(b"gzip" if first == b"x-gzip" else first, []).append(found)
    for known in (name, b"*"):
        if known in said:
            return min(said[known])
    return absent


# -- in one spelling -------------------------------------------------------------------------------------------------


@given(fields)
def test_one_spelling_stands_for_all_that_mean_the_same(value: bytes) -> None:
    asked = [(b"host", b"shop"), *accepting(value), (b"x", b"1")]
    one = coding.canonical(asked)
    assert [name for name, _ in one] == [b"host", b"accept-encoding", b"x"]
    assert coding.preferred(one) == coding.preferred(asked)
    assert coding.canonical(one) == one
    spelled = dict(one)[b"accept-encoding"]
    for part in spelled.split(b","):
        name = part.partition(b";")[0].strip()
        # The application may answer with anything that it reads: what the client takes, and nothing else.
        assert name == b"identity" or weight(name, value) > 0


@given(st.lists(fields, max_size=50))
def test_there_are_few_spellings(values: list[bytes]) -> None:
    known = {dict(coding.canonical(accepting(value)))[b"accept-encoding"] for value in values}
    assert len(known) <= 16
    assert all(len(one) <= len(b"zstd, gzip;q=0.9, br;q=0.8") for one in known)


@pytest.mark.parametrize(
    ("value", "spelled"),
    [
        (b"br , GZIP;q=1.0, deflate", b"br, gzip"),
        (b"gzip, br;q=0.3, zstd;q=0.2", b"gzip, br;q=0.9, zstd;q=0.8"),
        (b"", b"identity"),
        (b"deflate", b"identity"),
    ],
)
def test_the_spelling_of_what_is_wanted(value: bytes, spelled: bytes) -> None:
    assert coding.canonical(accepting(value)) == accepting(spelled)


def test_several_lines_become_one() -> None:
    asked = [*accepting(b"gzip"), (b"x", b"1"), *accepting(b"br")]
    assert coding.canonical(asked) == [*accepting(b"br, gzip"), (b"x", b"1")]


def test_who_has_said_nothing_is_not_spoken_for() -> None:
    asked = [(b"host", b"shop")]
    assert coding.canonical(asked) is asked


# -- what may be encoded ---------------------------------------------------------------------------------------------

JSON: Header = (b"content-type", b"application/json")


@pytest.mark.parametrize(
    ("kind", "may"),
    [
        (b"text/plain", True),
        (b"Text/HTML; charset=utf-8", True),
        (b"application/json", True),
        (b"application/problem+json;charset=utf-8", True),
        (b"application/atom+xml", True),
        (b"application/javascript", True),
        (b"application/wasm", True),
        (b"image/svg+xml", True),
        (b"image/x-icon", True),
        (b"text/event-stream", False),
        (b"image/png", False),
        (b"image/jpeg", False),
        (b"video/mp4", False),
        (b"audio/ogg", False),
        (b"application/zip", False),
        (b"application/gzip", False),
        (b"application/pdf", False),
        (b"font/woff2", False),
        (b"application/octet-stream", False),
        (b"multipart/byteranges; boundary=x", False),
        (b"", False),
    ],
)
def test_media_types_that_become_smaller(kind: bytes, may: bool) -> None:  # noqa: FBT001 - a column
    assert coding.encodable(Head(status=200, headers=[(b"content-type", kind)]), private=False) is may


@pytest.mark.parametrize(
    "line",
    [
        (b"content-encoding", b"gzip"),
        (b"content-encoding", b"identity"),
        (b"content-md5", b"Q2hlY2sgSW50ZWdyaXR5IQ=="),
        (b"content-digest", b"sha-256=:x:"),
        (b"repr-digest", b"sha-256=:x:"),
        (b"digest", b"sha-256=x"),
        (b"signature", b"x"),
        (b"content-range", b"bytes 0-1/2"),
        (b"content-length", b"%d" % (LEAST - 1)),
        (b"content-length", b"x"),
        (b"content-length", b"9" * 30),
        (b"content-type", b"text/plain"),
        (b"cache-control", b"max-age=60, No-Transform"),
    ],
)
def test_whoever_asks_some_responses_are_left_alone(line: Header) -> None:
    for private in (True, False):
        assert not coding.encodable(Head(status=200, headers=[JSON, line]), private=private)


@pytest.mark.parametrize("status", [201, 203, 204, 206, 301, 304, 404, 500])
def test_other_status_codes_are_left_alone(status: int) -> None:
    assert not coding.encodable(Head(status=status, headers=[JSON]), private=True)


@pytest.mark.parametrize(
    "line",
    [
        (b"cache-control", b"private, max-age=0"),
        (b"vary", b"accept, Cookie"),
        (b"vary", b"authorization"),
        (b"vary", b"x-api-key"),
        (b"vary", b"*"),
    ],
)
def test_what_may_be_one_users_is_left_alone_unless_said(line: Header) -> None:
    head = Head(status=200, headers=[JSON, line])
    assert not coding.encodable(head, private=False)
    assert coding.encodable(head, private=True)


@pytest.mark.parametrize(
    "line",
    [
        (b"cache-control", b'public, private="x-secret"'),  # which is not stored, then
        (b"vary", b"Accept, accept-encoding, Accept-Language, Origin, User-Agent, Sec-CH-UA"),
        (b"content-length", b"%d" % LEAST),
    ],
)
def test_what_is_everyones_may_be_encoded(line: Header) -> None:
    assert coding.encodable(Head(status=200, headers=[JSON, line]), private=False)


def entry(*headers: Header, body: bytes = b"a" * LEAST, **more: object) -> Entry:
    made = Entry(
        method="GET", status=200, headers=[JSON, *headers], body=body, born=0, asked_at=0, answered_at=0, lifetime=1
    )
    return replace(made, **more)  # type: ignore[arg-type]


def test_what_has_no_whole_body_worth_it_is_left_alone() -> None:
    assert coding.is_whole(entry())
    assert not coding.is_whole(entry(body=b"a" * (LEAST - 1)))
    assert not coding.is_whole(entry(method="HEAD"))


# -- what is sent then -----------------------------------------------------------------------------------------------


def test_an_encoded_response_is_a_representation_of_its_own() -> None:
    stored = entry((b"content-length", b"1024"), (b"etag", b'"1"'), (b"vary", b"accept"), (b"x", b"1"))
    made = gzip.compress(stored.body, mtime=0)
    form = coding.coded(GZIP, stored.body, made)
    shown = coding.encoded(stored, form)
    assert shown.body == made
    assert shown.headers == [
        JSON,
        (b"etag", b'"1' + form.tag + b'"'),
        (b"x", b"1"),
        (b"vary", b"accept, accept-encoding"),
        (b"content-encoding", b"gzip"),
        (b"content-length", b"%d" % len(made)),
    ]
    assert replace(shown, headers=stored.headers, body=stored.body) == stored


def test_other_bytes_have_another_entity_tag() -> None:
    """Another release of a compressor, in another process, makes others of the same."""
    stored = entry((b"etag", b'"1"'))
    tags = {dict(coding.encoded(stored, coding.coded(one, stored.body, made)).headers)[b"etag"]
            for one in CODINGS for made in (b"x", b"y")}  # fmt: skip
    assert len(tags) == 6


def test_what_is_weak_stays_weak_and_what_is_no_tag_is_told_apart_as_well() -> None:
    form = Coded(GZIP, b"x", b";gzip-1")
    for etag, told in ((b'W/"1"', b'W/"1;gzip-1"'), (b'""', b'";gzip-1"'), (b"bare", b"bare;gzip-1")):
        assert (b"etag", told) in coding.encoded(entry((b"etag", etag)), form).headers


@pytest.mark.parametrize("made", [None, b"a" * LEAST, b"a" * (LEAST + 1)])
def test_what_does_not_become_smaller_is_sent_as_it_is(made: bytes | None) -> None:
    stored = entry()
    form = coding.coded(GZIP, stored.body, made)
    assert form.body is None
    assert coding.encoded(stored, form) is stored


def test_whoever_keeps_a_response_keeps_its_encodings_apart() -> None:
    assert coding.offered([JSON]) == [JSON, (b"vary", b"accept-encoding")]
    told = [JSON, (b"vary", b"Accept-Encoding, accept")]
    assert coding.offered(told) == told


def test_the_application_gets_its_own_entity_tags_back() -> None:
    tags = b'"v1;gzip-35c41ae91ec3c609", W/"v2;zstd-0123456789abcdef", "v3", "v4;gzip-35c4"'
    headers = [(b"if-match", tags), (b"x-other", tags)]
    assert coding.untagged(headers) == [(b"if-match", b'"v1", W/"v2", "v3", "v4;gzip-35c4"'), (b"x-other", tags)]
