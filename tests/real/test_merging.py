"""Real servers behind `aggregate`: what a client is told is what the server tells it alone."""

from __future__ import annotations

import json
import sys
import tempfile
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from itertools import chain
from pathlib import Path
from threading import Barrier
from typing import Any

import orjson
import pytest

from .conftest import ROOT, Client, Install
from .environments import TRITON
from .models import MODELS, Model
from .processes import Server, free_port
from .test_triton import tensor
from .wire import Answer, exchange, request

# The fixtures install and start servers, each under a bound of its own.
pytestmark = pytest.mark.timeout(60, func_only=True)

CLIENTS = 32
EACH = 2
JSON = (("Content-Type", "application/json"),)


@pytest.fixture(scope="module", params=MODELS)
def model(request: pytest.FixtureRequest) -> Model:
    return MODELS[request.param]


@pytest.fixture(scope="module")
def direct(model: Model, install: Install) -> Iterator[Server]:
    python = Path(sys.executable) if model.environment is None else install(model.environment)
    # Triton copies 200 MB of itself there, which pytest's kept folders should not hold.
    with (
        tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as folder,
        model.start(python, Path(folder)) as server,
    ):
        yield server


@pytest.fixture(scope="module")
def admin(direct: Server) -> int:
    """The port that remora tells its numbers on."""
    return free_port()


@pytest.fixture(scope="module")
def through(
    direct: Server, admin: int, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Server]:
    folder = tmp_path_factory.mktemp("remora")
    port = free_port()
    file = {
        "listen": f"127.0.0.1:{port}",
        "admin": f"127.0.0.1:{admin}",
        "upstreams": {"default": {"endpoints": [direct.url]}},
        "chain": ["aggregate"],
    }
    path = folder / "remora.yaml"
    path.write_text(json.dumps(file))
    command = [sys.executable, "-m", "proxy", "serve", "-c", str(path)]
    with Server(command, port, folder / "log", environ={"PYTHONPATH": str(ROOT)}) as server:
        yield server


def at_once(server: Server, rows: Sequence[Sequence[bytes]]) -> list[list[Answer]]:
    """Each row's requests one after the other, all rows at the same time."""
    ready = Barrier(len(rows))

    def work(row: Sequence[bytes]) -> list[Answer]:
        ready.wait(10)
        return [exchange(server.port, one) for one in row]

    with ThreadPoolExecutor(len(rows)) as pool:
        return list(pool.map(work, rows))


def asks(model: Model, thing: Any) -> bytes:
    return request("POST", model.path, orjson.dumps(model.one(thing)), JSON)


def things(model: Model) -> list[list[Any]]:
    """What each of CLIENTS asks about."""
    return [[model.thing(EACH * one + turn) for turn in range(EACH)] for one in range(CLIENTS)]


def furthest(got: Answer, wanted: Answer, model: Model) -> float:
    """The largest difference between two numbers in the same place."""
    told, own = (model.read(orjson.loads(answer.body)) for answer in (got, wanted))
    assert [len(row) for row in told] == [len(row) for row in own]
    pairs = zip((x for row in told for x in row), (x for row in own for x in row), strict=True)
    return max(abs(one - other) for one, other in pairs)


def size(answer: Answer) -> int:
    """How many things the call had."""
    told = answer.header(b"x-remora-batch")
    assert told is not None
    return int(told.partition(b"size=")[2].partition(b";")[0])


def test_a_shared_call_gives_each_client_its_own_answer(
    model: Model, direct: Server, through: Server
) -> None:
    """32 clients at once get status, shape and numbers that the server gives them alone, and most
    calls were shared.
    """
    rows = [[asks(model, thing) for thing in row] for row in things(model)]
    told = at_once(through, rows)
    sizes = [size(answer) for row in told for answer in row]
    assert max(sizes) > 1
    for row, answers in zip(rows, told, strict=True):
        for one, answer in zip(row, answers, strict=True):
            wanted = exchange(direct.port, one)
            assert wanted.status == 200, wanted.body
            assert answer.status_line == wanted.status_line
            assert furthest(answer, wanted, model) <= model.tolerance


