"""What becomes of a body on its way through BodyFilters."""

from __future__ import annotations

import pytest

from proxy.errors import InternalError

from .filters import Guard, Marks
from .layers import Filters, Probe, named
from .road import LAST_CHUNK, SSE_HEAD, ModelServer, Wire, chunk, client, event, post, remora

FIXED = b"HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nContent-Length: 10\r\n\r\n"


async def ask(
    user: Wire, path: str = "/x", method: bytes = b"GET", version: bytes = b"1.1"
) -> None:
    await user.send(b"%b %b HTTP/%b\r\nHost: h\r\n\r\n" % (method, path.encode(), version))


async def test_a_body_that_is_here_is_counted_anew(model: ModelServer) -> None:
    """One Content-Length, of the filtered body; the other fields stay as they came."""
    async with remora(model.url, [named(Filters, "square")]) as server, client(server) as user:
        await ask(user)
        await (await model.asked()).answer(b"12345", b"Content-Type: text/plain", b'ETag: "a"')
        head, body = await user.read_answer()
        assert body == b"[12345]."
        assert head.lower().count(b"content-length:") == 1
        assert b"Content-Length: 8\r\n" in head and b'ETag: "a"\r\n' in head
        # The connection goes on: both sides agree on where the answer ended.
        await ask(user)
        await (await model.asked()).answer(b"")
        head, body = await user.read_answer()
        assert body == b"." and b"Content-Length: 1\r\n" in head


async def test_a_stream_goes_on_in_chunks(model: ModelServer) -> None:
    """Its length is not known any more: no Content-Length; each piece leaves at once, filtered."""
    async with remora(model.url, [named(Filters, "square")]) as server, client(server) as user:
        await ask(user)
        asked = await model.asked()
        await asked.send(FIXED + b"12345")
        head = await user.until(b"\r\n\r\n")
        assert b"content-length" not in head.lower()
        assert b"Transfer-Encoding: chunked\r\n" in head
        assert await user.read_chunk() == b"[12345]"
        await asked.send(b"67890")
        assert await user.read_chunk() == b"[67890]"
        assert await user.read_chunk() == b"."
        assert await user.read_chunk() == b""
        assert Probe.passed == []


@pytest.mark.parametrize("method", [b"GET", b"HEAD"])
async def test_one_that_only_looks_changes_nothing(method: bytes, model: ModelServer) -> None:
    """A stream keeps its Content-Length where no filter makes it longer or shorter."""
    async with remora(model.url, [named(Filters, "looks")]) as server, client(server) as user:
        await ask(user, method=method)
        asked = await model.asked()
        await asked.send(FIXED + (b"12345" if method == b"GET" else b""))
        head = await user.until(b"\r\n\r\n")
        assert b"Content-Length: 10\r\n" in head and b"chunked" not in head
        if method == b"GET":
            await asked.send(b"67890")
            assert await user.exactly(10) == b"1234567890"
        await ask(user)
        await (await model.asked()).answer(b"next")
        assert (await user.read_answer())[1] == b"next"


async def test_an_http10_client_reads_to_the_end_of_the_connection(model: ModelServer) -> None:
    """It knows no chunks: the body ends with the connection."""
    async with remora(model.url, [named(Filters, "square")]) as server, client(server) as user:
        await ask(user, version=b"1.0")
        asked = await model.asked()
        await asked.send(FIXED + b"12345")
        head = await user.until(b"\r\n\r\n")
        assert b"content-length" not in head.lower()
        assert b"transfer-encoding" not in head.lower()
        await asked.send(b"67890")
        assert await user.rest() == b"[12345][67890]."


@pytest.mark.parametrize("stream", [False, True], ids=["bytes", "stream"])
async def test_filters_run_in_order(stream: bool, model: ModelServer) -> None:
    """The innermost layer's first; what one says at its end goes through those behind it."""
    chain = [named(Filters, "round"), named(Filters, "square")]
    async with remora(model.url, chain) as server, client(server) as user:
        await ask(user)
        asked = await model.asked()
        if stream:
            await asked.send(SSE_HEAD)
            head = await user.until(b"\r\n\r\n")
            await asked.send(chunk(b"a"))
            assert await user.read_chunk() == b"([a])"
            await asked.send(LAST_CHUNK)
            assert await user.read_body(head) == b"(.)!"
        else:
            await asked.answer(b"a")
            assert (await user.read_answer())[1] == b"([a].)!"
    made = [one for one in Filters.made if isinstance(one, Marks)]
    assert [one.ends for one in made] == [1, 1]


async def test_a_filter_may_hold_everything_until_the_end(model: ModelServer) -> None:
    """Nothing is written for a chunk that comes out empty, an empty chunk would end the body."""
    async with remora(model.url, [named(Filters, "holds")]) as server, client(server) as user:
        await ask(user)
        asked = await model.asked()
        await asked.send(SSE_HEAD + chunk(b"1") + chunk(b"2"))
        assert b"chunked" in await user.until(b"\r\n\r\n")
        await asked.send(chunk(b"3") + LAST_CHUNK)
        assert await user.read_chunk() == b"123"
        assert await user.read_chunk() == b""


