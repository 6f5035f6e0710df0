"""Making a connection: TCP, TLS, unix sockets, names, and what is said when it fails."""

from __future__ import annotations

import asyncio
import json
import socket
import ssl
from pathlib import Path
from typing import Any

import pytest
import trustme

from proxy.demo.child import free_port
from proxy.server import Server
from tests.conftest import Serve, UpstreamMaker, configuration
from tests.road.scripted import Peer, Upstream, answering
from tests.road.wire import Client, Message, ok, soon, until


@pytest.fixture(scope="module")
def authority() -> trustme.CA:
    """A certificate authority that only those trust who are told to."""
    return trustme.CA()


def server_side(authority: trustme.CA, name: str = "127.0.0.1") -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert(name).configure_cert(context)
    return context


def error_of(answer: Message) -> dict[str, Any]:
    told: dict[str, Any] = json.loads(answer.body)["error"]
    return told


async def test_tls(
    serve: Serve, upstream: UpstreamMaker, authority: trustme.CA, tmp_path: Path
) -> None:
    """An https endpoint whose authority the file names is served, and its connection kept."""
    authority.cert_pem.write_to_path(str(tmp_path / "ca.pem"))
    server = await upstream(answering(ok(b"secret")), context=server_side(authority))
    running = await serve(server, tls={"ca": tmp_path / "ca.pem"})
    client = await running.connect()
    for _ in range(3):
        assert (await client.exchange()).body == b"secret"
    assert server.made == 1


async def test_certificate_not_trusted(
    serve: Serve, upstream: UpstreamMaker, authority: trustme.CA, loop_watch: Any
) -> None:
    """An endpoint whose certificate nobody vouches for gets no request: 502, saying why."""
    requests = 0

    async def script(peer: Peer) -> None:
        nonlocal requests
        await peer.request()
        requests += 1

    server = await upstream(script, context=server_side(authority))
    running = await serve(server)
    client = await running.connect()
    answer = await client.exchange("POST", "/v1/completions", body=b"{}")
    assert answer.status == 502
    error = error_of(answer)
    assert error["code"] == "upstream_connect_failed"
    assert "certificate is not trusted" in error["message"]
    assert requests == 0
    await until(lambda: running.pool.open == 0)
    assert (await client.exchange()).status == 502  # the slot was given back, the client kept


async def test_certificate_of_another_name(
    serve: Serve, upstream: UpstreamMaker, authority: trustme.CA, tmp_path: Path
) -> None:
    """A trusted certificate for another host is refused, unless server_name says that host."""
    authority.cert_pem.write_to_path(str(tmp_path / "ca.pem"))
    server = await upstream(answering(ok()), context=server_side(authority, "model.test"))
    refused = await (await serve(server, tls={"ca": tmp_path / "ca.pem"})).connect()
    assert (await refused.exchange()).status == 502
    tls = {"ca": tmp_path / "ca.pem", "server_name": "model.test"}
    named = await (await serve(server, tls=tls)).connect()
    assert (await named.exchange()).status == 200


async def test_client_certificate(
    serve: Serve, upstream: UpstreamMaker, authority: trustme.CA, tmp_path: Path
) -> None:
    """An endpoint that asks for a certificate gets the one in the file."""
    authority.cert_pem.write_to_path(str(tmp_path / "ca.pem"))
    own = authority.issue_cert("remora.test")
    own.cert_chain_pems[0].write_to_path(str(tmp_path / "cert.pem"))
    own.private_key_pem.write_to_path(str(tmp_path / "key.pem"))
    context = server_side(authority)
    authority.configure_trust(context)
    context.verify_mode = ssl.CERT_REQUIRED
    server = await upstream(answering(ok()), context=context)
    tls = {name: tmp_path / f"{name}.pem" for name in ("ca", "cert", "key")}
    assert (await (await (await serve(server, tls=tls)).connect()).exchange()).status == 200
    without = await (await serve(server, tls={"ca": tmp_path / "ca.pem"})).connect()
    assert (await without.exchange()).status == 502