def test_one_client_that_asks_for_nonsense_is_the_only_one_that_is_refused(
    model: Model, direct: Server, through: Server
) -> None:
    """It gets the server's own refusal; the other 31 get their answers."""
    rows = [[asks(model, thing) for thing in row] for row in things(model)]
    rows[7] = [asks(model, model.bad)] * EACH
    told = at_once(through, rows)
    refused = exchange(direct.port, rows[7][0])
    assert refused.status >= 400
    for answer in told.pop(7):
        assert (answer.status_line, answer.body) == (refused.status_line, refused.body)
    assert {answer.status for row in told for answer in row} == {200}


def binary(text: str) -> bytes:
    """An infer request with a binary tensor both ways."""
    data = tensor(text.encode())
    head = orjson.dumps(
        {
            "inputs": [
                {"name": "text", "shape": [1, 1], "datatype": "BYTES",
                 "parameters": {"binary_data_size": len(data)}},
            ],
            "parameters": {"binary_data_output": True},
        }
    )  # fmt: skip
    told = (("Inference-Header-Content-Length", str(len(head))),)
    return request("POST", MODELS["triton"].path, head + data, told)


@pytest.mark.parametrize("model", ["triton"], scope="module", indirect=True)
def test_binary_tensors_are_shared_and_taken_apart(
    model: Model, direct: Server, through: Server
) -> None:
    """Each client's bytes are those of its own row, with the lengths of its own answer."""
    texts = things(model)
    told = at_once(through, [[binary(text) for text in row] for row in texts])
    assert max(size(answer) for row in told for answer in row) > 1
    for text, answer in zip(chain(*texts), chain(*told), strict=True):
        wanted = exchange(direct.port, binary(text))
        name = b"inference-header-content-length"
        length = int(wanted.header(name) or 0)
        assert int(answer.header(name) or 0) == length > 0
        assert orjson.loads(answer.body[:length]) == orjson.loads(wanted.body[:length])
        rows = [memoryview(one.body)[length:].cast("f") for one in (answer, wanted)]
        assert len(rows[0]) == len(rows[1]) == 384
        assert max(abs(x - y) for x, y in zip(*rows, strict=True)) <= model.tolerance


@pytest.mark.parametrize("model", ["triton"], scope="module", indirect=True)
def test_tritonclients_share_calls_and_do_not_notice(
    direct: Server, through: Server, admin: int, client: Client
) -> None:
    """Several at once, in JSON and in binary, in and out: each has its own id, and the vector that
    it gets from the server itself.
    """
    before = merged(admin)
    got, wanted = (
        client(TRITON, "triton_merged_client.py", f"127.0.0.1:{server.port}", "8")
        for server in (through, direct)
    )
    assert merged(admin) > before, "none of their requests shared a call"
    for one, own in zip(chain(*got), chain(*wanted), strict=True):
        assert one["id"] == own["id"]
        pairs = zip(one["vector"][0], own["vector"][0], strict=True)
        assert max(abs(x - y) for x, y in pairs) <= MODELS["triton"].tolerance


def merged(admin: int) -> float:
    """Requests that shared their call so far."""
    text = exchange(admin, request("GET", "/metrics")).body.decode()
    lines = [line for line in text.splitlines() if 'how="merged"' in line]
    return sum(float(line.rpartition(" ")[2]) for line in lines)


@pytest.mark.parametrize("model", ["mlserver"], scope="module", indirect=True)
def test_ids_are_each_clients_own(model: Model, through: Server) -> None:
    """In the body, and in the head, where MLServer names them, too."""
    asked = things(model)
    bodies = [[model.one(thing) | {"id": f"{thing}"} for thing in row] for row in asked]
    rows = [
        [request("POST", model.path, orjson.dumps(body), JSON) for body in row] for row in bodies
    ]
    told = at_once(through, rows)
    assert max(size(answer) for row in told for answer in row) > 1
    for thing, answer in zip(chain(*asked), chain(*told), strict=True):
        assert orjson.loads(answer.body)["id"] == f"{thing}"
        for name in (b"ce-id", b"ce-requestid"):
            assert (answer.header(name) or b"").strip() == f"{thing}".encode()
