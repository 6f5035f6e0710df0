"""What a client is told of an upstream that fails: its name, and never where it is."""

from __future__ import annotations

import logging
import ssl
from pathlib import Path

import orjson
import pytest
import trustme

from proxy.demo.child import free_port
from proxy.upstream.answer import MAX_INTERIM
from tests.conftest import Running, Serve, UpstreamMaker
from tests.road.scripted import Peer, Script
from tests.road.wire import SSE_HEAD, Gone, chunk, head, ok


def gives(raw: bytes) -> Script:
    """A server that answers so, and closes."""

    async def script(peer: Peer) -> None:
        await peer.request()
        peer.send(raw)

    return script


async def hangs(peer: Peer) -> None:
    await peer.request()
    await peer.exactly(1)


async def resets(peer: Peer) -> None:
    await peer.request()
    peer.abort()
    raise Gone("reset")


async def once(peer: Peer) -> None:
    """Answers the first request on each connection, and nothing to the second."""
    await peer.request()
    peer.send(ok())
    await peer.request()


ANSWERED = {
    "closes": (gives(b""), "closed the connection without an answer"),
    "resets": (resets, "closed the connection without an answer"),
    "hangs": (hangs, "sent no answer in time"),
    "no http": (gives(b"SSH-2.0-OpenSSH_9.6\r\n"), "sent bad HTTP: "),
    "version": (gives(b"HTTP/2.0 200 OK\r\n\r\n"), "sent HTTP/2.0"),
    "length": (gives(head("HTTP/1.1 200 OK", "Content-Length: 01")), "a malformed Content-Length"),
    "coding": (gives(head("HTTP/1.1 200 OK", "Transfer-Encoding: gzip, chunked")),
               "a Transfer-Encoding not chunked"),
    "both": (gives(head("HTTP/1.1 200 OK", "Transfer-Encoding: chunked", "Content-Length: 1")),
             "sent "),
    "interim": (gives(b"HTTP/1.1 103 Early\r\n\r\n" * (MAX_INTERIM + 1)), "interim answers"),
}  # fmt: skip


async def told(running: Running, caplog: pytest.LogCaptureFixture, where: str) -> str:
    """The message to a client, which holds no address in any part; the log has it."""
    client = await running.connect()
    answer = await client.exchange("POST", "/v1/completions", body=b"{}")
    assert answer.status in (502, 504)
    names = b"\r\n".join(name + value for name, value in answer.headers)
    place = where.removeprefix("http://").removeprefix("https://").removeprefix("unix:")
    for part in (place, "127.0.0.1", ".invalid", "model.test"):
        assert part.encode() not in answer.body + names
    (line,) = [one.getMessage() for one in caplog.records if one.name == "remora.access"]
    assert f"detail={where}" in line or f'detail="{where}: ' in line
    message: str = orjson.loads(answer.body)["error"]["message"]
    assert "the upstream `default`" in message
    return message


@pytest.fixture(autouse=True)
def _logged(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, "remora.access")


LOGGED = [{"middleware.access_log:AccessLog": {}}]


@pytest.mark.parametrize(("script", "what"), ANSWERED.values(), ids=ANSWERED)
async def test_who_answers_badly(
    script: Script, what: str, serve: Serve, upstream: UpstreamMaker,
    caplog: pytest.LogCaptureFixture,
) -> None:  # fmt: skip
    """The message names the upstream as the file does, and says what it did; the log line has
    the endpoint's address.
    """
    server = await upstream(script)
    timeouts = {"first_byte": 0.05} if script is hangs else {}
    running = await serve(server, chain=LOGGED, timeouts=timeouts)
    assert what in await told(running, caplog, server.url)


