"""The bytes that travel in the bench: the requests, their answer, and one event of a stream."""

from __future__ import annotations

import time
from collections.abc import Callable

REQUEST_BYTES = 385
ANSWER_BYTES = 437
UNARY_END = b'"stream":false}'
STREAM_END = b'"stream":true}'
EMBEDDINGS_END = b'"encoding_format":"float"}'
TOKENS = b'"max_tokens":'
USAGE = b'"completion_tokens":'
STAMP = b'"created":'
STAMP_DIGITS = 10
_TALK = "The bench asks the same thing again and again, because what it measures is the road. " * 5


def _fill(before: str, after: str, size: int) -> bytes:
    text = before + _TALK[: size - len(before) - len(after)] + after
    assert len(text) == size
    return text.encode()


def request(stream_events: int | None = None) -> bytes:
    """A whole POST, head and 385 bytes of JSON; with `stream_events` it asks for an SSE stream."""
    end = STREAM_END if stream_events else UNARY_END
    body = _fill(
        '{"model":"tiny","messages":[{"role":"system","content":"Answer in one sentence."},'
        '{"role":"user","content":"',
        f'"}}],"temperature":0,{TOKENS.decode()}{stream_events or 64},{end.decode()}',
        REQUEST_BYTES,
    )
    return _post(b"/v1/chat/completions", body)


def _post(path: bytes, body: bytes) -> bytes:
    return (
        b"POST %b HTTP/1.1\r\nHost: model.internal:8000\r\n"
        b"User-Agent: OpenAI/Python 1.60.0\r\nAccept: application/json\r\n"
        b"Accept-Encoding: gzip, deflate\r\nContent-Type: application/json\r\n"
        b"Authorization: Bearer sk-000000000000000000000000\r\n"
        b"Content-Length: %d\r\n\r\n" % (path, len(body))
    ) + body


def _embeddings(number: int) -> bytes:
    start = f'{{"model":"tiny","input":"Text {number:03d}. '
    body = _fill(start, f'",{EMBEDDINGS_END.decode()}', REQUEST_BYTES)
    return _post(b"/v1/embeddings", body)


def _page(number: int) -> bytes:
    # Without credentials: what carries some is for no shared cache (RFC 9111 section 3.5).
    return (
        b"GET /v1/models/tiny-%03d HTTP/1.1\r\nHost: model.internal:8000\r\n"
        b"User-Agent: OpenAI/Python 1.60.0\r\nAccept: application/json\r\n"
        b"Accept-Encoding: gzip, deflate\r\n\r\n" % number
    )


REQUESTS: dict[str, Callable[[int], bytes]] = {
    "chat": lambda number: request(),
    "embeddings": _embeddings,
    "page": _page,
}
"""What a load can send again and again, by name: a whole request for the number of a connection."""


ANSWER_BODY = _fill(
    '{"id":"chatcmpl-0000000000000000","object":"chat.completion","created":1700000000,'
    '"model":"tiny","choices":[{"index":0,"message":{"role":"assistant","content":"',
    '"},"finish_reason":"stop"}],"usage":{"prompt_tokens":41,"completion_tokens":20,'
    '"total_tokens":61}}',
    ANSWER_BYTES,
)
ANSWER = (
    b"HTTP/1.1 200 OK\r\nServer: bench\r\nContent-Type: application/json\r\n"
    b"Content-Length: %d\r\n\r\n" % ANSWER_BYTES
) + ANSWER_BODY
PAGE = ANSWER.replace(b"Server: bench", b"Server: bench\r\nCache-Control: max-age=3600")
"""The answer to a GET: the same body, fresh for an hour."""

COUNT = b"GET /count HTTP/1.1\r\nHost: backend\r\n\r\n"
"""Asks the backend itself how many requests it has got; the number is the answer's body."""


def counted(requests: int) -> bytes:
    """The backend's answer to COUNT."""
    body = b"%d" % requests
    return b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%b" % (len(body), body)


STREAM_HEAD = (
    b"HTTP/1.1 200 OK\r\nServer: bench\r\nContent-Type: text/event-stream\r\n"
    b"Cache-Control: no-cache\r\nTransfer-Encoding: chunked\r\n\r\n"
)


def chunk(data: bytes) -> bytes:
    """`data` in chunked framing (RFC 9112 section 7.1)."""
    return b"%x\r\n%b\r\n" % (len(data), data)


# One "[" an event and none in a head: counting that byte counts events, however reads split them.
_EVENT = chunk(
    b'data: {"id":"chatcmpl-0000000000000000","object":"chat.completion.chunk",'
    + STAMP
    + b"0" * STAMP_DIGITS
    + b',"model":"tiny","choices":[{"index":0,"delta":{"content":" token"},"logprobs":null,'
    b'"finish_reason":null}]}\n\n'
)
_at = _EVENT.index(STAMP) + len(STAMP)
EVENT_BEFORE, EVENT_AFTER = _EVENT[:_at], _EVENT[_at + STAMP_DIGITS :]
EVENTS_PER_SECOND = 500
CLOSING_EVENTS = 2


def closing(events: int) -> bytes:
    """How a stream ends: the usage, `[DONE]` and the last chunk."""
    usage = b'data: {"object":"chat.completion.chunk","choices":[],"usage":{%b%d}}\n\n'
    return chunk(usage % (USAGE, events)) + chunk(b"data: [DONE]\n\n") + b"0\r\n\r\n"


_WRAP = 9 * 10**9


def stamp() -> bytes:
    """Microseconds of the machine's monotonic clock, always ten digits."""
    return b"%d" % (10**9 + time.monotonic_ns() // 1000 % _WRAP)


def age(stamped: bytes) -> float:
    """Microseconds since `stamped` was made, in any process of this machine."""
    return float((10**9 + time.monotonic_ns() // 1000 - int(stamped)) % _WRAP)
