"""The frame of what shared stores keep: what cannot be read is a reason, never an exception."""

import zlib
from typing import get_args

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tiercel._core import codec
from tiercel._core.codec import RESPONSE, VALUE, Frame, seal, unseal

KEY, SECRET, OLDER = b"key", b"secret", b"older secret"
FRAME = Frame(RESPONSE, b"head", b"body" * 100)

frames = st.builds(Frame, st.sampled_from([RESPONSE, VALUE]), st.binary(max_size=50), st.binary(max_size=300))


def inflated(data: bytes, size: int) -> bytes:
    try:
        return zlib.decompressobj().decompress(data, size + 1)
    except zlib.error as error:
        raise ValueError(error) from None


@given(frame=frames, key=st.binary(max_size=20), secret=st.binary(max_size=20), small=st.booleans())
def test_what_is_sealed_is_what_is_unsealed(frame: Frame, key: bytes, secret: bytes, *, small: bool) -> None:
    blob = seal(frame, key=key, secret=secret, compress=zlib.compress if small else None)
    secrets = (secret,) if secret else ()
    assert unseal(blob, frame.kind, key=key, secrets=secrets, decompress=inflated) == frame
    assert unseal(blob, frame.kind, key=key, decompress=inflated) == frame, "who has no secret reads what others sign"


@given(blob=st.binary(max_size=200), secrets=st.sampled_from([(), (SECRET,)]))
def test_no_input_raises(blob: bytes, secrets: tuple[bytes, ...]) -> None:
    for given_ in (blob, seal(FRAME, key=KEY)[:14] + blob, seal(FRAME, key=KEY)[:7] + blob):
        found = unseal(given_, RESPONSE, key=KEY, secrets=secrets, decompress=inflated)
        assert isinstance(found, Frame) or found in get_args(codec.Unreadable)


def test_every_truncation_is_refused() -> None:
    for secret in (b"", SECRET):
        blob = seal(FRAME, key=KEY, secret=secret)
        assert {unseal(blob[:size], RESPONSE, key=KEY) for size in range(len(blob))} == {"truncated"}
        assert unseal(blob + b"x", RESPONSE, key=KEY) == "truncated"


def test_every_flipped_bit_of_what_is_signed_is_refused() -> None:
    blob = seal(FRAME, key=KEY, secret=SECRET, compress=zlib.compress)
    for bit in range(len(blob) * 8):
        flipped = bytearray(blob)
        flipped[bit // 8] ^= 1 << bit % 8
        found = unseal(bytes(flipped), RESPONSE, key=KEY, secrets=(SECRET,), decompress=inflated)
        assert isinstance(found, str), bit


@pytest.mark.parametrize(
    ("blob", "reason"),
    [
        (b"", "truncated"),
        (b"\x80\x04\x95" + bytes(20), "foreign"),
        (seal(FRAME, key=KEY)[:3] + b"\x02" + seal(FRAME, key=KEY)[4:], "version"),
        (seal(FRAME, key=KEY)[:5] + b"\x04" + seal(FRAME, key=KEY)[6:], "version"),
        (seal(FRAME, key=KEY), "unsigned"),
        (seal(FRAME, key=KEY, secret=b"another"), "forged"),
        (seal(FRAME, key=b"another", secret=SECRET), "forged"),
        (seal(FRAME._replace(kind=VALUE), key=KEY, secret=SECRET), "kind"),
    ],
)
def test_what_cannot_be_read_has_a_reason(blob: bytes, reason: str) -> None:
    assert unseal(blob, RESPONSE, key=KEY, secrets=(SECRET,)) == reason


def test_secrets_can_be_changed_while_both_are_known() -> None:
    old = seal(FRAME, key=KEY, secret=OLDER)
    assert unseal(old, RESPONSE, key=KEY, secrets=(SECRET, OLDER)) == FRAME
    assert unseal(old, RESPONSE, key=KEY, secrets=(SECRET,)) == "forged"


def test_a_key_does_not_run_into_what_is_signed() -> None:
    blob = seal(FRAME, key=b"ab", secret=SECRET)
    assert unseal(blob, RESPONSE, key=b"a", secrets=(SECRET,)) == "forged"


def test_only_what_gets_smaller_is_compressed() -> None:
    noise = bytes(range(256))
    plain = seal(Frame(RESPONSE, b"", noise), key=KEY)
    assert seal(Frame(RESPONSE, b"", noise), key=KEY, compress=zlib.compress) == plain
    assert len(seal(FRAME, key=KEY, compress=zlib.compress)) < len(seal(FRAME, key=KEY))


@pytest.mark.parametrize(
    ("size", "data", "reason"),
    [
        (400, zlib.compress(b"body" * 100)[:-20], "damaged"),
        (399, zlib.compress(b"body" * 100), "damaged"),
        (401, zlib.compress(b"body" * 100), "damaged"),
        (codec.LARGEST + 1, zlib.compress(b"x"), "too-large"),
        (1, b"no stream", "damaged"),
    ],
)
def test_what_is_compressed_is_as_large_as_it_says(size: int, data: bytes, reason: str) -> None:
    body = size.to_bytes(4) + data
    blob = codec._HEAD.pack(codec._MAGIC, codec.VERSION, RESPONSE, 1, 0, len(body)) + body
    assert unseal(blob, RESPONSE, key=KEY, decompress=inflated) == reason


def test_who_cannot_decompress_says_so() -> None:
    blob = seal(FRAME, key=KEY, compress=zlib.compress)
    assert unseal(blob, RESPONSE, key=KEY) == "compressed"
    short = codec._HEAD.pack(codec._MAGIC, codec.VERSION, RESPONSE, 1, 0, 3) + b"abc"
    assert unseal(short, RESPONSE, key=KEY, decompress=inflated) == "damaged"
