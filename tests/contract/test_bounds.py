"""Bounds, each just kept and just crossed, where that needs no server behind remora."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Callable
from pathlib import Path

import pytest
import trustme

from proxy import admin, server
from proxy.config import ResponseLimits
from proxy.edge import connection
from proxy.edge.chunked import MAX_LINE, MAX_TRAILERS, ChunkedReader
from proxy.edge.parser import HeadLimits, RequestReader
from proxy.errors import BadRequest, ProxyError, UpstreamProtocolError
from proxy.exchange import Request, Response
from proxy.router import MEMO_ENTRIES, Route, Router
from proxy.stream import HIGH_WATER, Stream
from proxy.upstream.answer import MAX_INTERIM, AnswerReader
from proxy.upstream.answer import MAX_TRAILERS as MAX_ANSWER_TRAILERS

from .road import PATIENCE, ModelServer, client, remora

LIMITS = HeadLimits(request_line=100, head=400, headers=5)


def read(raw: bytes) -> bytes | None:
    """The target of a request that is read under LIMITS. Raises BadRequest."""
    reader = RequestReader(LIMITS)
    reader.feed(raw)
    head = reader.head()
    return head.target if head is not None else None


def status_of(call: Callable[[], object]) -> int:
    with pytest.raises(ProxyError) as caught:
        call()
    return caught.value.status


def line(size: int) -> bytes:
    """A request line of `size` bytes, its end included."""
    return b"GET /" + b"a" * (size - len(b"GET / HTTP/1.1\r\n")) + b" HTTP/1.1\r\n"


def test_request_line() -> None:
    """With its line end; also where that never comes."""
    assert read(line(100) + b"Host: h\r\n\r\n")
    assert status_of(lambda: read(line(101) + b"Host: h\r\n\r\n")) == 414
    assert read(b"GET /" + b"a" * 95) is None
    assert status_of(lambda: read(b"GET /" + b"a" * 96)) == 414


def test_head() -> None:
    """Up to the line end of the last field; also where the head never ends."""

    def head(size: int) -> bytes:
        start = b"GET / HTTP/1.1\r\nHost: h\r\nA: "
        return start + b"a" * (size - len(start)) + b"\r\n\r\n"

    assert read(head(400))
    assert status_of(lambda: read(head(401))) == 431
    assert read(head(400)[:400]) is None
    assert status_of(lambda: read(head(500)[:401])) == 431


def test_headers() -> None:
    """Host counts."""
    assert read(b"GET / HTTP/1.1\r\nHost: h\r\n" + b"A: 1\r\n" * 4 + b"\r\n")
    assert (
        status_of(lambda: read(b"GET / HTTP/1.1\r\nHost: h\r\n" + b"A: 1\r\n" * 5 + b"\r\n")) == 431
    )


def test_chunk_line() -> None:
    """A size line with its extensions; also where its end never comes."""

    def chunk(size: int) -> bytes:
        return b"1;" + b"a" * (size - len(b"1;\r\n")) + b"\r\nx\r\n0\r\n\r\n"

    assert ChunkedReader().read(chunk(MAX_LINE)) == (b"x", b"")
    assert status_of(lambda: ChunkedReader().read(chunk(MAX_LINE + 2))) == 431
    assert ChunkedReader().read(b"1;" + b"a" * (MAX_LINE - 2))[0] == b""
    assert status_of(lambda: ChunkedReader().read(b"1;" + b"a" * (MAX_LINE - 1))) == 431


def test_trailers_of_a_request() -> None:
    """All their lines together."""
    lines = [b"A: " + b"a" * 1021] * (MAX_TRAILERS // 1024)
    reader = ChunkedReader()
    reader.read(b"0\r\n" + b"\r\n".join(lines) + b"\r\n\r\n")
    assert reader.done and len(reader.trailers) == len(lines)
    with pytest.raises(BadRequest) as caught:
        ChunkedReader().read(b"0\r\n" + b"\r\n".join([*lines, b"B:"]) + b"\r\n\r\n")
    assert caught.value.status == 431


def test_high_water() -> None:
    """A Stream pauses its source over the bound, and resumes it for a reader that waits."""
    told: list[str] = []

    class Source:
        def pause(self) -> None:
            told.append("pause")

        def resume(self) -> None:
            told.append("resume")

        def abort(self) -> None:
            told.append("abort")

    stream = Stream(Source())
    stream.feed(b"x" * HIGH_WATER)
    assert told == []
    stream.feed(b"x")
    stream.feed(b"x")
    assert told == ["pause"]
    assert len(stream.take()) == HIGH_WATER + 2
    reading = stream.read()
    with pytest.raises(RuntimeError):  # no loop: it is about to wait
        reading.send(None)
    assert told == ["pause", "resume"]


# -- an upstream's answer


def answer(raw: bytes, head: int = 400, headers: int = 5) -> Response | None:
    reader = AnswerReader(ResponseLimits(head=head, headers=headers), "it")
    reader.expect(Request(b"GET", b"/", []))
    reader.feed(raw)
    return reader.response


OK = b"HTTP/1.1 200 OK\r\n"


def test_head_of_an_answer() -> None:
    """Reason and fields, whether it ends or not; a body in the same piece does not count."""
    field = b"A: " + b"a" * (400 - len(b"OK") - len(b"A: \r\n"))
    assert answer(OK + field + b"\r\n\r\n" + b"b" * 4096)
    with pytest.raises(UpstreamProtocolError, match="over 400 bytes"):
        answer(OK + field + b"a\r\n\r\n")
    with pytest.raises(UpstreamProtocolError, match="over 400 bytes"):
        answer(OK + b"A: " + b"a" * 400)


def test_headers_of_an_answer() -> None:
    """One more than the bound is refused."""
    assert answer(OK + b"A: 1\r\n" * 5 + b"\r\n")
    with pytest.raises(UpstreamProtocolError, match="more than 5 header lines"):
        answer(OK + b"A: 1\r\n" * 6 + b"\r\n")


def test_interim_answers() -> None:
    """They do not go on for ever."""
    interim = b"HTTP/1.1 103 Early Hints\r\n\r\n"
    assert answer(interim * MAX_INTERIM + OK + b"\r\n", head=4096)
    with pytest.raises(UpstreamProtocolError, match=f"more than {MAX_INTERIM} interim"):
        answer(interim * (MAX_INTERIM + 1), head=4096)


def test_trailers_of_an_answer() -> None:
    """Fields behind the last chunk are counted like those before it."""
    start = OK + b"Transfer-Encoding: chunked\r\n\r\n0\r\n"
    found = answer(start + b"A: 1\r\n" * MAX_ANSWER_TRAILERS + b"\r\n")
    assert found is not None and len(found.trailers) == MAX_ANSWER_TRAILERS
    with pytest.raises(UpstreamProtocolError, match="trailers"):
        answer(start + b"A: 1\r\n" * (MAX_ANSWER_TRAILERS + 1) + b"\r\n")


def test_lines_between_chunks_of_an_answer() -> None:
    """A trailer or an extension that never ends is refused, however slowly it comes; a long body
    of small chunks is not.
    """
    for endless in (b"0\r\nA: ", b"1;"):
        reader = AnswerReader(ResponseLimits(head=400, headers=5), "it")
        reader.expect(Request(b"GET", b"/", []))
        reader.feed(OK + b"Transfer-Encoding: chunked\r\n\r\n")
        for _ in range(1000):
            for piece in (b"1;a=b\r\n", b"x", b"\r\n"):
                reader.feed(piece)
        reader.feed(endless)
        with pytest.raises(UpstreamProtocolError, match="between chunks over 400 bytes"):
            for _ in range(400):
                reader.feed(b"a")


# -- what clients can make many of


async def _handler(request: Request) -> Response:
    raise AssertionError("nobody calls this")


def test_paths_remembered() -> None:
    """The router's table holds no more than its bound, and finds what it forgot."""
    router = Router([Route("even", _handler, b"/0", prefix=True), Route("all", _handler)])
    for number in range(3 * MEMO_ENTRIES):
        path = b"/%d" % number
        assert router.find(Request(b"GET", path, [])).name == ("even" if number == 0 else "all")
        assert len(router._memo) <= MEMO_ENTRIES
    assert router.find(Request(b"GET", b"/0", [])).name == "even"


