"""A real Triton, asked directly and through remora, must not be told apart."""

from __future__ import annotations

import gzip
import struct
import tempfile
from collections.abc import Iterator
from pathlib import Path

import orjson
import pytest

from .conftest import HERE, Client, Install, Proxy, Run
from .environments import TRITON
from .models import triton_environ
from .processes import Server, free_port
from .wire import Answer, exchange, request

# The fixtures install and start servers, each under a bound of its own.
pytestmark = pytest.mark.timeout(60, func_only=True)

INFER = "/v2/models/echo/infer"
JSON = (
    b'{"inputs":[{"name":"text","shape":[2,1],"datatype":"BYTES","data":["hello","wor\\nld"]},'
    b'{"name":"numbers","shape":[2,3],"datatype":"FP32","data":[1,2,3,0.1,1e20,-0.5]}]}'
)


GENERATE = b'{"text":"hello","numbers":[1,2,3]}'
ROWS = (b"hello", b"\x00\xff\r\n\r\n")


def binary_infer(*rows: bytes) -> bytes:
    """A request of the binary tensor extension: a JSON head, then the tensors' bytes."""
    text = tensor(*rows)
    numbers = struct.pack("<3f", 0.1, 1e20, -0.5) * len(rows)
    head = orjson.dumps(
        {
            "inputs": [
                {"name": "text", "shape": [len(rows), 1], "datatype": "BYTES",
                 "parameters": {"binary_data_size": len(text)}},
                {"name": "numbers", "shape": [len(rows), 3], "datatype": "FP32",
                 "parameters": {"binary_data_size": len(numbers)}},
            ],
            "parameters": {"binary_data_output": True},
        }
    )  # fmt: skip
    told = (("Inference-Header-Content-Length", str(len(head))),)
    return request("POST", INFER, head + text + numbers, told)


def tensor(*rows: bytes) -> bytes:
    """BYTES elements on the wire: each behind its length."""
    return b"".join(struct.pack("<I", len(row)) + row for row in rows)


def in_chunks(body: bytes, trailers: bytes = b"") -> bytes:
    """An infer request framed in chunks of 50 bytes (RFC 9112 section 7.1)."""
    head = request("POST", INFER, headers=(("Transfer-Encoding", "chunked"),))
    pieces = [body[start : start + 50] for start in range(0, len(body), 50)]
    framed = b"".join(b"%x\r\n%b\r\n" % (len(piece), piece) for piece in pieces)
    return head.replace(b"Content-Length: 0\r\n", b"") + framed + b"0\r\n" + trailers + b"\r\n"


GZIPPED = gzip.compress(JSON, mtime=0)

EXCHANGES = {
    "JSON": request("POST", INFER, JSON, (("Content-Type", "application/json"),)),
    "binary tensors": binary_infer(*ROWS),
    "8 MB each way": binary_infer(b"x" * 8_000_000),
    "chunked": in_chunks(JSON),
    "events": request("POST", "/v2/models/echo/generate_stream", GENERATE),
    "gzip both ways": request(
        "POST", INFER, GZIPPED, (("Content-Encoding", "gzip"), ("Accept-Encoding", "gzip"))
    ),
    "deflate back": request("POST", INFER, JSON, (("Accept-Encoding", "deflate"),)),
    "bad JSON": request("POST", INFER, b'{"inputs": ['),
    "no such input": request("POST", INFER, b'{"inputs":[]}'),
    "unknown model": request("POST", "/v2/models/nobody/infer", JSON),
    "unknown model's metadata": request("GET", "/v2/models/nobody"),
    "unknown path": request("GET", "/v2/nothing/here"),
    "a path with dots": request("GET", "/v2/models/../models//echo"),
    "an escaped path": request("GET", "/v2/models/%65cho?a=%2F"),
    "live": request("GET", "/v2/health/live"),
    "ready": request("GET", "/v2/health/ready"),
    "server metadata": request("GET", "/v2"),
    "model metadata": request("GET", "/v2/models/echo/versions/1"),
    "model ready": request("GET", "/v2/models/echo/ready"),
    "wrong method": request("GET", INFER),
}


