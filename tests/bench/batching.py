"""CPU of merging: `python -m tests.bench.batching`. Microseconds an item, of 32 one-item requests
whose answers are 384 numbers each: taken apart, called as one, split and joined; beside what it
costs to parse the same bodies with orjson and dump them item by item.
"""

from __future__ import annotations

import base64
import random
import struct
import time
from collections.abc import Callable
from typing import Any

import orjson

from proxy.exchange import Request, Response

ITEMS, WIDTH = 32, 384
TEXT = "a sentence of about fourteen tokens, as people write them when they search for something"


def vectors() -> list[list[float]]:
    draw = random.Random(7)
    return [[draw.gauss(0, 0.05) for _ in range(WIDTH)] for _ in range(ITEMS)]


def floats(vector: list[float]) -> Any:
    return vector


def coded(vector: list[float]) -> str:
    return base64.b64encode(struct.pack(f"<{WIDTH}f", *vector)).decode()


def tei() -> tuple[str, list[Any], Any]:
    return "/embed", [{"inputs": f"{TEXT} {n}"} for n in range(ITEMS)], vectors()


def openai(write: Callable[[list[float]], Any]) -> tuple[str, list[Any], Any]:
    asked = [{"input": f"{TEXT} {n}", "model": "m"} for n in range(ITEMS)]
    data = [
        {"object": "embedding", "index": place, "embedding": write(vector)}
        for place, vector in enumerate(vectors())
    ]
    usage = {"prompt_tokens": 700, "total_tokens": 700}
    return "/v1/embeddings", asked, {"object": "list", "data": data, "model": "m", "usage": usage}


def infer(form: str) -> tuple[str, list[Any], Any]:
    def inputs(rows: int) -> Any:
        data = [TEXT] * rows
        return [{"name": "text", "shape": [rows, 1], "datatype": "BYTES", "data": data}]

    flat = [one for vector in vectors() for one in vector]
    out: dict[str, Any] = {"name": "out", "datatype": "FP32", "shape": [ITEMS, WIDTH]}
    if form == "binary":
        out["parameters"] = {"binary_data_size": 4 * len(flat)}
        return "/v2/models/m/infer", [{"inputs": inputs(1)}] * ITEMS, ({"outputs": [out]}, flat)
    return (
        "/v2/models/m/infer",
        [{"inputs": inputs(1)}] * ITEMS,
        {"outputs": [out | {"data": flat}]},
    )


def predict() -> tuple[str, list[Any], Any]:
    asked = [{"instances": [[5.1, 3.5, 1.4, 0.2]]} for _ in range(ITEMS)]
    return "/v1/models/m:predict", asked, {"predictions": [n % 3 for n in range(ITEMS)]}


def measured(work: Callable[[], object]) -> float:
    """CPU microseconds an item, the least of several runs."""
    work()
    best = float("inf")
    for _ in range(15):
        start = time.process_time()
        for _ in range(5):
            work()
        best = min(best, (time.process_time() - start) / 5)
    return best * 1e6 / ITEMS


def row(name: str, path: str, asked: list[Any], answer: Any) -> str:
    bodies = [orjson.dumps(one) for one in asked]
    headers = [(b"Content-Type", b"application/json")]
    if isinstance(answer, tuple):
        head = orjson.dumps(answer[0])
        body = head + struct.pack(f"<{len(answer[1])}f", *answer[1])
        size = [(b"Inference-Header-Content-Length", b"%d" % len(head))]
    else:
        body, size = orjson.dumps(answer), []
    response = Response(200, headers + size, body)

    def requests() -> list[Any]:
        made = [Request(b"POST", path.encode(), list(headers), one) for one in bodies]
        return [(one, one.api) for one in made]

    def parts() -> list[Any]:
        return [api.parts(one) for one, api in requests()]

    parted = parts()
    items = [one.items[0] for one in parted]
    shares = parted[0].split(response, items)

    def join() -> None:
        for number, (one, own) in enumerate(zip(parted, shares.answers, strict=True)):
            one.join(shares.rest, [own], number)

    def alone() -> None:
        for one in bodies:
            orjson.loads(one)
        if isinstance(answer, dict | list):
            read = orjson.loads(body)
            listed = read if isinstance(read, list) else next(iter(read.values()))
            if isinstance(read, dict):
                listed = next(one for one in read.values() if isinstance(one, list))
            for one in listed:
                orjson.dumps(one)

    steps = {
        "part": measured(parts) - measured(requests),
        "call": measured(lambda: parted[0].call(items)),
        "split": measured(lambda: parted[0].split(response, items)),
        "join": measured(join),
    }
    shown = "".join(f"{steps[step]:8.1f}" for step in steps)
    return f"{name:24}{len(body):>9,}{shown}{sum(steps.values()):8.1f}{measured(alone):10.1f}"


def main() -> None:
    print(f"{'us an item':24}{'bytes':>9}    part    call   split    join     sum    orjson")
    for name, made in (
        ("TEI /embed", tei()),
        ("OpenAI float", openai(floats)),
        ("OpenAI base64", openai(coded)),
        ("KServe v1, 4 numbers", predict()),
        ("KServe v2 JSON", infer("flat")),
        ("KServe v2 binary", infer("binary")),
    ):
        print(row(name, *made))


if __name__ == "__main__":
    main()