# -- waits


async def until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(PATIENCE):
        while not condition():
            await asyncio.sleep(0.01)


async def test_linger(model: ModelServer, monkeypatch: pytest.MonkeyPatch) -> None:
    """A refused client that sends on and never closes is closed."""
    monkeypatch.setattr(connection, "LINGER", 0.1)
    async with remora(model.url, []) as running, client(running) as user:
        await user.send(b"GET / HTTP/1.1\r\nHost : h\r\n\r\n" + b"x" * 100)
        assert (await user.rest()).startswith(b"HTTP/1.1 400 ")
        assert running.edge.connections, "it was closed before anybody could read why"
        await until(lambda: not running.edge.connections)


async def test_handshake(
    model: ModelServer, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """A client that connects to a TLS listener and says nothing is closed."""
    monkeypatch.setattr(server, "HANDSHAKE_TIMEOUT", 0.1)
    cert = trustme.CA().issue_cert("localhost")
    pem, key = tmp_path / "cert.pem", tmp_path / "key.pem"
    cert.cert_chain_pems[0].write_to_path(pem)
    cert.private_key_pem.write_to_path(key)
    listen = {"address": "127.0.0.1:0", "tls": {"cert": str(pem), "key": str(key)}}
    async with remora(model.url, [], listen=listen) as running, client(running) as user:
        assert await user.rest() == b""


async def test_a_worker_that_does_not_tell(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """The numbers of one that hangs are left out; whoever asks gets those of the others."""
    monkeypatch.setattr(admin, "PEER_TIMEOUT", 0.1)
    path = tmp_path / "worker.sock"
    with socket.socket(socket.AF_UNIX) as hung:
        hung.bind(str(path))
        hung.listen()
        async with asyncio.timeout(PATIENCE):
            told = await admin._ask(path, "GET", "/metrics")
            assert told.silent and not told.ok