@pytest.fixture(scope="module")
def direct(
    install: Install, run: Run, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Server]:
    port = free_port()
    python = install(TRITON)
    command = [str(python), str(HERE / "servers" / "triton_server.py")]
    command += ["--port", str(port), "--grpc-port", str(free_port())]
    command += ["--metrics-port", str(free_port())]
    # It copies 200 MB of itself there, which pytest's kept folders should not hold.
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as home:
        environ = triton_environ(python, Path(home))
        log = tmp_path_factory.mktemp("triton") / "log"
        ready = f"http://127.0.0.1:{port}/v2/models/echo/ready"
        with Server(command, port, log, ready=ready, environ=environ) as server:
            yield server


@pytest.fixture(scope="module")
def through(direct: Server, proxy: Proxy) -> Server:
    return proxy(direct.url)


def test_the_client_gets_through_remora_what_it_gets_directly(
    direct: Server, through: Server, client: Client
) -> None:
    """JSON and binary tensors, BYTES and FP32, plain, gzip and deflate: the same results."""
    expected = client(TRITON, "triton_client.py", f"127.0.0.1:{direct.port}")
    got = client(TRITON, "triton_client.py", f"127.0.0.1:{through.port}")
    assert got == expected
    assert got["live"] and got["ready"] and got["model_ready"]
    assert not got["unknown_ready"]
    assert got["model"]["name"] == "echo"
    assert len(got["forms"]) == 36
    wanted = struct.pack("<9f", 0, 3, -4.5, 6, 2e-20, 2e20, 0.2, 0.4, 0.6).hex()
    for form, result in got["forms"].items():
        assert result["upper"] == ["HELLO", 'A LINE\nWITH "QUOTES"', "GRüN"], form
        assert result["doubled"] == wanted, form
        assert result["response"]["id"] == "one", form
    assert got["unknown"]["status"] == "404"
    assert got["over_the_batch_limit"]["status"] == "400"


@pytest.mark.parametrize("name", EXCHANGES)
def test_an_answer_is_byte_for_byte_the_servers(direct: Server, through: Server, name: str) -> None:
    """Status line, header lines in their order and case, and body are what Triton sent."""
    expected = exchange(direct.port, EXCHANGES[name])
    got = exchange(through.port, EXCHANGES[name])
    assert got == expected


def answer_to(server: Server, name: str) -> Answer:
    return exchange(server.port, EXCHANGES[name])


def test_an_unknown_model_is_told_in_tritons_own_words(through: Server) -> None:
    """The 404 keeps its text/plain and its message: remora renders only errors of its own."""
    answer = answer_to(through, "unknown model")
    assert answer.status == 404
    assert (answer.header(b"content-type") or b"").strip() == b"text/plain"
    assert orjson.loads(answer.body)["error"].startswith("Request for unknown model")


def test_compressed_bodies_stay_compressed(through: Server) -> None:
    """gzip arrives as gzip and leaves as gzip: remora opens neither."""
    answer = answer_to(through, "gzip both ways")
    assert answer.status == 200
    assert (answer.header(b"content-encoding") or b"").strip() == b"gzip"
    plain = orjson.loads(answer_to(through, "JSON").body)
    assert orjson.loads(gzip.decompress(answer.body)) == plain
    assert plain["outputs"][0]["data"] == ["HELLO", "WOR\nLD"]


def test_binary_tensors_come_back_bit_for_bit(through: Server) -> None:
    """Bytes that look like the end of a head, and floats, cross in both directions unharmed."""
    answer = answer_to(through, "binary tensors")
    length = int(answer.header(b"inference-header-content-length") or b"0")
    tensors = answer.body[length:]
    assert tensors == tensor(*(row.upper() for row in ROWS)) + struct.pack(
        "<6f", *(0.2, 2e20, -1) * len(ROWS)
    )


def test_trailers_spoil_the_connection_for_nobody_else(through: Server) -> None:
    """Triton reads what follows a request's trailers wrongly, so no other request may follow."""
    for _ in range(3):
        sent = exchange(through.port, in_chunks(JSON, trailers=b"X-Checksum: 1\r\n"))
        assert sent.status == 200
        assert answer_to(through, "live").status == 200
