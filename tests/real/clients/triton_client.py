"""tritonclient over HTTP in every form it speaks: prints what came back, as JSON.

usage: triton_client.py HOST:PORT. Run by the Python of the `triton` environment.
"""

from __future__ import annotations

import itertools
import json
import sys
from typing import Any

import numpy
import tritonclient.http as triton
from tritonclient.utils import InferenceServerException

TEXTS = ["hello", 'a line\nwith "quotes"', "grün"]
NUMBERS = [[0.0, 1.5, -2.25], [3.0, 1e-20, 1e20], [0.1, 0.2, 0.3]]


def inputs(binary: bool) -> list[Any]:
    text = triton.InferInput("text", [len(TEXTS), 1], "BYTES")
    rows = numpy.array([[line.encode()] for line in TEXTS], dtype=numpy.object_)
    text.set_data_from_numpy(rows, binary_data=binary)
    numbers = triton.InferInput("numbers", [len(NUMBERS), 3], "FP32")
    numbers.set_data_from_numpy(numpy.array(NUMBERS, dtype=numpy.float32), binary_data=binary)
    return [text, numbers]


def infer(client: Any, sent: bool, wanted: bool, up: str | None, down: str | None) -> Any:
    answer = client.infer(
        "echo",
        inputs(sent),
        outputs=[
            triton.InferRequestedOutput("upper", binary_data=wanted),
            triton.InferRequestedOutput("doubled", binary_data=wanted),
        ],
        request_id="one",
        request_compression_algorithm=up,
        response_compression_algorithm=down,
    )
    upper = [value if isinstance(value, str) else value.decode()
             for value in answer.as_numpy("upper").ravel()]  # fmt: skip
    # The bits, not the digits: equal floats may print alike when they are not.
    return {
        "response": answer.get_response(),
        "upper": upper,
        "doubled": answer.as_numpy("doubled").astype("<f4").tobytes().hex(),
    }


def failure(call: Any) -> dict[str, Any]:
    try:
        call()
    except InferenceServerException as error:
        return {"status": error.status(), "message": error.message()}
    raise SystemExit("the call was expected to fail")


def main() -> None:
    client = triton.InferenceServerClient(sys.argv[1], network_timeout=20)
    forms: dict[str, Any] = {}
    for sent, wanted in itertools.product((False, True), repeat=2):
        for up, down in itertools.product((None, "gzip", "deflate"), repeat=2):
            name = f"in={'binary' if sent else 'json'} out={'binary' if wanted else 'json'}"
            forms[f"{name} up={up} down={down}"] = infer(client, sent, wanted, up, down)
    many = triton.InferInput("text", [9, 1], "BYTES")
    many.set_data_from_numpy(numpy.array([[b"x"]] * 9, dtype=numpy.object_))
    floats = triton.InferInput("numbers", [9, 3], "FP32")
    floats.set_data_from_numpy(numpy.zeros((9, 3), dtype=numpy.float32))
    told = {
        "live": client.is_server_live(),
        "ready": client.is_server_ready(),
        "model_ready": client.is_model_ready("echo"),
        "unknown_ready": client.is_model_ready("nobody"),
        "server": client.get_server_metadata(),
        "model": client.get_model_metadata("echo"),
        "config": client.get_model_config("echo"),
        "forms": forms,
        "unknown": failure(lambda: client.infer("nobody", inputs(True))),
        "over_the_batch_limit": failure(lambda: client.infer("echo", [many, floats])),
    }
    client.close()
    json.dump(told, sys.stdout)


if __name__ == "__main__":
    main()