async def test_who_cannot_be_reached(
    serve: Serve, caplog: pytest.LogCaptureFixture, tmp_path: Path
) -> None:
    """A port where nobody listens, a name that nobody has, a socket that is not there."""
    for where, why in (
        (f"http://127.0.0.1:{free_port()}", "Connection refused"),
        ("http://nowhere.invalid:8000", "its name was not found"),
        (f"unix:{tmp_path}/absent.sock", "No such file or directory"),
    ):
        caplog.clear()
        running = await serve(where, chain=LOGGED, timeouts={"connect": 20})
        message = await told(running, caplog, where)
        assert message == f"cannot connect to the upstream `default`: {why}"


@pytest.mark.parametrize(
    ("kind", "why"),
    [
        ("stranger", "its certificate is not trusted"),
        ("other name", "its certificate is not trusted"),
        ("plain", "the TLS handshake failed"),
    ],
)
async def test_who_cannot_be_trusted(
    kind: str, why: str, serve: Serve, upstream: UpstreamMaker, caplog: pytest.LogCaptureFixture,
    tmp_path: Path,
) -> None:  # fmt: skip
    """Nor does a certificate's name reach a client."""
    authority = trustme.CA()
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    name = "model.test" if kind == "other name" else "127.0.0.1"
    authority.issue_cert(name).configure_cert(context)
    authority.cert_pem.write_to_path(str(tmp_path / "ca.pem"))
    tls = {"ca": tmp_path / "ca.pem"} if kind == "other name" else {}

    async def never(peer: Peer) -> None:
        peer.send(b"220 mail.test\r\n")
        await peer.ended()

    server = await upstream(never, context=None if kind == "plain" else context)
    where = server.url.replace("http:", "https:")
    message = await told(await serve(where, tls=tls, chain=LOGGED), caplog, where)
    logged = {"stranger": "certificate", "other name": "mismatch", "plain": "SSL"}[kind]
    assert logged in caplog.text
    assert message == f"cannot connect to the upstream `default`: {why}"


async def test_a_stream_that_breaks_off(
    serve: Serve, upstream: UpstreamMaker, caplog: pytest.LogCaptureFixture
) -> None:
    """The error event at its end names the upstream, too; the log has the address."""
    server = await upstream(gives(SSE_HEAD + chunk(b"data: {}\n\n")))
    client = await (await serve(server, chain=LOGGED)).connect()
    answer = await client.exchange("POST", "/v1/completions", body=b"{}")
    assert b"the upstream `default` closed the connection amid its answer" in answer.body
    assert b"127.0.0.1" not in answer.body
    assert f"detail={server.url}" in caplog.text


async def test_a_stored_answer_that_cannot_be_validated(
    serve: Serve, upstream: UpstreamMaker, caplog: pytest.LogCaptureFixture
) -> None:
    """The cache tells of it in its own words; the log still has the address."""
    fields = (
        "Cache-Control: max-age=9, must-revalidate",
        "Age: 9",
        'ETag: "a"',
        "Connection: close",
    )
    server = await upstream(gives(ok(b"old", *fields)))
    chain = [*LOGGED, {"middleware.cache:Cache": {"honor_upstream": True, "share": "public"}}]
    client = await (await serve(server, chain=chain)).connect()
    assert (await client.exchange("GET", "/v1/models")).status == 200
    assert server._server is not None
    server._server.close()
    answer = await client.exchange("GET", "/v1/models")
    assert (answer.status, answer["x-remora-error"]) == (504, "not_validated")
    assert b"127.0.0.1" not in answer.body
    assert f'detail="{server.url}: ' in caplog.text


async def test_a_kept_connection_that_dies_with_its_server(
    serve: Serve, upstream: UpstreamMaker
) -> None:
    """A request that a kept connection may have carried was sent, whatever the fresh one says:
    `upstream_closed`, for nobody to repeat what must not be.
    """
    server = await upstream(once)
    client = await (await serve(server)).connect()
    assert (await client.exchange()).status == 200
    assert server._server is not None
    server._server.close()
    answer = await client.exchange("POST", "/jobs", body=b"{}")
    assert (answer.status, answer["x-remora-error"]) == (502, "upstream_closed")
