"""Endpoints whose every answer follows from its request alone, and what may go wrong at them."""

from __future__ import annotations

import asyncio
import json
import struct
import zlib
from collections.abc import Callable
from typing import Any

from tests.chain.faults import WRITTEN, Answer, Over, reset, well
from tests.road.wire import Message, head


def crc(*of: Any) -> int:
    return zlib.crc32(repr(of).encode())


def vector(text: str) -> list[float]:
    """What the server says of a text, and of no other."""
    return [len(text) + 0.5, crc(text) % 100_003 / 8, crc(text, 1) % 100_003 / 8]


def words(prompt: str) -> list[str]:
    """What it writes behind a prompt."""
    return [f"w{crc(prompt, place) % 9973} " for place in range(crc(prompt) % 5 + 2)]


def tokens(text: str) -> int:
    """As many as remora takes a text for, so every share of a sum is exact."""
    return -(-len(text.encode()) // 4)


def row(values: list[int]) -> list[int]:
    """What an infer call gives for a row of its input."""
    return [sum(values) * 3 + 1, crc(values) % 1_000_003]


def page(method: str, target: str, body: bytes) -> bytes:
    """What any other path gives: text that is worth compressing."""
    return b"%b %b %d " % (method.encode(), target.encode(), zlib.crc32(body)) * 60


def usage(asked: int, told: int = 0) -> dict[str, int]:
    return {"prompt_tokens": asked, "completion_tokens": told, "total_tokens": asked + told}


def listed(value: Any) -> list[str]:
    return value if isinstance(value, list) else [value]


def answer_to(message: Message, fewer: int = 0) -> Answer:
    """What a healthy server says. fewer: items left out, where the answer has any."""
    method, target = (part.decode() for part in message.first_line.split(b" ")[:2])
    if method != "POST":
        return Answer(page(method, target, message.body), 'ETag: "v1"', kind="text/plain")
    if target.endswith("/infer"):
        return _infer(message, fewer)
    if target in ("/v1/embeddings", "/v1/completions", "/v1/chat/completions", "/embed"):
        return _ASKED[target](json.loads(message.body), fewer)
    if target.endswith(":predict"):
        rows = json.loads(message.body)["instances"]
        return Answer(dumps({"predictions": [row(one) for one in rows[fewer:]]}))
    return Answer(page(method, target, message.body), kind="text/plain")


def dumps(value: Any) -> bytes:
    return json.dumps(value).encode()


def _embeddings(asked: Any, fewer: int) -> Answer:
    texts = listed(asked["input"])
    data = [
        {"object": "embedding", "index": place, "embedding": vector(text)}
        for place, text in enumerate(texts)
    ][fewer:]
    used = usage(sum(map(tokens, texts)))
    del used["completion_tokens"]
    return Answer(dumps({"object": "list", "data": data, "model": asked["model"], "usage": used}))


def _completions(asked: Any, fewer: int) -> Answer:
    prompts = listed(asked["prompt"])
    choices = [
        {"index": place, "text": "".join(words(prompt)), "finish_reason": "stop"}
        for place, prompt in enumerate(prompts)
    ][fewer:]
    used = usage(sum(map(tokens, prompts)), sum(len(words(one)) for one in prompts))
    return Answer(dumps({"id": "c-1", "object": "text_completion", "model": asked["model"],
                         "choices": choices, "usage": used}))  # fmt: skip


def _chat(asked: Any, fewer: int) -> Answer:
    prompt = asked["messages"][-1]["content"]
    said = words(prompt)
    used = usage(tokens(prompt), len(said))
    if not asked.get("stream"):
        told = {"role": "assistant", "content": "".join(said)}
        choice = {"index": 0, "message": told, "finish_reason": "stop"}
        return Answer(dumps({"id": "c-1", "object": "chat.completion", "model": asked["model"],
                             "choices": [choice], "usage": used}))  # fmt: skip
    answer = Answer(None, kind="text/event-stream")
    for word in said:
        delta = {"index": 0, "delta": {"content": word}, "finish_reason": None}
        answer.events.append(event({"object": "chat.completion.chunk", "choices": [delta]}))
    answer.events.append(event({"object": "chat.completion.chunk", "choices": [], "usage": used}))
    answer.events.append(b"data: [DONE]\n\n")
    return answer


def event(value: Any) -> bytes:
    return b"data: " + dumps(value) + b"\n\n"


def _embed(asked: Any, fewer: int) -> Answer:
    return Answer(dumps([vector(text) for text in listed(asked["inputs"])][fewer:]))


_ASKED = {
    "/v1/embeddings": _embeddings, "/v1/completions": _completions,
    "/v1/chat/completions": _chat, "/embed": _embed,
}  # fmt: skip


def _infer(message: Message, fewer: int) -> Answer:
    """One INT64 input `ids` of [rows, steps], binary; the output alike, [rows, 2]."""
    size = int(message["inference-header-content-length"] or 0)
    asked = json.loads(message.body[:size])
    rows, steps = asked["inputs"][0]["shape"]
    flat = struct.unpack(f"<{rows * steps}q", message.body[size:])
    told = [row(list(flat[at : at + steps])) for at in range(0, len(flat), steps)][fewer:]
    raw = struct.pack(f"<{2 * len(told)}q", *[one for pair in told for one in pair])
    parameters = {"binary_data_size": len(raw)}
    output = {"name": "out", "datatype": "INT64", "shape": [len(told), 2], "parameters": parameters}
    text = dumps({"model_name": "m", "outputs": [output]})
    return Answer(text + raw, f"Inference-Header-Content-Length: {len(text)}",
                  kind="application/octet-stream")  # fmt: skip


Choose = Callable[[Message], str]


class Model:
    """One endpoint. choose: the fault of each request, "" for none. pace: seconds that it takes."""

    def __init__(self, choose: Choose = lambda message: "", pace: float = 0.0) -> None:
        self.choose = choose
        self.pace = pace
        self.asked: list[Message] = []
        self.url = ""
        self.port = 0
        self.tunnels = 0
        self.faults: list[str] = []
        self._server: asyncio.Server | None = None
        self._tasks: set[asyncio.Task[None]] = set()
        self._writers: set[asyncio.StreamWriter] = set()

    async def start(self) -> None:
        """On the port that it had before, if any."""
        self._server = await asyncio.start_server(
            self._serve, "127.0.0.1", self.port, backlog=1024, reuse_address=True
        )
        self.port = self._server.sockets[0].getsockname()[1]
        self.url = f"http://127.0.0.1:{self.port}"

    async def stop(self) -> None:
        """Refuses connections from now on, and resets those there are."""
        assert self._server is not None
        self._server.close()
        for writer in list(self._writers):
            reset(writer)
        if self._tasks:
            await asyncio.wait(self._tasks)

    @property
    def busy(self) -> int:
        return len(self._tasks)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        self._writers.add(writer)
        try:
            while True:
                message = await read(reader, writer)
                self.asked.append(message)
                await self._answer(message, reader, writer)
                await writer.drain()
        except (asyncio.IncompleteReadError, ConnectionError, Over):
            pass
        except RuntimeError:  # so uvloop says that a transport is closed
            if not writer.is_closing():
                raise
        finally:
            self._tasks.discard(task)
            self._writers.discard(writer)
            writer.close()

    async def _answer(
        self, message: Message, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        fault = self.choose(message)
        if fault:
            self.faults.append(fault)
        if self.pace:
            await asyncio.sleep(self.pace)
        if message["upgrade"] is not None:
            await self._tunnel(message, reader, writer)
        answer = answer_to(message, fewer=fault == "one too few")
        write = WRITTEN.get(fault, well)
        if fault == "hang":
            await reader.read(1)  # until remora leaves
            raise Over
        await write(answer, message, writer)

    async def _tunnel(
        self, message: Message, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        """Gives back what it gets, in capitals."""
        self.tunnels += 1
        name = f"Upgrade: {message['upgrade']}"
        writer.write(head("HTTP/1.1 101 Switching Protocols", "Connection: Upgrade", name))
        while piece := await reader.read(65536):
            writer.write(piece.upper())
        raise Over


async def read(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> Message:
    """A request with its body and trailers; 100 Continue where it asks for it."""
    raw = await reader.readuntil(b"\r\n\r\n")
    message = Message(raw[:-4].split(b"\r\n"))
    if message["expect"] == "100-continue":
        writer.write(b"HTTP/1.1 100 Continue\r\n\r\n")
    if message.chunked:
        while size := int(await reader.readuntil(b"\r\n"), 16):
            message.body += (await reader.readexactly(size + 2))[:-2]
        while (line := await reader.readuntil(b"\r\n")) != b"\r\n":
            name, _, value = line.partition(b":")
            message.trailers.append((name, value.strip()))
    elif length := message["content-length"]:
        message.body = await reader.readexactly(int(length))
    return message
