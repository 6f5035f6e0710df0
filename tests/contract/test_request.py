"""What a layer may do with a request: read it, change it, fork it, answer it."""

from __future__ import annotations

import pytest

from proxy import exchange
from proxy.errors import BodyTooLarge, ClientGone
from proxy.exchange import Identity, Outcome, Request, Stream

from .layers import (
    Answers,
    Asks,
    Probe,
    Reads,
    Replaces,
    Rewrites,
    named,
)  # fmt: skip
from .road import ModelServer, chunk, client, post, remora


def request(body: bytes | Stream = b"") -> Request:
    return Request(
        b"POST", b"/v1/x?key=1", [(b"Host", b"h"), (b"X-A", b"1")], body, client="10.0.0.1"
    )


# -- reading


async def test_read_takes_a_stream_into_memory_once() -> None:
    """Afterwards the body is bytes, and reading again gives the same object."""
    stream = Stream()
    for piece in (b"ab", b"cd"):
        stream.feed(piece)
    stream.end()
    asked = request(stream)
    whole = await asked.read()
    assert whole == b"abcd" and asked.body is whole
    assert await asked.read() is whole


async def test_read_is_bounded() -> None:
    """One byte over the bound raises, from a stream and from bytes; exactly the bound does not."""
    stream = Stream()
    stream.feed(b"12345")
    stream.end()
    with pytest.raises(BodyTooLarge):
        await request(stream).read(4)
    with pytest.raises(BodyTooLarge):
        await request(b"12345").read(4)
    assert await request(b"12345").read(5) == b"12345"


async def test_read_raises_what_the_body_failed_with() -> None:
    """A client that leaves in the middle of its body is no short body."""
    stream = Stream()
    stream.feed(b"12")
    stream.fail(ClientGone())
    with pytest.raises(ClientGone):
        await request(stream).read()


async def test_json_is_parsed_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """However many layers ask; what is no JSON is None, and that is remembered, too."""
    calls: list[bytes] = []
    real = exchange.orjson.loads

    def loads(text: bytes) -> object:
        calls.append(text)
        return real(text)

    monkeypatch.setattr(exchange.orjson, "loads", loads)
    asked = request(b'{"a":[1]}')
    assert asked.json() is asked.json()
    assert asked.json() == {"a": [1]}
    broken = request(b"{")
    assert broken.json() is None and broken.json() is None
    assert calls == [b'{"a":[1]}', b"{"]


async def test_a_layer_that_reads_changes_nothing_upstream(model: ModelServer) -> None:
    """Read or not, in one piece or in chunks, the server gets the bytes that the client sent."""
    async with remora(model.url, [named(Reads), named(Reads)]) as server, client(server) as user:
        await user.send(post("/v1/embeddings", b'{"input": 1}'))
        asked = await model.asked()
        assert (asked.body, asked.header(b"content-length")) == (b'{"input": 1}', b"12")
        await asked.answer(b"")
        await user.read_answer()
        await user.send(
            b"POST /x HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n" + chunk(b"[1")
        )
        await user.send(chunk(b",2]") + b"0\r\n\r\n")
        asked = await model.asked()
        assert (asked.body, asked.header(b"content-length")) == (b"[1,2]", None)
        await asked.answer(b"")
        await user.read_answer()
    assert Reads.parsed == [{"input": 1}, {"input": 1}, [1, 2], [1, 2]]


async def test_a_body_over_the_layers_bound_is_413(model: ModelServer) -> None:
    """Whether declared or in chunks; the server is not asked."""
    async with remora(model.url, [named(Reads)]) as server:
        async with client(server) as user:
            await user.send(post("/v1/embeddings", b"x" * 65))
            head, body = await user.read_answer()
            assert head.startswith(b"HTTP/1.1 413 ") and b'"code":"body_too_large"' in body
        async with client(server) as user:
            await user.send(
                b"POST /x HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n"
                + chunk(b"x" * 65)
            )
            assert (await user.read_answer())[0].startswith(b"HTTP/1.1 413 ")
    assert model.count == 0


@pytest.mark.parametrize("chunked", [False, True], ids=["declared", "chunks"])
async def test_a_changed_body_is_counted_anew(chunked: bool, model: ModelServer) -> None:
    """The server gets one right length, or right chunks, and reads the next request behind it."""
    async with remora(model.url, [named(Rewrites)]) as server, client(server) as user:
        for _ in range(2):
            if chunked:
                await user.send(
                    b"POST /x HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n"
                    + chunk(b"abc") + b"0\r\n\r\n"
                )  # fmt: skip
            else:
                await user.send(post("/x", b"abc"))
            asked = await model.asked()
            assert asked.body == b"abcabc"
            assert asked.header(b"content-length") == (None if chunked else b"6")
            await asked.answer(b"")
            await user.read_answer()


