"""PyPI's text-generation client, which wants huggingface_hub < 1, against the stand-in TGI.

It POSTs everything to `/` and chooses its exception by `error_type`.
"""

from __future__ import annotations

import socket
import sys
import threading
from collections.abc import Iterator
from typing import Any

import pytest

from .conftest import ROOT, Client, Proxy, Run
from .environments import TEXT_GENERATION
from .processes import Server, free_port

# The fixtures install and start servers, each under a bound of its own.
pytestmark = pytest.mark.timeout(60, func_only=True)

SCRIPT = "text_generation_client.py"


@pytest.fixture(scope="module")
def direct(run: Run, tmp_path_factory: pytest.TempPathFactory) -> Server:
    port = free_port()
    command = [sys.executable, "-m", "proxy.demo.standin", "--port", str(port)]
    log = tmp_path_factory.mktemp("standin") / "log"
    ready = f"http://127.0.0.1:{port}/health"
    return run(Server(command, port, log, ready=ready, environ={"PYTHONPATH": str(ROOT)}))


@pytest.fixture(scope="module")
def through(direct: Server, proxy: Proxy) -> Server:
    return proxy(direct.url)


@pytest.fixture
def breaking() -> Iterator[str]:
    """The URL of a TGI that says one token of a stream and then hangs up."""
    event = (
        b'data:{"index":1,"token":{"id":1,"text":"first","logprob":-0.5,"special":false},'
        b'"generated_text":null,"details":null}\n\n'
    )
    head = (
        b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n"
    )

    def serve(listener: socket.socket) -> None:
        while True:
            try:
                connection, _ = listener.accept()
            except OSError:
                return
            with connection:
                connection.settimeout(20)
                received = b""
                while b'"stream"' not in received:
                    piece = connection.recv(65536)
                    if not piece:
                        break
                    received += piece
                if received:
                    connection.sendall(head + b"%x\r\n%s\r\n" % (len(event), event))

    with socket.create_server(("127.0.0.1", 0)) as listener:
        thread = threading.Thread(target=serve, args=(listener,))
        thread.start()
        yield f"http://127.0.0.1:{listener.getsockname()[1]}"
        listener.shutdown(socket.SHUT_RDWR)
    thread.join()


def test_generate_and_generate_stream_give_what_they_give_directly(
    direct: Server, through: Server, client: Client
) -> None:
    """Every field of both answers is the server's, and the stream adds up to its text."""
    expected = client(TEXT_GENERATION, SCRIPT, direct.url, "generate", "stream")
    got: dict[str, Any] = client(TEXT_GENERATION, SCRIPT, through.url, "generate", "stream")
    assert got == expected
    assert got["generate"]["details"]["generated_tokens"] == 12
    assert len(got["stream"]) == 12
    text = "".join(event["token"]["text"] for event in got["stream"])
    assert text
    assert got["stream"][-1]["generated_text"] == text == got["generate"]["generated_text"]


def test_the_servers_refusal_is_raised_in_the_clients_own_class(
    through: Server, client: Client
) -> None:
    """A parameter out of range is the client's ValidationError, streamed or not."""
    got = client(TEXT_GENERATION, SCRIPT, through.url, "invalid")
    for part in ("invalid", "invalid_stream"):
        assert got[part]["class"] == "ValidationError", got
        assert "max_new_tokens" in got[part]["message"]


def test_remoras_own_error_is_raised_in_the_clients_own_class(proxy: Proxy, client: Client) -> None:
    """With no server behind it, remora's 502 is the client's GenerationError, with a message."""
    nowhere = proxy(f"http://127.0.0.1:{free_port()}")
    got = client(TEXT_GENERATION, SCRIPT, nowhere.url, "refused")
    assert got["refused"]["class"] == "GenerationError", got
    assert got["refused"]["message"]


def test_a_stream_that_breaks_off_is_raised_in_the_clients_own_class(
    breaking: str, proxy: Proxy, client: Client
) -> None:
    """What came is kept, and the end that is missing is told as IncompleteGenerationError."""
    got = client(TEXT_GENERATION, SCRIPT, proxy(breaking).url, "broken")
    assert got["broken"]["seen"] == ["first"]
    assert got["broken"]["class"] == "IncompleteGenerationError", got