async def test_unix_socket(serve: Serve, upstream: UpstreamMaker, tmp_path: Path) -> None:
    """An endpoint at a unix socket is served and kept like any other."""
    server = await upstream(answering(ok(b"local")), path=str(tmp_path / "model.sock"))
    running = await serve(server)
    client = await running.connect()
    for _ in range(2):
        assert (await client.exchange()).body == b"local"
    assert server.made == 1


async def test_unix_socket_of_our_own(upstream: UpstreamMaker, tmp_path: Path) -> None:
    """Remora listens at a unix socket, and takes its file away when it stops."""
    path = tmp_path / "remora.sock"
    server = Server(configuration(await upstream(answering(ok())), listen=f"unix:{path}"))
    await server.start()
    client = await Client.connect(str(path))
    assert (await client.exchange()).status == 200
    client.close()
    await server.stop()
    assert not path.exists()


async def test_nobody_listens(serve: Serve) -> None:
    """A refused connection is 502 upstream_connect_failed, and the client may ask again."""
    running = await serve(f"http://127.0.0.1:{free_port()}")
    client = await running.connect()
    for _ in range(2):
        answer = await client.exchange("POST", "/v1/chat/completions", body=b"{}")
        assert answer.status == 502
        assert error_of(answer)["code"] == answer["x-remora-error"] == "upstream_connect_failed"
        assert "refused" in error_of(answer)["message"]


async def test_no_such_socket(serve: Serve, tmp_path: Path) -> None:
    """A unix socket that is not there is 502 as well."""
    running = await serve(f"unix:{tmp_path}/absent.sock")
    assert (await (await running.connect()).exchange()).status == 502


async def test_connect_timeout(serve: Serve, authority: trustme.CA) -> None:
    """A server that accepts and never shakes hands is given up after `connect`: 504."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen()
        running = await serve(
            f"https://127.0.0.1:{listener.getsockname()[1]}", timeouts={"connect": 0.1}
        )
        answer = await (await running.connect()).exchange("POST", "/v1/completions", body=b"{}")
        assert (answer.status, error_of(answer)["code"]) == (504, "upstream_connect_timeout")
        await until(lambda: running.pool.open == 0)


async def test_leaving_while_it_connects(serve: Serve) -> None:
    """A client that leaves while the connection is being made ends the attempt."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen()
        running = await serve(f"https://127.0.0.1:{listener.getsockname()[1]}")
        client = await running.connect()
        client.ask()
        await until(lambda: running.pool.open == 1)
        client.abort()
        await until(lambda: running.pool.open == 0, 1)


def test_names_are_resolved_anew() -> None:
    """Each new connection asks for the endpoint's address again; a kept one does not.

    On asyncio's own loop: uvloop's resolver cannot be replaced, and caches nothing either.
    """

    async def main() -> None:
        asked: list[Any] = []
        loop = asyncio.get_running_loop()
        resolve = loop.getaddrinfo

        async def counted(host: Any, port: Any, **keys: Any) -> Any:
            if host != "model.test":
                return await resolve(host, port, **keys)
            asked.append(host)
            return await resolve("127.0.0.1", ports[len(asked) - 1], **keys)

        loop.getaddrinfo = counted  # type: ignore[method-assign]

        async def once(peer: Peer) -> None:
            await peer.request()
            peer.send(ok(b"old"))
            await peer.request()
            peer.send(ok(b"old", "Connection: close"))

        old, new = Upstream(once), Upstream(answering(ok(b"new")))
        await old.start()
        await new.start()
        ports = [old.address[1], new.address[1]]
        server = Server(configuration("http://model.test"))
        await server.start()
        host, _, port = server.addresses[0].rpartition(":")
        client = await Client.connect((host, int(port)))
        assert [(await client.exchange()).body for _ in range(4)] == [b"old"] * 2 + [b"new"] * 2
        assert asked == ["model.test"] * 2
        client.close()
        await server.stop()
        await old.stop()
        await new.stop()
        await asyncio.sleep(0.01)  # asyncio closes transports a turn later

    with asyncio.Runner() as runner:
        runner.run(soon(main()))
