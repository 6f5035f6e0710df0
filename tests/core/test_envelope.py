"""Bytes in a shared store: what is written comes back, and nothing else is believed."""

from __future__ import annotations

import zlib
from dataclasses import replace

import msgpack
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from middleware.core import envelope
from middleware.core.entry import Entry
from middleware.core.envelope import BadEnvelope, pack, unpack

fields = st.lists(st.tuples(st.binary(max_size=20), st.binary(max_size=20)), max_size=5)
seconds = st.floats(allow_nan=False, allow_infinity=False)
text = st.text(st.characters(), max_size=20)  # lone surrogates, too
sizes = st.lists(st.integers(1, 50), max_size=5)


@st.composite
def entries(draw: st.DrawFn) -> Entry:
    """Any entry: with pieces that make up its body, or without."""
    pieces = tuple(draw(sizes))
    body = draw(st.binary(min_size=sum(pieces), max_size=sum(pieces)) if pieces else st.binary())
    return Entry(
        status=draw(st.integers(100, 999)),
        reason=draw(st.binary(max_size=20)),
        headers=draw(fields),
        body=body,
        stored_at=draw(seconds),
        lifetime=draw(seconds),
        keep=draw(seconds),
        age=draw(seconds),
        trailers=draw(fields),
        vary=draw(fields),
        route=draw(text),
        model=draw(text),
        tags=tuple(draw(st.lists(text, max_size=4))),
        cost=draw(seconds),
        tokens=draw(st.integers(0, 2**63)),
        pieces=pieces,
    )


PLAIN = Entry(
    status=200,
    reason=b"OK",
    headers=[(b"Content-Type", b"application/json"), (b"X-A", b"1"), (b"x-a", b"2")],
    body=b'{"data": [0.25, 0.5]}' * 40,
    stored_at=1.7e9,
    lifetime=300.0,
    keep=360.0,
)


def shrink(data: bytes) -> bytes:
    return zlib.compress(data)


def grow(data: bytes, most: int) -> bytes:
    """Undoes `shrink`; ValueError over `most` bytes."""
    work = zlib.decompressobj()
    try:
        whole = work.decompress(data, most)
    except zlib.error as error:
        raise ValueError(str(error)) from error
    if not work.eof:
        raise ValueError("over the bound")
    return whole


@given(entries())
def test_any_entry_comes_back(entry: Entry) -> None:
    """Equal in each field and its type, compressed or not."""
    assert unpack(pack(entry)) == entry
    assert unpack(pack(entry, shrink), grow) == entry
    assert type(unpack(pack(entry)).tags) is type(unpack(pack(entry)).pieces) is tuple


@given(st.data())
def test_any_change_is_refused(data: st.DataObject) -> None:
    """One byte changed, cut off, put in or added: BadEnvelope and nothing else."""
    small = replace(PLAIN, body=data.draw(st.binary(max_size=40)))
    packed = pack(small, data.draw(st.sampled_from([None, shrink])))
    at = data.draw(st.integers(0, len(packed) - 1))
    extra = data.draw(st.binary(min_size=1, max_size=8))
    other = bytes((packed[at] ^ data.draw(st.integers(1, 255)),))
    kind = data.draw(st.sampled_from(["change", "cut", "drop", "insert", "append", "swap"]))
    changed = {
        "change": packed[:at] + other + packed[at + 1 :],
        "cut": packed[:at],
        "drop": packed[:at] + packed[at + 1 :],
        "insert": packed[:at] + extra + packed[at:],
        "append": packed + extra,
        "swap": packed[at:] + packed[:at],
    }[kind]
    if changed == packed:
        return
    with pytest.raises(BadEnvelope):
        unpack(changed, grow)


@given(st.binary(max_size=200))
@example(b"")
@example(b"RMR\x01")
def test_noise_is_refused(noise: bytes) -> None:
    """Whatever else stands under the key."""
    with pytest.raises(BadEnvelope):
        unpack(noise, grow)


def forged(payload: bytes, flags: int = 0) -> bytes:
    """An envelope whose checksum fits, as one who can write to the store makes it."""
    head = envelope.MAGIC + bytes((envelope.VERSION, flags))
    return head + envelope._checksum(flags, payload) + payload


@given(st.binary(max_size=100))
@example(b"\xdd\xff\xff\xff\xff")
@example(b"\x91" * 100)
@example(b"\xc7\x01\x05x")
def test_a_forged_payload_is_refused(payload: bytes) -> None:
    """No MessagePack, one that claims 4 Gi elements, that nests, or has extension types."""
    for flags in (0, 1):
        with pytest.raises(BadEnvelope):
            unpack(forged(payload, flags), grow)


values = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**63), 2**64 - 1) | st.floats() | st.text(max_size=3)
    | st.binary(max_size=3),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner),
    max_leaves=4,
)  # fmt: skip


@given(st.integers(0, 15), values)
def test_a_field_of_another_type_is_refused(index: int, value: object) -> None:
    """Whatever comes out is a sound Entry: it packs to the very same fields."""
    written = msgpack.unpackb(pack(PLAIN)[13:])
    written[index] = value
    try:
        entry = unpack(forged(msgpack.packb(written)))
    except BadEnvelope:
        return
    found = msgpack.unpackb(pack(entry)[13:])
    if isinstance(value, int) and isinstance(found[index], float):
        written[index] = float(value)  # seconds may come as a whole number
    assert found == written


@pytest.mark.parametrize("index", range(16))
def test_no_field_may_be_nothing(index: int) -> None:
    """None stands for no field, and none may be left out."""
    written = msgpack.unpackb(pack(PLAIN)[13:])
    for wrong in ([*written[:index], None, *written[index + 1 :]], written[:index]):
        with pytest.raises(BadEnvelope):
            unpack(forged(msgpack.packb(wrong)))


def test_another_version_says_which() -> None:
    """A replica of another version wrote it: a miss, and not a guess at what it means."""
    packed = bytearray(pack(PLAIN))
    packed[3] = 9
    with pytest.raises(BadEnvelope, match="version 9"):
        unpack(bytes(packed))


def test_a_bomb_is_refused() -> None:
    """The bound holds for what arrives and for what it would grow to."""
    packed = pack(replace(PLAIN, body=bytes(1_000_000)), shrink)
    assert len(packed) < 10_000
    assert len(unpack(packed, grow).body) == 1_000_000
    with pytest.raises(BadEnvelope):
        unpack(packed, grow, most=900_000)
    with pytest.raises(BadEnvelope, match="bound"):
        unpack(pack(PLAIN), most=500)


def test_compressed_only_where_it_is_shorter() -> None:
    """Otherwise it is kept as it is, and needs no decompressor; without one the rest is refused."""
    assert pack(PLAIN, lambda data: data) == pack(PLAIN)
    assert unpack(pack(PLAIN, lambda data: data + b"x")) == PLAIN
    assert len(pack(PLAIN, shrink)) < len(pack(PLAIN)) / 2
    with pytest.raises(BadEnvelope):
        unpack(pack(PLAIN, shrink))


def test_the_layout_is_settled() -> None:
    """Replicas of one version must agree to the byte: another layout needs another VERSION."""
    assert pack(Entry(200, b"OK", [(b"a", b"b")], b"body", 1.0, 2.0, 3.0)).hex() == (
        "524d52010034d50c7151c3cd10dc0010ccc8c4024f4b92c40161c40162c404626f6479cb3ff00000"
        "00000000cb4000000000000000cb4008000000000000cb00000000000000009090a0a090cb000000"
        "00000000000090"
    )
