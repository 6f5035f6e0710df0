"""The keep-alive race: a kept connection that dies before one byte of an answer.

The request is sent again, once, on a fresh connection (knative/serving#12414), where that cannot
make it take effect twice (RFC 9110 section 9.2.2).
"""

from __future__ import annotations

import asyncio
import socket

import pytest

from proxy.exchange import Request
from proxy.upstream.body import REPLAY_BYTES
from tests.conftest import Running, Serve, UpstreamMaker
from tests.road.scripted import Peer, Upstream
from tests.road.wire import LAST_CHUNK, Client, Message, chunk, head, ok, until


class Racing:
    """An upstream whose first connection answers once, then dies as the second request comes."""

    def __init__(self, dying: bytes = b"", dead: int = 1) -> None:
        self.dying = dying
        """What it still says before it dies."""
        self.dead = dead
        """How many connections, from the first, die at their second request; -1: all."""
        self.requests: list[Message] = []

    async def script(self, peer: Peer) -> None:
        while True:
            message = await peer.head()
            if message.target != b"/first" and (peer.number < self.dead or self.dead < 0):
                if self.dying:
                    peer.send(self.dying)
                    await peer.flush()
                return
            if message.chunked:
                message.body = await peer.chunks()
                message.trailers = peer.trailers
            elif message["content-length"]:
                message.body = await peer.exactly(int(message["content-length"] or 0))
            self.requests.append(message)
            peer.send(ok(b"%d" % peer.number))


async def warm(serve: Serve, server: Upstream, **keys: object) -> tuple[Running, Client]:
    """A client whose first exchange has left a kept connection behind."""
    running = await serve(server, **keys)
    client = await running.connect()
    assert (await client.exchange("GET", "/first")).body == b"0"
    return running, client


@pytest.mark.parametrize(
    ("method", "target"), [("GET", "/again"), ("PUT", "/again"), ("POST", "/v1/embeddings")]
)
async def test_sent_again(serve: Serve, upstream: UpstreamMaker, method: str, target: str) -> None:
    """A request whose kept connection died is answered on a fresh one, byte for byte the same."""
    racing = Racing()
    server = await upstream(racing.script)
    _, client = await warm(serve, server)
    body = b"prompt" if method != "GET" else None
    answer = await client.exchange(method, target, "X-A: b", body=body)
    assert (answer.status, answer.body) == (200, b"1")
    assert server.made == 2
    again = racing.requests[-1]
    assert again.first_line == f"{method} {target} HTTP/1.1".encode()
    assert (again["x-a"], again.body) == ("b", body or b"")


async def test_not_what_may_take_effect_twice(serve: Serve, upstream: UpstreamMaker) -> None:
    """A POST that no API knows, and that the upstream may have read before it died, gets 502."""
    server = await upstream(Racing().script)
    _, client = await warm(serve, server)
    answer = await client.exchange("POST", "/pay", body=b"x")
    assert (answer.status, answer["x-remora-error"]) == (502, "upstream_closed")
    assert server.made == 1


async def test_not_a_stream_that_may_take_effect_twice(
    serve: Serve, upstream: UpstreamMaker
) -> None:
    """Nor a POST whose body is not here: what it asks for is not known."""

    async def script(peer: Peer) -> None:
        await peer.request()
        peer.send(ok(b"0"))
        await peer.head()
        await peer.exactly(3)

    server = await upstream(script)
    _, client = await warm(serve, server)
    client.send(head("POST /v1/responses HTTP/1.1", "Host: h", "Content-Length: 6"))
    client.send(b"one")
    assert (await client.answer()).status == 502
    assert server.made == 1