@pytest.mark.parametrize(
    ("method", "answer"),
    [
        (b"HEAD", b'HTTP/1.1 200 OK\r\nETag: "a"\r\nContent-Length: 5\r\n\r\n'),
        (b"GET", b'HTTP/1.1 304 Not Modified\r\nETag: "a"\r\nContent-Length: 5\r\n\r\n'),
        (b"GET", b'HTTP/1.1 204 No Content\r\nETag: "a"\r\n\r\n'),
    ],
    ids=["head", "304", "204"],
)
async def test_no_body_is_filtered_where_none_may_be(
    method: bytes, answer: bytes, model: ModelServer
) -> None:
    """The filters are not called, and no length is claimed that a GET would not have had."""
    async with remora(model.url, [named(Filters, "square")]) as server, client(server) as user:
        for _ in range(2):
            await ask(user, method=method)
            await (await model.asked()).send(answer)
            head = await user.until(b"\r\n\r\n")
            status = answer.partition(b"\r\n")[0]
            assert head == status + b'\r\nETag: "a"\r\n\r\n'
    assert [(one.feeds, one.ends) for one in Filters.made if isinstance(one, Marks)] == [(0, 0)] * 2


async def test_a_head_answer_without_filters_keeps_its_length(model: ModelServer) -> None:
    """What the server says of the body it did not send passes as it is."""
    async with remora(model.url, [named(Probe, "only")]) as server, client(server) as user:
        await ask(user, method=b"HEAD")
        await (await model.asked()).send(b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\n")
        assert b"Content-Length: 5\r\n" in await user.until(b"\r\n\r\n")


async def test_a_filter_that_fails_on_a_whole_body_is_a_500(
    model: ModelServer, caplog: pytest.LogCaptureFixture
) -> None:
    """Nothing has left yet: the client gets an error, the log the traceback."""
    chain = [named(Probe, "outer"), named(Filters, "bad")]
    async with remora(model.url, chain) as server, client(server) as user:
        await user.send(post("/v1/embeddings"))
        await (await model.asked()).answer(b"bad")
        head, body = await user.read_answer()
        outer = await Probe.of("outer")
    assert head.startswith(b"HTTP/1.1 500 ") and b'"code":"internal_error"' in body
    assert b"secret" not in head + body and "secret of the filter" in caplog.text
    assert isinstance(outer.outcomes[0].error, InternalError)


@pytest.mark.parametrize("at", ["first", "later", "end"])
async def test_a_filter_that_fails_amid_a_stream_ends_it(
    at: str, model: ModelServer, caplog: pytest.LogCaptureFixture
) -> None:
    """With an error event behind the last whole one; what the server still sends has no
    reader, and the outcome blames nobody else.
    """
    chain = [named(Probe, "outer"), named(Filters, "bad")]
    last = {"first": event("bad"), "later": event("bad"), "end": event("worse")}[at]
    async with remora(model.url, chain) as server, client(server) as user:
        await user.send(post("/v1/chat/completions"))
        asked = await model.asked()
        if at == "later":
            await asked.send(SSE_HEAD + chunk(event("good")))
            await user.until(event("good"))
            await asked.send(chunk(last) + chunk(event("never")) + LAST_CHUNK)
        elif at == "first":
            await asked.send(SSE_HEAD + chunk(last))
        else:
            await asked.send(SSE_HEAD + chunk(last))
            await user.until(last)
            await asked.send(LAST_CHUNK)
        rest = await user.rest()
        outer = await Probe.of("outer")
        if at == "first":
            await asked.closed()
    assert caplog.text.count("ZeroDivisionError: secret of the filter") == 1
    assert b"secret" not in rest and b"never" not in rest and rest.count(LAST_CHUNK) <= 1
    assert isinstance(outer.outcomes[0].error, InternalError)
    assert (outer.outcomes[0].status, outer.outcomes[0].cancelled) == (200, False)
    assert b'"code":"internal_error"' in rest and rest.endswith(LAST_CHUNK)


async def test_a_filter_may_refuse_with_an_error_of_its_own(
    model: ModelServer, caplog: pytest.LogCaptureFixture
) -> None:
    """A ProxyError is no bug: its code is told, amid a stream and before it, and not logged."""
    async with remora(model.url, [named(Filters, "guard")]) as server, client(server) as user:
        await user.send(post("/v1/embeddings"))
        await (await model.asked()).answer(b"bad")
        head, body = await user.read_answer()
        assert head.startswith(b"HTTP/1.1 429 ") and b"too_many_cats" in body
        await user.send(post("/v1/chat/completions"))
        asked = await model.asked()
        await asked.send(SSE_HEAD + chunk(event("good")))
        await user.until(event("good"))
        await asked.send(chunk(event("bad")))
        rest = await user.rest()
        assert b'"code":"too_many_cats"' in rest and rest.endswith(LAST_CHUNK)
    assert isinstance(Filters.made[0], Guard)
    assert not caplog.records
