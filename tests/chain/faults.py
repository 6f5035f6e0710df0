"""What may go wrong at an endpoint, byte by byte."""

from __future__ import annotations

import asyncio
import random
import socket
import struct
from collections.abc import Awaitable, Callable
from contextlib import suppress

from tests.road.wire import LAST_CHUNK, SSE_HEAD, Message, chunk, head

FAULTS = (
    "reset before", "reset mid head", "reset mid body", "close mid body", "hang", "500", "503",
    "503 later", "429", "no HTTP", "no JSON", "one too few", "slow", "busy forever",
)  # fmt: skip
OWN_ERROR = b'{"error":{"message":"mine","type":"server","code":null,"param":null}}'
NO_JSON = b'{"data": [1, 2, '


class Answer:
    """kind: content type. body: whole, or None where `events` are streamed."""

    def __init__(self, body: bytes | None, *fields: str, kind: str = "application/json") -> None:
        self.body = body
        self.fields = [f"Content-Type: {kind}", *fields]
        self.events: list[bytes] = []


class Over(Exception):
    """The connection is not to be used again."""


def reset(writer: asyncio.StreamWriter) -> None:
    sock = writer.get_extra_info("socket")
    if sock is not None and not writer.is_closing():
        with suppress(OSError):
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    writer.transport.abort()


def _head_of(answer: Answer, status: str = "200 OK") -> bytes:
    if answer.body is None:
        return SSE_HEAD
    return head(f"HTTP/1.1 {status}", f"Content-Length: {len(answer.body)}", *answer.fields)


async def well(answer: Answer, message: Message, writer: asyncio.StreamWriter) -> None:
    no_body = message.first_line.startswith(b"HEAD ")
    if answer.body is not None:
        writer.write(_head_of(answer) + (b"" if no_body else answer.body))
        return
    writer.write(_head_of(answer))
    for one in answer.events:
        writer.write(chunk(one))
        await asyncio.sleep(0)
    writer.write(LAST_CHUNK)


async def _slowly(answer: Answer, message: Message, writer: asyncio.StreamWriter) -> None:
    await asyncio.sleep(0.05)
    await well(answer, message, writer)


async def _before(answer: Answer, message: Message, writer: asyncio.StreamWriter) -> None:
    reset(writer)
    raise Over


async def _mid_head(answer: Answer, message: Message, writer: asyncio.StreamWriter) -> None:
    writer.write(_head_of(answer)[:20])
    await writer.drain()
    reset(writer)
    raise Over


async def _begun(answer: Answer, writer: asyncio.StreamWriter) -> None:
    if answer.body is None:
        for one in [_head_of(answer), *map(chunk, answer.events[:1])]:
            writer.write(one)
            await writer.drain()
        await asyncio.sleep(0.005)
    else:
        writer.write(_head_of(answer) + answer.body[: len(answer.body) // 2])
        await writer.drain()
        await asyncio.sleep(0.005)


async def _mid_body(answer: Answer, message: Message, writer: asyncio.StreamWriter) -> None:
    await _begun(answer, writer)
    reset(writer)
    raise Over


async def _cut(answer: Answer, message: Message, writer: asyncio.StreamWriter) -> None:
    await _begun(answer, writer)
    raise Over


def _told(
    status: str, *fields: str
) -> Callable[[Answer, Message, asyncio.StreamWriter], Awaitable[None]]:
    async def write(answer: Answer, message: Message, writer: asyncio.StreamWriter) -> None:
        lines = [f"Content-Length: {len(OWN_ERROR)}", "Content-Type: application/json",
                 "X-Server: mine", *fields]  # fmt: skip
        no_body = message.first_line.startswith(b"HEAD ")
        writer.write(head(f"HTTP/1.1 {status}", *lines) + (b"" if no_body else OWN_ERROR))

    return write


async def _no_http(answer: Answer, message: Message, writer: asyncio.StreamWriter) -> None:
    writer.write(b"HTTP/1.1 abc what\r\nthis is none: \x00\r\n\r\n")
    await writer.drain()
    raise Over


async def _no_json(answer: Answer, message: Message, writer: asyncio.StreamWriter) -> None:
    told = [f"Content-Length: {len(NO_JSON)}", "Content-Type: application/json", "X-Server: mine"]
    writer.write(head("HTTP/1.1 200 OK", *told) + NO_JSON)


WRITTEN = {
    "reset before": _before, "reset mid head": _mid_head, "reset mid body": _mid_body,
    "close mid body": _cut, "500": _told("500 Sick"), "503": _told("503 Busy"),
    "503 later": _told("503 Busy", "Retry-After: 1"),
    "busy forever": _told("503 Busy", "Retry-After: 60"),
    "429": _told("429 Enough", "Retry-After: 1"), "no HTTP": _no_http, "no JSON": _no_json,
    "slow": _slowly,
}  # fmt: skip


def at_random(
    chance: random.Random, share: float, among: tuple[str, ...] = FAULTS
) -> Callable[[Message], str]:
    """A fault for this share of the requests."""
    return lambda message: chance.choice(among) if chance.random() < share else ""