@pytest.mark.parametrize("how", ["closed before", "reset"])
async def test_what_nobody_read_is_sent_again(serve: Serve, how: str) -> None:
    """A POST that came behind the upstream's end, or that it left unread, had no effect."""
    loop = asyncio.get_running_loop()

    async def answered(body: bytes) -> tuple[socket.socket, bytes]:
        taken, _ = await loop.sock_accept(listener)
        taken.setblocking(False)
        got = await loop.sock_recv(taken, 65536)
        await loop.sock_sendall(taken, ok(body))
        return taken, got

    with socket.create_server(("127.0.0.1", 0)) as listener:
        listener.setblocking(False)
        running = await serve(f"http://127.0.0.1:{listener.getsockname()[1]}")
        pay = [Request(b"POST", b"/pay", [(b"Host", b"h")], b"") for _ in range(2)]
        first = asyncio.create_task(answered(b"0"))
        assert (await running.pool.send(pay[0])).body == b"0"
        taken, _ = await first
        second = asyncio.create_task(answered(b"1"))
        await asyncio.sleep(0)
        if how == "reset":
            sending = asyncio.create_task(running.pool.send(pay[1]))
            await loop.sock_recv(taken, 4)
            taken.close()
        else:
            taken.close()  # and no turn of the loop stands between this and what is sent now
            sending = running.pool.send(pay[1])
        assert (await sending).body == b"1"
        taken, got = await second
        taken.close()
    assert got.startswith(b"POST /pay HTTP/1.1\r\n") and got.count(b"POST") == 1
    assert running.pool.opened == 2


async def test_streamed_body_is_sent_again(serve: Serve, upstream: UpstreamMaker) -> None:
    """What was streamed upstream in vain is kept, up to a bound, and streamed again."""
    racing = Racing()
    server = await upstream(racing.script)
    _, client = await warm(serve, server)
    client.send(head("PUT /again HTTP/1.1", "Host: h", "Transfer-Encoding: chunked"))
    client.send(chunk(b"one"))
    await until(lambda: server.made == 2)
    client.send(chunk(b"two") + b"0\r\nX-Sum: 6\r\n\r\n")
    assert (await client.answer()).body == b"1"
    assert racing.requests[-1].body == b"onetwo"
    assert racing.requests[-1]["transfer-encoding"] == "chunked"
    assert racing.requests[-1].trailers == [(b"X-Sum", b"6")]


async def test_body_that_has_ended_is_sent_again(serve: Serve, upstream: UpstreamMaker) -> None:
    """A streamed body whose end was sent before the connection died goes again with its end."""
    racing = Racing()
    server = await upstream(racing.script)
    _, client = await warm(serve, server)
    client.send(head("PUT /again HTTP/1.1", "Host: h", "Content-Length: 6"))
    client.send(b"one")
    await client.flush()
    client.send(b"two")
    assert (await client.answer()).body == b"1"
    assert racing.requests[-1].body == b"onetwo"


async def test_body_over_the_bound_is_not(serve: Serve, upstream: UpstreamMaker) -> None:
    """A streamed body of which too much was sent gets 502: no half of it is sent twice."""
    size = 4 * REPLAY_BYTES

    async def script(peer: Peer) -> None:
        await peer.request()
        peer.send(ok(b"0"))
        await peer.head()
        await peer.exactly(2 * REPLAY_BYTES)

    server = await upstream(script)
    _, client = await warm(serve, server)
    client.send(head("PUT /again HTTP/1.1", "Host: h", f"Content-Length: {size}"))
    client.send(b"x" * (2 * REPLAY_BYTES))
    answer = await client.answer()
    assert (answer.status, answer["x-remora-error"]) == (502, "upstream_closed")
    assert server.made == 1
    await client.ended()


@pytest.mark.parametrize(
    "said", [b"H", b"HTTP/1.1 100 Continue\r\n\r\n", b"HTTP/1.1 200 OK\r\nContent-Le"],
    ids=["one byte", "an interim answer", "half a head"],
)  # fmt: skip
async def test_not_after_a_byte(serve: Serve, upstream: UpstreamMaker, said: bytes) -> None:
    """Once one byte of an answer came the upstream has acted: 502, and nothing is sent again."""
    racing = Racing(dying=said)
    server = await upstream(racing.script)
    _, client = await warm(serve, server)
    answer = await client.exchange("PUT", "/again", body=b"x")
    assert (answer.status, answer["x-remora-error"]) == (502, "upstream_closed")
    assert server.made == 1


async def test_not_on_a_fresh_connection(serve: Serve, upstream: UpstreamMaker) -> None:
    """A fresh connection that dies is the upstream's failure: 502, and nothing is sent again."""

    async def script(peer: Peer) -> None:
        await peer.request()

    server = await upstream(script)
    client = await (await serve(server)).connect()
    answer = await client.exchange("PUT", "/", body=b"x")
    assert (answer.status, answer["x-remora-error"]) == (502, "upstream_closed")
    assert server.made == 1


