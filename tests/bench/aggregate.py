"""`python -m tests.bench.aggregate`: one-item requests with and without `aggregate`, and batches.

Without --url the server is this file's own: it computes one call at a time, in the milliseconds
that MiniLM was measured to take on one core, and answers with what it was asked, so that every
answer is checked. With --url it is yours, and only the status is.

    python -m tests.bench.aggregate --concurrency 1,32
    python -m tests.bench.aggregate --url http://127.0.0.1:8000 --form openai --seconds 5
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import itertools
import json
import os
import random
import signal
import subprocess
import sys
import tempfile
import time
import zlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import orjson
import uvloop

from . import cpu
from .ending import ends_on_sigterm
from .peers import ROOT, accepts, free_port

BATCHES = (1, 2, 4, 8, 16, 32)
MS_PER_TEXT = (10.6, 6.5, 4.7, 3.8, 3.3, 3.1)
"""all-MiniLM-L6-v2 on one core, 14 tokens a text, by BATCHES."""
TOKENS = 14
FIXED = 7.5
"""Of that, what a call takes whatever is in it."""


@dataclass(frozen=True)
class Form:
    """How a server is asked. one, many: the body for a text, for several."""

    path: str
    one: Callable[[str], Any]
    many: Callable[[Sequence[str]], Any]
    items: str
    """The member that holds them."""


def _numbers(text: str) -> list[float]:
    return [float(len(text)), float(zlib.crc32(text.encode()) % 1000), 1.0, 2.0]


FORMS = {
    "tei": Form("/embed", lambda t: {"inputs": t}, lambda ts: {"inputs": list(ts)}, "inputs"),
    "openai": Form(
        "/v1/embeddings",
        lambda t: {"model": "m", "input": t},
        lambda ts: {"model": "m", "input": list(ts)},
        "input",
    ),
    "kserve": Form(
        "/v1/models/m:predict",
        lambda t: {"instances": [_numbers(t)]},
        lambda ts: {"instances": [_numbers(t) for t in ts]},
        "instances",
    ),
}


def milliseconds(texts: int) -> float:
    """What a call takes, between the measured batches in a straight line."""
    for (small, few), (large, many) in itertools.pairwise(_POINTS):
        if texts <= large:
            return few + (many - few) * (texts - small) / (large - small)
    return MS_PER_TEXT[-1] * texts


_POINTS = [(n, n * ms) for n, ms in zip(BATCHES, MS_PER_TEXT, strict=True)]


def proof(text: Any) -> list[float]:
    """The server's answer to an item: short, and no other's."""
    data = text.encode() if isinstance(text, str) else orjson.dumps(text)
    return [round(zlib.crc32(data) / 2**32, 9), len(data) / 1024]


# -- the server


class Server:
    """slow: what the milliseconds are multiplied by. side_by_side: calls computed at once.
    padded: a text costs as much as the longest of its call. width: numbers in a vector.
    """

    def __init__(self, slow: float, side_by_side: int, padded: bool, width: int) -> None:
        self.slow = slow
        self.padded = padded
        self.turn = asyncio.Semaphore(side_by_side)
        self.filler = [0.125] * max(0, width - 2)
        self.calls = self.texts = 0

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(asyncio.IncompleteReadError, ConnectionError):
            while True:
                head = await reader.readuntil(b"\r\n\r\n")
                length = head.lower().partition(b"content-length:")[2].partition(b"\r\n")[0]
                body = await reader.readexactly(int(length or 0))
                writer.write(await self.answer(head, body))
        writer.close()

    async def answer(self, head: bytes, body: bytes) -> bytes:
        path = head.split(b" ", 2)[1].decode()
        if path == "/count":
            return _ok({"calls": self.calls, "texts": self.texts})
        asked = orjson.loads(body)
        form = next(form for form in FORMS.values() if form.path == path)
        items = asked[form.items]
        texts = items if isinstance(items, list) else [items]
        self.calls += 1
        self.texts += len(texts)
        if self.slow:
            cost = milliseconds(len(texts))
            if self.padded:
                cost = FIXED + (cost - FIXED) * max(map(len, texts)) / 4 / TOKENS
            async with self.turn:
                await asyncio.sleep(cost * self.slow / 1000)
        vectors = [proof(text) + self.filler for text in texts]
        if path == "/embed":
            return _ok(vectors)
        if path.endswith(":predict"):
            return _ok({"predictions": vectors})
        data = [
            {"object": "embedding", "index": index, "embedding": vector}
            for index, vector in enumerate(vectors)
        ]
        tokens = sum(-(-len(text) // 4) for text in texts)
        usage = {"prompt_tokens": tokens, "total_tokens": tokens}
        return _ok({"object": "list", "data": data, "model": "m", "usage": usage})


def _ok(answer: Any) -> bytes:
    body = orjson.dumps(answer)
    head = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n"
    return head % len(body) + body


async def serve(port: int, slow: float, side_by_side: int, padded: bool, width: int) -> None:
    server = Server(slow, side_by_side, padded, width)
    listener = await asyncio.start_server(server.serve, "127.0.0.1", port, limit=1 << 24)
    await listener.serve_forever()


# -- the load


class Load(asyncio.Protocol):
    """A connection that asks, checks the answer, and asks again."""

    def __init__(self, run: Run) -> None:
        self.run = run
        self.transport: Any = None
        self.buffer = bytearray()
        self.need = 0
        self.sent_at = 0.0
        self.texts: list[str] = []

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = transport

    def send(self) -> None:
        run = self.run
        self.texts = [run.text() for _ in range(run.batch)]
        form = run.form
        asked = form.one(self.texts[0]) if run.batch == 1 else form.many(self.texts)
        body = orjson.dumps(asked)
        self.sent_at = time.perf_counter()
        self.transport.write(run.head % len(body) + body)

    def data_received(self, data: bytes) -> None:
        self.buffer += data
        if not self.need:
            head, end, _ = bytes(self.buffer).partition(b"\r\n\r\n")
            if not end:
                return
            length = head.lower().partition(b"content-length:")[2].partition(b"\r\n")[0]
            self.need = len(head) + 4 + int(length)
        if len(self.buffer) < self.need:
            return
        answer = bytes(self.buffer)
        self.buffer.clear()
        self.need = 0
        self.run.answered(self, answer, time.perf_counter() - self.sent_at)

    def connection_lost(self, exc: Exception | None) -> None:
        self.run.lost(exc)


class Run:
    """A closed loop of `concurrency` connections for `seconds`, each asking for `batch` texts."""

    def __init__(self, url: str, form: Form, batch: int, lengths: str, check: bool) -> None:
        parts = urlsplit(url)
        self.address = parts.hostname or "127.0.0.1", parts.port or 80
        self.form = form
        self.batch = batch
        self.check = check
        self.head = (
            f"POST {form.path} HTTP/1.1\r\nHost: bench\r\nContent-Type: application/json\r\n"
            "Content-Length: %d\r\n\r\n"
        ).encode()
        self.random = random.Random(7)
        self.lengths = lengths
        self.number = 0
        self.latencies: list[float] = []
        self.stopping = False
        self.failure = ""
        self.busy = 0
        self.idle = asyncio.Event()

    def text(self) -> str:
        """Never the same twice, of 4 characters a token."""
        self.number += 1
        tokens = TOKENS
        if self.lengths == "mixed":
            tokens = min(256, max(4, int(self.random.lognormvariate(3.0, 1.0))))
        return f"{self.number:08d}".ljust(4 * tokens, "x")

    def answered(self, load: Load, answer: bytes, seconds: float) -> None:
        self.latencies.append(seconds)
        if not answer.startswith(b"HTTP/1.1 200 "):
            self.failure = answer[:300].decode(errors="replace")
        elif self.check and not self.right(load.texts, answer):
            self.failure = "not its own answer: " + answer[-300:].decode(errors="replace")
        if not self.stopping and not self.failure:
            load.send()
            return
        self.busy -= 1
        if not self.busy:
            self.idle.set()

    def right(self, texts: list[str], answer: bytes) -> bool:
        told = orjson.loads(answer.partition(b"\r\n\r\n")[2])
        asked = self.form.many(texts)[self.form.items]
        if isinstance(told, dict):
            listed = told.get("predictions") or [one["embedding"] for one in told["data"]]
        else:
            listed = told
        return [vector[:2] for vector in listed] == [proof(text) for text in asked]

    def lost(self, exc: Exception | None) -> None:
        if not self.stopping:
            self.failure = self.failure or f"the connection was closed ({exc})"
            self.idle.set()

    async def measure(self, concurrency: int, seconds: float, pid: int) -> dict[str, float]:
        """texts: a second. p50, p99: ms. cpu: the proxy's microseconds a text."""
        loop = asyncio.get_running_loop()
        loads = [
            (await loop.create_connection(lambda: Load(self), *self.address))[1]
            for _ in range(concurrency)
        ]
        self.busy = concurrency
        for load in loads:
            load.send()
        await asyncio.sleep(min(1.0, seconds / 3))
        self.latencies.clear()
        used, began = cpu.used(pid) if pid else 0.0, time.perf_counter()
        await asyncio.sleep(seconds)
        took = time.perf_counter() - began
        spent = (cpu.used(pid) if pid else 0.0) - used
        measured = sorted(self.latencies)
        self.stopping = True
        await asyncio.wait_for(self.idle.wait(), 60)
        for load in loads:
            load.transport.close()
        if self.failure or not measured:
            raise RuntimeError(self.failure or "nothing was answered in the measured time")
        texts = len(measured) * self.batch
        return {
            "texts": texts / took,
            "p50": measured[len(measured) // 2] * 1000,
            "p99": measured[len(measured) * 99 // 100] * 1000,
            "cpu": spent / texts,
        }


# -- processes


@contextlib.contextmanager
def process(command: list[str], port: int) -> Iterator[int]:
    """Runs it until the end of the block; gives its process id once it listens."""
    child = subprocess.Popen(command, cwd=ROOT, stdin=subprocess.DEVNULL, start_new_session=True)
    try:
        limit = time.monotonic() + 15
        while not accepts(port):
            if child.poll() is not None or time.monotonic() > limit:
                raise SystemExit(f"{command} does not listen")
            time.sleep(0.02)
        yield child.pid
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(child.pid, signal.SIGTERM)
        try:
            child.wait(3)
        except subprocess.TimeoutExpired:
            os.killpg(child.pid, signal.SIGKILL)
            child.wait()


@contextlib.contextmanager
def proxy(url: str, chain: str) -> Iterator[tuple[str, int]]:
    """remora before a server; its address and process id."""
    port = free_port()
    file = {
        "listen": f"127.0.0.1:{port}",
        "admin": "off",
        "log": {"level": "error"},
        "drain": {"quiet": "0s", "timeout": "1s"},
        "upstreams": {"default": {"endpoints": [url]}},
        "chain": json.loads(chain),
    }
    with tempfile.NamedTemporaryFile("w", suffix=".yaml") as held:
        Path(held.name).write_text(json.dumps(file))
        command = [sys.executable, "-m", "proxy", "serve", "-c", held.name]
        with process(command, port) as pid:
            yield f"http://127.0.0.1:{port}", pid


@contextlib.contextmanager
def target(args: argparse.Namespace, slow: float) -> Iterator[str]:
    if args.url:
        yield args.url
        return
    port = free_port()
    options = (port, slow, args.side_by_side, int(args.padded), args.width)
    command = [
        sys.executable,
        "-m",
        "tests.bench.aggregate",
        "--serve",
        ",".join(map(str, options)),
    ]
    with process(command, port):
        yield f"http://127.0.0.1:{port}"


def _row(name: str, concurrency: int, told: dict[str, float], base: float) -> str:
    gain = f"{told['texts'] / base:5.2f}x" if base else ""
    return (
        f"{name:<12} {concurrency:>4}  {told['texts']:>9.1f} {gain:>7}"
        f"  {told['p50']:>8.2f} {told['p99']:>8.2f}  {told['cpu']:>7.1f}"
    )


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m tests.bench.aggregate", description=__doc__)
    parser.add_argument("--url", help="a real server; without it the scripted one")
    parser.add_argument("--form", choices=FORMS, default="tei")
    parser.add_argument("--concurrency", default="1,16,32,64")
    parser.add_argument("--seconds", type=float, default=3.0)
    parser.add_argument("--keys", default="{}", help="of aggregate, as JSON")
    parser.add_argument("--batch", type=int, default=32, help="texts of the client that batches")
    parser.add_argument("--lengths", choices=["equal", "mixed"], default="equal")
    parser.add_argument("--padded", action="store_true", help="a text costs what the longest does")
    parser.add_argument("--side-by-side", type=int, default=1, help="calls computed at once")
    parser.add_argument("--slow", type=float, default=1.0, help="times the measured milliseconds")
    parser.add_argument("--width", type=int, default=384, help="numbers in a vector")
    parser.add_argument("--only", default="direct,remora,aggregate,batches")
    parser.add_argument("--serve", help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.serve:
        port, slow, side_by_side, padded, width = args.serve.split(",")
        uvloop.run(serve(int(port), float(slow), int(side_by_side), padded == "1", int(width)))
        return
    ends_on_sigterm()
    form = FORMS[args.form]
    keys = json.loads(args.keys)
    print(f"# {args.form}, {args.url or 'scripted server'}, aggregate: {json.dumps(keys)}")
    print("               conc    texts/s            p50 ms   p99 ms  us/text")
    chains = {"direct": None, "remora": "[]", "aggregate": json.dumps([{"aggregate": keys}]),
              "batches": None}  # fmt: skip
    with target(args, args.slow) as url:
        for concurrency in map(int, args.concurrency.split(",")):
            base = 0.0
            for name in args.only.split(","):
                chain = chains[name]
                batch = args.batch if name == "batches" else 1
                # As many texts under way as the others have, in batches.
                at_once = max(1, concurrency // batch)
                with contextlib.ExitStack() as stack:
                    where, pid = url, 0
                    if chain is not None:
                        where, pid = stack.enter_context(proxy(url, chain))
                    run = Run(where, form, batch, args.lengths, not args.url)
                    told = _run(run, at_once, args.seconds, pid)
                base = base or told["texts"]
                print(_row(name, concurrency, told, base), flush=True)


def _run(run: Run, concurrency: int, seconds: float, pid: int) -> dict[str, float]:
    async def measure() -> dict[str, float]:
        run.idle = asyncio.Event()
        return await run.measure(concurrency, seconds, pid)

    return uvloop.run(measure())


if __name__ == "__main__":
    main()
