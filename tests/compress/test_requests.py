"""Requests that come compressed, for a server that reads none."""

from __future__ import annotations

import random
from typing import Any

import orjson
import pytest
import zstandard

from middleware.compress import codings, requests
from middleware.compress.codings import MAX_MEMBERS, Malformed, TooLarge, expand
from middleware.compress.requests import AT_ONCE, FREE
from tests.compress.rig import COMPRESS, ENCODE, JSON, LONG, Server
from tests.conftest import Serve, UpstreamMaker
from tests.road.wire import Message, ok


async def send(
    serve: Serve, upstream: UpstreamMaker, body: bytes, *fields: str, **keys: Any
) -> tuple[Message, list[Message]]:
    """The answer, and what the server was asked."""
    server = Server(ok(b"{}", JSON))
    keys = {"requests": "decompress", **keys}
    running = await serve(await upstream(server), chain=[{COMPRESS: keys}])
    client = await running.connect()
    answer = await client.exchange("POST", "/v1/embeddings", *fields, body=body)
    return answer, server.asked


@pytest.mark.parametrize("coding", ["gzip", "br", "zstd", "x-gzip", "GZIP"])
async def test_the_server_gets_it_in_clear(
    serve: Serve, upstream: UpstreamMaker, coding: str
) -> None:
    """Without Content-Encoding, and with the length that it has now."""
    body = ENCODE[coding.lower().removeprefix("x-")](LONG)
    answer, asked = await send(serve, upstream, body, f"content-encoding: {coding}")
    assert answer.status == 200
    assert asked[0].body == LONG
    assert (asked[0]["content-encoding"], asked[0]["content-length"]) == (None, str(len(LONG)))


async def test_what_tells_of_the_compressed_bytes_goes(
    serve: Serve, upstream: UpstreamMaker
) -> None:
    """The server gets other bytes: their digests would be wrong (RFC 9530)."""
    fields = ("content-digest: x", "repr-digest: x", "digest: x", "content-md5: x")
    _, asked = await send(serve, upstream, ENCODE["gzip"](LONG), "content-encoding: gzip", *fields)
    assert set(asked[0].names) == {"host", "content-length"}
    _, asked = await send(serve, upstream, LONG, "content-encoding: identity", *fields)
    assert {"content-digest", "repr-digest", "digest", "content-md5"} < set(asked[0].names)


async def test_a_body_in_clear_is_not_read(serve: Serve, upstream: UpstreamMaker) -> None:
    """`identity` leaves nothing to undo, and no bound to keep: it streams on, of any length."""
    _, asked = await send(
        serve, upstream, LONG, "content-encoding: identity", max_request=len(LONG) - 1
    )
    assert (asked[0].body, asked[0]["content-encoding"]) == (LONG, None)


async def test_layers_inside_read_it(serve: Serve, upstream: UpstreamMaker) -> None:
    """The cache finds the model call in a body that came compressed."""
    server = Server(ok(b"{}", JSON))
    chain = [{COMPRESS: {"requests": "decompress"}}, {"middleware.cache:Cache": {"ttl": 60}}]
    running = await serve(await upstream(server), chain=chain)
    body = orjson.dumps({"model": "m", "input": "x"})
    for content, field in ((ENCODE["gzip"](body), "content-encoding: gzip"), (body, "x-a: b")):
        client = await running.connect()
        got = await client.exchange("POST", "/v1/embeddings", JSON, field, body=content)
        assert got.status == 200
    assert len(server.asked) == 1


async def test_by_default_it_passes(serve: Serve, upstream: UpstreamMaker) -> None:
    """Nobody asked for it: the bytes and the field go on as they came."""
    body = ENCODE["gzip"](LONG)
    _, asked = await send(serve, upstream, body, "content-encoding: gzip", requests="pass")
    assert (asked[0].body, asked[0]["content-encoding"]) == (body, "gzip")


_FAR = zstandard.ZstdCompressionParameters.from_level(3, window_log=27)
HUGE_WINDOW = zstandard.ZstdCompressor(compression_params=_FAR).compress(bytes(9 << 20))
"""A decoder would have to hold 9 MiB for it."""

REFUSED: list[tuple[bytes, tuple[str, ...], int, str]] = [
    (b"no gzip", ("content-encoding: gzip",), 400, "malformed_body"),
    (ENCODE["gzip"](LONG)[:-9], ("content-encoding: gzip",), 400, "malformed_body"),
    (ENCODE["zstd"](LONG)[:-9], ("content-encoding: zstd",), 400, "malformed_body"),
    (ENCODE["br"](LONG)[:-9], ("content-encoding: br",), 400, "malformed_body"),
    (b"", ("content-encoding: gzip",), 400, "malformed_body"),
    (HUGE_WINDOW, ("content-encoding: zstd",), 400, "malformed_body"),
    (b"\x11" + bytes(30), ("content-encoding: br",), 400, "malformed_body"),  # of 2^30 and more
    (b"x", ("content-encoding: compress",), 415, "unsupported_content_encoding"),
    (b"x", ("content-encoding: gzip, br",), 415, "unsupported_content_encoding"),
    (
        b"x",
        ("content-encoding: gzip", "content-encoding: gzip"),
        415,
        "unsupported_content_encoding",
    ),
]


