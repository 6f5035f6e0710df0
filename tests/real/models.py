"""The servers that batching is shown on: how each is started, asked, and read.

A thing to ask about is a text, or for the cheap models four numbers; `one` and `many` put one or
several into a body, `read` takes the answers out of one, a row of numbers each.
"""

from __future__ import annotations

import json
import random
import subprocess
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from proxy.demo.encoder_server import THREADS
from proxy.demo.gguf import WORDS

from .environments import KSERVE, MINILM, MLSERVER, TRITON, Environment
from .processes import Server, free_port

HERE = Path(__file__).parent
ROOT = HERE.parents[1]
ONE_CORE = dict.fromkeys(THREADS, "1")
TOKENS = 14
"""Of a text, where nothing else is said."""
ONE_TOKEN = [word for word in WORDS if word not in ("kelp", "swims", "drifts")]
"""Words that are a token each to every encoder here; two more are put around a text."""

Start = Callable[[Path, Path], Server]
"""The server of an environment's Python, with a folder for what it writes."""


def text(number: int, tokens: int = TOKENS) -> str:
    """A text of so many tokens for a number; the same one each time."""
    return " ".join(random.Random(number).choices(ONE_TOKEN, k=tokens - 2))


def numbers(number: int) -> list[float]:
    """Four numbers for a number, and no other's."""
    return [float(number), number / 8, -1.5, 0.25]


def triton_environ(python: Path, home: Path) -> dict[str, str]:
    """Variables that Triton needs. home: gets 200 MB of its own while it runs."""
    # Triton's Python backend links libpython, wherever that interpreter keeps it.
    where = "import sysconfig; print(sysconfig.get_config_var('LIBDIR'))"
    libraries = subprocess.check_output([python, "-c", where], text=True).strip()
    return {"LD_LIBRARY_PATH": libraries, "PYTRITON_HOME": str(home), "TMPDIR": str(home)}


def _numpy(python: Path, folder: Path) -> Server:
    port = free_port()
    command = [str(python), "-m", "proxy.demo.encoder_server", "--port", str(port)]
    return _server(command, port, folder, "/health")


def _minilm(python: Path, folder: Path) -> Server:
    port = free_port()
    command = [str(python), str(HERE / "servers" / "minilm_server.py"), "--port", str(port)]
    return _server(command, port, folder, "/health", HF_HUB_OFFLINE="1")


def _triton(python: Path, folder: Path) -> Server:
    port = free_port()
    command = [str(python), str(HERE / "servers" / "triton_encoder.py"), "--port", str(port)]
    command += ["--grpc-port", str(free_port()), "--metrics-port", str(free_port())]
    ready = "/v2/models/batched/ready"  # the second one
    return _server(command, port, folder, ready, **triton_environ(python, folder))


def _kserve(python: Path, folder: Path) -> Server:
    port = free_port()
    command = [str(python), str(HERE / "servers" / "kserve_server.py"), "--http_port", str(port)]
    command += ["--enable_grpc", "false"]
    return _server(command, port, folder, "/v1/models/cheap")


def _mlserver(python: Path, folder: Path) -> Server:
    port = free_port()
    settings = {"host": "127.0.0.1", "http_port": port, "grpc_port": free_port()}
    settings |= {"metrics_port": free_port(), "parallel_workers": 0, "debug": False}
    (folder / "settings.json").write_text(json.dumps(settings))
    model = {"name": "cheap", "implementation": "mlserver_model.Cheap"}
    (folder / "model-settings.json").write_text(json.dumps(model))
    command = [str(python.with_name("mlserver")), "start", str(folder)]
    ready = "/v2/models/cheap/ready"
    return _server(command, port, folder, ready, PYTHONPATH=str(HERE / "servers"))


def _server(command: list[str], port: int, folder: Path, ready: str, **environ: str) -> Server:
    environ = {"PYTHONPATH": str(ROOT), **ONE_CORE, **environ}
    url = f"http://127.0.0.1:{port}{ready}"
    return Server(command, port, folder / "log", ready=url, environ=environ)


def _tei(answer: Any) -> list[list[float]]:
    rows: list[list[float]] = answer
    return rows


def _v1(answer: Any) -> list[list[float]]:
    rows: list[list[float]] = answer["predictions"]
    return rows


def _v2(answer: Any) -> list[list[float]]:
    (output,) = answer["outputs"]
    count, width = output["shape"]
    data = output["data"]
    return [data[row * width : (row + 1) * width] for row in range(count)]


def _infer(name: str, shape: Sequence[int], kind: str, data: list[Any]) -> Any:
    return {"inputs": [{"name": name, "shape": list(shape), "datatype": kind, "data": data}]}


@dataclass(frozen=True)
class Model:
    """environment: None where the project's own Python runs it. thing: what to ask about, by
    number. tolerance: by how much a number may differ between a batch and alone. bad: a thing for
    which the server refuses a whole call. peer: the path where the server merges requests itself.
    """

    about: str
    environment: Environment | None
    start: Start
    path: str
    thing: Callable[[int], Any]
    one: Callable[[Any], Any]
    many: Callable[[Sequence[Any]], Any]
    read: Callable[[Any], list[list[float]]]
    tolerance: float
    bad: Any
    peer: str | None = None


_CHEAP = Model(
    "KServe v1 with a model that costs next to nothing",
    KSERVE,
    _kserve,
    "/v1/models/cheap:predict",
    numbers,
    lambda row: {"instances": [row]},
    lambda many: {"instances": list(many)},
    _v1,
    tolerance=0.0,
    bad=["a", 0.0, 0.0, 0.0],
)

MODELS = {
    "numpy": Model(
        "the project's encoder: MiniLM's shape in numpy, random weights, one core",
        None,
        _numpy,
        "/embed",
        text,
        lambda one: {"inputs": one},
        lambda many: {"inputs": list(many)},
        _tei,
        tolerance=2e-6,
        bad="",
    ),
    "minilm": Model(
        "all-MiniLM-L6-v2 in torch, one core",
        MINILM,
        _minilm,
        "/embed",
        text,
        lambda one: {"inputs": one},
        lambda many: {"inputs": list(many)},
        _tei,
        tolerance=2e-6,
        bad="",
    ),
    "triton": Model(
        "Triton with the project's encoder, its own batcher off",
        TRITON,
        _triton,
        "/v2/models/encoder/infer",
        text,
        lambda one: _infer("text", (1, 1), "BYTES", [one]),
        lambda many: _infer("text", (len(many), 1), "BYTES", list(many)),
        _v2,
        tolerance=2e-6,
        bad="",
        peer="/v2/models/batched/infer",
    ),
    "kserve": _CHEAP,
    "forest": replace(
        _CHEAP,
        about="KServe v1 with a scikit-learn forest of 100 trees",
        path="/v1/models/forest:predict",
    ),
    "mlserver": Model(
        "MLServer (v2, JSON) with a model that costs next to nothing",
        MLSERVER,
        _mlserver,
        "/v2/models/cheap/infer",
        numbers,
        lambda row: _infer("numbers", (1, 4), "FP64", row),
        lambda many: _infer(
            "numbers", (len(many), 4), "FP64", [one for row in many for one in row]
        ),
        _v2,
        tolerance=0.0,
        bad=["a", 0.0, 0.0, 0.0],
    ),
}
