"""`python -m tests.bench.transcode`: CPU of each conversion, beside orjson and msgpack alone.

One process, one thread; the least of several rounds.
"""

from __future__ import annotations

import asyncio
import gc
import sys
import time
from collections.abc import Callable
from typing import Any

import msgpack
import numpy
import orjson

from middleware.core.documents import read_json, read_msgpack, write_json, write_msgpack
from middleware.core.number_arrays import packed
from middleware.core.object_stream import EventFieldReader, ObjectReader, to_event, to_object
from middleware.transcode import Transcode
from proxy.apis.vectors import write_base64
from proxy.assembly import RouteInfo
from proxy.env import Env
from proxy.exchange import Request, Response
from proxy.telemetry import Telemetry

ROUNDS = 7
SECONDS = 0.05
MOST = 1 << 21

Row = tuple[str, list[float | None]]


def cost(call: Callable[[], Any]) -> float:
    """CPU microseconds of a call."""
    call()
    times = 1
    while True:
        began = time.process_time()
        for _ in range(times):
            call()
        if (took := time.process_time() - began) > SECONDS / 4:
            break
        times *= 4
    times = max(1, int(times * SECONDS / took))
    best = float("inf")
    gc.disable()
    try:
        for _ in range(ROUNDS):
            began = time.process_time()
            for _ in range(times):
                call()
            best = min(best, (time.process_time() - began) / times)
    finally:
        gc.enable()
    return best * 1e6


def documents() -> list[tuple[str, Any]]:
    """Values whose JSON has 385 bytes, 4 KB, and the vectors of 32 texts."""
    chat: dict[str, Any] = {
        "model": "m", "temperature": 0.7, "max_tokens": 128, "stop": ["\n\n"], "stream": False,
        "messages": [{"role": "system", "content": "Be brief."}, {"role": "user", "content": ""}],
    }  # fmt: skip
    chat["messages"][1]["content"] = "x" * (385 - len(orjson.dumps(chat)))
    many: dict[str, Any] = {"model": "m", "messages": []}
    for number in range(20):
        role = "assistant" if number % 2 else "user"
        many["messages"].append({"role": role, "content": f"{number}: " + "some words " * 14})
    many["user"] = "x" * (4096 - len(orjson.dumps(many)) - 10)
    rows = numpy.random.default_rng(5).normal(0, 0.05, (32, 384))
    vectors = {
        "object": "list", "model": "m", "usage": {"prompt_tokens": 9, "total_tokens": 9},
        "data": [{"object": "embedding", "index": n, "embedding": row.tolist()}
                 for n, row in enumerate(rows)],
    }  # fmt: skip
    return [("385 B", chat), ("4 KB", many), ("32 x 384", vectors)]


def alone(value: Any) -> dict[str, float]:
    """The libraries, with nothing looked at."""
    text, raw = orjson.dumps(value), msgpack.packb(value)
    return {
        "JSON to MessagePack, orjson and msgpack alone": cost(
            lambda: msgpack.packb(orjson.loads(text))
        ),
        "MessagePack to JSON, the same": cost(lambda: orjson.dumps(msgpack.unpackb(raw))),
    }


def converted(value: Any) -> dict[str, float]:
    text, raw = orjson.dumps(value), msgpack.packb(value)
    found = {
        "JSON to MessagePack": cost(lambda: write_msgpack(read_json(text))),
        "MessagePack to JSON": cost(lambda: write_json(read_msgpack(raw, MOST))),
    }
    if "data" in value:
        flags = b"true" in text or b"false" in text
        for name, code in (("float32", "f"), ("float16", "e")):
            found[f"JSON to MessagePack, {name}"] = cost(
                lambda code=code: write_msgpack(packed(read_json(text), code, flags))  # type: ignore[misc]
            )
        found["JSON to base64"] = cost(lambda: _base64(text))
    return found


def _base64(text: bytes) -> bytes:
    value = read_json(text)
    write_base64(value)
    return write_json(value)


def streams() -> dict[str, float]:
    """One event of a chat, in a chunk of its own."""
    event = (
        b'data: {"id":"chatcmpl-7","object":"chat.completion.chunk","created":1,"model":"m",'
        b'"choices":[{"index":0,"delta":{"content":" word"},"finish_reason":null}]}\n\n'
    )
    events, objects = EventFieldReader(), ObjectReader()
    raw = to_object(events.feed(event)[0])
    return {
        "an event to an object": cost(lambda: [to_object(one) for one in events.feed(event)]),
        "an object to an event": cost(lambda: [to_event(o, MOST) for o in objects.feed(raw)]),
    }


def nothing() -> dict[str, float]:
    """What the layer costs where there is nothing to do: with it, less without."""
    loop = asyncio.new_event_loop()
    layer = Transcode(Transcode.Config(make_base64=True), Env(loop, Telemetry()))
    answer = Response(200, [(b"Content-Type", b"application/json")], b"{}")
    fields = [
        (b"Host", b"model"), (b"Connection", b"keep-alive"), (b"Accept-Encoding", b"gzip"),
        (b"Accept", b"application/json"), (b"Content-Type", b"application/json"),
        (b"User-Agent", b"bench"), (b"Authorization", b"Bearer x"), (b"Content-Length", b"385"),
    ]  # fmt: skip
    request = Request(b"POST", b"/v1/chat/completions", fields, b"{}")

    async def upstream(request: Request) -> Response:
        return answer

    handle = layer.bind(RouteInfo("r", "default"), upstream)

    def run(call: Any) -> None:
        try:
            call(request).send(None)
        except StopIteration:
            pass

    found = cost(lambda: run(handle)) - cost(lambda: run(upstream))
    loop.close()
    return {"nothing to do": found}


def main() -> None:
    columns = documents()
    rows: dict[str, list[float | None]] = {}
    for at, (_, value) in enumerate(columns):
        for name, us in {**alone(value), **converted(value)}.items():
            rows.setdefault(name, [None] * len(columns))[at] = us
    print("| CPU us a document | " + " | ".join(name for name, _ in columns) + " |")
    print("|---|" + "---|" * len(columns))
    for name, figures in rows.items():
        told = ["" if us is None else f"{us:.1f}" for us in figures]
        print(f"| {name} | " + " | ".join(told) + " |")
    print("\n| CPU us | |\n|---|---|")
    for name, us in {**streams(), **nothing()}.items():
        print(f"| {name} | {us:.2f} |")
    sizes = [len(orjson.dumps(value)) for _, value in columns]
    print(f"\nJSON of {sizes} bytes; Python {sys.version.split()[0]}", file=sys.stderr)


if __name__ == "__main__":
    main()