async def test_a_layer_that_reads_answers_the_clients_expectation(model: ModelServer) -> None:
    """A client that waits for 100 Continue gets it from the layer's read; the server is not
    asked to continue with a body it has.
    """
    async with remora(model.url, [named(Reads)]) as server, client(server) as user:
        await user.send(
            b"POST /x HTTP/1.1\r\nHost: h\r\nExpect: 100-continue\r\nContent-Length: 2\r\n\r\n"
        )
        assert await user.until(b"\r\n\r\n") == b"HTTP/1.1 100 Continue\r\n\r\n"
        await user.send(b"{}")
        asked = await model.asked()
        assert (asked.header(b"expect"), asked.body) == (None, b"{}")
        await asked.answer(b"")
        assert (await user.read_answer())[0].startswith(b"HTTP/1.1 200 ")


# -- forks


async def test_a_fork_has_its_own_body_headers_and_end() -> None:
    """What is done to it is not done to the client's request, and the other way round."""
    asked = request(b'{"a":1}')
    asked.tenant, asked.label = "t", "r"
    asked.identity, asked.avoid = Identity("t", priority=2), frozenset(("http://one",))
    told: list[str] = []
    asked.on_end(lambda outcome: told.append("client's"))
    assert asked.json() == {"a": 1}
    fork = asked.fork(b'{"b":2}')
    fork.on_end(lambda outcome: told.append("fork's"))
    fork.headers.append((b"X-B", b"2"))
    assert (fork.method, fork.target, fork.path) == (b"POST", b"/v1/x?key=1", b"/v1/x")
    assert (fork.tenant, fork.label, fork.client) == ("t", "r", "10.0.0.1")
    assert (fork.identity, fork.avoid) == (asked.identity, asked.avoid)
    assert fork.header(b"x-a") == b"1" and asked.header(b"x-b") is None
    assert (fork.json(), asked.json()) == ({"b": 2}, {"a": 1})
    assert fork.outcome is not asked.outcome
    fork.finish()
    assert told == ["fork's"]
    asked.finish()
    asked.finish()
    assert told == ["fork's", "client's"]


def test_a_fork_needs_a_body_in_memory() -> None:
    """Two cannot read one stream: fork() says what to do first."""
    with pytest.raises(TypeError, match="read"):
        request(Stream()).fork()
    assert request(Stream()).fork(b"x").body == b"x"


async def test_a_layer_may_ask_for_itself(model: ModelServer) -> None:
    """The server gets both requests, each with its own length; each ends once."""
    async with remora(model.url, [named(Asks)]) as server, client(server) as user:
        await user.send(post("/v1/embeddings", b"of the client", b"x-request-id: 7"))
        first = await model.asked()
        assert (first.body, first.header(b"x-request-id")) == (b"of the layer", b"7")
        await first.answer(b"1")
        second = await model.asked()
        assert (second.body, second.start) == (b"of the client", first.start)
        await second.answer(b"2")
        assert (await user.read_answer())[1] == b"2"
    (fork,) = Asks.forks
    assert len(fork.outcomes) == 1


# -- on_end


def test_on_end_runs_once_and_the_last_added_first() -> None:
    """Also where one raises: it stops no other."""
    asked = request()
    told: list[tuple[str, Outcome]] = []

    def bad(outcome: Outcome) -> None:
        told.append(("bad", outcome))
        raise RuntimeError("this on_end always fails")

    asked.on_end(lambda outcome: told.append(("first", outcome)))
    asked.on_end(bad)
    asked.on_end(lambda outcome: told.append(("last", outcome)))
    asked.finish()
    asked.finish()
    assert told == [(name, asked.outcome) for name in ("last", "bad", "first")]


async def test_a_layer_may_answer_by_itself(model: ModelServer) -> None:
    """Its length is counted, the connection goes on, the server hears nothing."""
    chain = [named(Probe, "outer"), named(Answers)]
    async with remora(model.url, chain) as server, client(server) as user:
        for _ in range(2):
            await user.send(post("/v1/embeddings"))
            head, body = await user.read_answer()
            assert body == b"from the layer"
            assert head.startswith(b"HTTP/1.1 200 OK\r\n")
            assert b"content-type: text/plain\r\nContent-Length: 14\r\n" in head
    assert model.count == 0
    assert [one.outcomes[0].bytes_sent for one in Probe.passed] == [14, 14]


async def test_a_layer_may_put_another_body_in_place(model: ModelServer) -> None:
    """The server's Content-Length does not survive its body."""
    async with remora(model.url, [named(Replaces)]) as server, client(server) as user:
        for _ in range(2):
            await user.send(post("/v1/embeddings"))
            await (await model.asked()).answer(b"a longer body than that of the layer")
            head, body = await user.read_answer()
            assert body == b"of the layer"
            assert head.lower().count(b"content-length") == 1