async def test_not_twice(serve: Serve, upstream: UpstreamMaker) -> None:
    """A request that fails on the fresh connection as well gets 502 after two tries."""
    racing = Racing(dead=-1)
    server = await upstream(racing.script)
    _, client = await warm(serve, server)
    answer = await client.exchange("PUT", "/again", body=b"x")
    assert (answer.status, answer["x-remora-error"]) == (502, "upstream_closed")
    assert server.made == 2


async def test_fresh_means_fresh(serve: Serve, upstream: UpstreamMaker) -> None:
    """With other kept connections about, all of them dead, the second try takes none of them."""
    together = asyncio.Barrier(3)

    async def script(peer: Peer) -> None:
        while True:
            message = await peer.request()
            if message.target == b"/again" and peer.number < 3:
                return
            if message.target == b"/first":
                await together.wait()
            peer.send(ok(b"%d" % peer.number))

    server = await upstream(script)
    running = await serve(server, pool={"max_connections": 3})
    clients = [await running.connect() for _ in range(3)]
    await asyncio.gather(*(client.exchange("GET", "/first") for client in clients))
    assert running.pool.idle == 3
    for client in clients:
        assert (await client.exchange("PUT", "/again", body=b"x")).status == 200
    assert running.pool.open <= 3


async def test_fresh_means_fresh_when_all_are_busy(serve: Serve, upstream: UpstreamMaker) -> None:
    """The second try waits for a slot behind others, but is not sent on a kept connection."""
    die, together = asyncio.Event(), asyncio.Barrier(2)
    finish = {b"/busy": asyncio.Event(), b"/behind": asyncio.Event(), b"/last": asyncio.Event()}

    async def script(peer: Peer) -> None:
        while True:
            message = await peer.request()
            if message.target == b"/again":
                if peer.number < 2:
                    await die.wait()
                    return
                peer.send(ok(b"fresh"))
            elif message.target == b"/first":
                await together.wait()
                peer.send(ok())
            else:
                await finish[message.target].wait()
                peer.send(ok(b"waited"))

    server = await upstream(script)
    running = await serve(server, pool={"max_connections": 2})
    again, other = await running.connect(), await running.connect()
    await asyncio.gather(again.exchange("GET", "/first"), other.exchange("GET", "/first"))
    again.ask("PUT", "/again", body=b"x")
    other.ask("GET", "/busy")
    await until(lambda: running.pool.idle == 0)
    behind = await running.connect()
    behind.ask("GET", "/behind")
    await until(lambda: running.pool.waiting == 1)
    die.set()  # the slot goes to the one who waited; the second try waits, too
    await until(lambda: server.made == 3 and running.pool.waiting == 1)
    last = await running.connect()
    last.ask("GET", "/last")
    await until(lambda: running.pool.waiting == 2)
    finish[b"/busy"].set()
    assert (await other.answer()).body == b"waited"
    assert (await again.answer()).body == b"fresh"
    assert running.pool.open == 2
    for event in finish.values():
        event.set()
    for client in (behind, last):
        assert (await client.answer()).body == b"waited"
    assert running.pool.open == 2


async def test_closed_while_idle(serve: Serve, upstream: UpstreamMaker) -> None:
    """A connection that the upstream closed while it was idle is forgotten, not tried."""

    async def script(peer: Peer) -> None:
        await peer.request()
        peer.send(ok(b"%d" % peer.number))

    server = await upstream(script)
    running = await serve(server)
    client = await running.connect()
    for number in range(5):
        assert (await client.exchange("POST", "/", body=b"x")).body == b"%d" % number
        await until(lambda: running.pool.open == 0)


async def test_client_leaves_between_the_tries(serve: Serve, upstream: UpstreamMaker) -> None:
    """A client gone by the time of the second try leaves no connection behind."""
    accepted = asyncio.Event()

    async def script(peer: Peer) -> None:
        if peer.number == 0:
            await peer.request()
            peer.send(ok())
            await peer.head()
            await accepted.wait()
            return
        await peer.ended()

    server = await upstream(script)
    running = await serve(server)
    client = await running.connect()
    await client.exchange()
    client.send(head("PUT /again HTTP/1.1", "Host: h", "Transfer-Encoding: chunked"))
    client.send(chunk(b"one"))
    await until(lambda: running.pool.idle == 0)
    client.send(LAST_CHUNK)
    accepted.set()
    client.abort()
    await until(lambda: running.pool.open == 0)