@pytest.mark.parametrize(("body", "fields", "status", "code"), REFUSED)
async def test_what_cannot_be_read_is_refused(
    serve: Serve, upstream: UpstreamMaker, body: bytes, fields: tuple[str, ...], status: int,
    code: str,
) -> None:  # fmt: skip
    """With what is expected instead; the server hears nothing."""
    answer, asked = await send(serve, upstream, body, *fields)
    assert (answer.status, answer["x-remora-error"]) == (status, code)
    assert (answer["accept-encoding"] is not None) == (status == 415)
    assert not asked


@pytest.mark.parametrize("coding", ["gzip", "br", "zstd"])
@pytest.mark.parametrize("keys", [{"max_ratio": 10}, {"max_request": FREE}])
async def test_a_bomb_is_not_opened(
    serve: Serve, upstream: UpstreamMaker, coding: str, keys: dict[str, int]
) -> None:
    """A body that grows beyond `max_request`, or beyond `max_ratio` where it is over FREE: 413."""
    bomb = ENCODE[coding](bytes(FREE + 1))
    answer, asked = await send(serve, upstream, bomb, f"content-encoding: {coding}", **keys)
    assert (answer.status, answer["x-remora-error"]) == (413, "body_too_large")
    assert not asked
    within = ENCODE[coding](bytes(FREE))
    answer, asked = await send(serve, upstream, within, f"content-encoding: {coding}", **keys)
    assert (answer.status, len(asked[0].body)) == (200, FREE)


@pytest.mark.parametrize("coding", ["gzip", "br", "zstd"])
async def test_no_more_than_the_file_allows(
    serve: Serve, upstream: UpstreamMaker, coding: str
) -> None:
    """`max_request` bounds a body of whatever ratio, also under FREE."""
    content, field = ENCODE[coding](LONG), f"content-encoding: {coding}"
    answer, asked = await send(serve, upstream, content, field, max_request=len(LONG) - 1)
    assert (answer.status, answer["x-remora-error"]) == (413, "body_too_large")
    assert not asked
    answer, asked = await send(serve, upstream, content, field, max_request=len(LONG))
    assert (answer.status, asked[0].body) == (200, LONG)


async def test_a_long_body_is_expanded_off_the_loop(
    serve: Serve, upstream: UpstreamMaker, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A body over AT_ONCE goes to a thread, and the server gets all of it."""
    threads: list[object] = []
    to_thread = requests.asyncio.to_thread

    async def counted(work: Any, *arguments: Any) -> Any:
        threads.append(work)
        return await to_thread(work, *arguments)

    monkeypatch.setattr(requests.asyncio, "to_thread", counted)
    body = orjson.dumps([str(number) for number in range(20_000)])
    content = ENCODE["gzip"](body)
    assert len(content) > AT_ONCE
    _, asked = await send(serve, upstream, content, "content-encoding: gzip")
    assert asked[0].body == body
    assert threads == [expand]


@pytest.mark.parametrize("coding", ["gzip", "br", "zstd"])
def test_the_bound_is_to_the_byte(coding: str) -> None:
    """As many bytes as allowed pass, one more does not; nothing else is taken for a body."""
    body = ENCODE[coding](LONG)
    assert expand(coding, body, len(LONG)) == LONG
    with pytest.raises(TooLarge):
        expand(coding, body, len(LONG) - 1)
    with pytest.raises(Malformed):
        expand(coding, body + b"rubbish", 10 * len(LONG))


@pytest.mark.parametrize("coding", ["gzip", "zstd"])
def test_members_that_follow_one_another_are_one_body(coding: str) -> None:
    """As RFC 1952 and RFC 8878 have it; the bound is on all of them."""
    body = ENCODE[coding](LONG) + ENCODE[coding](b"more")
    assert expand(coding, body, len(LONG) + 4) == LONG + b"more"
    with pytest.raises(TooLarge):
        expand(coding, body, len(LONG) + 3)


@pytest.mark.parametrize("coding", ["gzip", "zstd"])
def test_members_are_counted(coding: str) -> None:
    """MAX_MEMBERS pass, one more does not."""
    one = ENCODE[coding](b"")
    assert expand(coding, one * MAX_MEMBERS, 1) == b""
    with pytest.raises(Malformed, match="members"):
        expand(coding, one * (MAX_MEMBERS + 1), 1)


@pytest.mark.parametrize("coding", ["gzip", "zstd"])
def test_many_members_cost_as_much_as_their_bytes(
    coding: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """No member's reader is given more than a piece of what follows it, which it would copy."""
    given = 0

    class Counting:
        def __init__(self, it: Any) -> None:
            self._it = it

        def decompress(self, piece: bytes, *bound: int) -> bytes:
            nonlocal given
            given += len(piece)
            found: bytes = self._it.decompress(piece, *bound)
            return found

        def __getattr__(self, name: str) -> Any:
            return getattr(self._it, name)

    members = codings._members
    monkeypatch.setattr(
        codings, "_members",
        lambda body, name, begin, most: members(body, name, lambda: Counting(begin()), most),
    )  # fmt: skip
    count = 200
    for one in (b"", random.Random(5).randbytes(1500), LONG):
        given = 0
        body = ENCODE[coding](one) * count
        assert expand(coding, body, len(one) * count) == one * count
        assert given <= 1024 * count + 3 * len(body)
