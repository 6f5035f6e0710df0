"""What clients ask, in every form that the chain takes, and what each must get for it."""

from __future__ import annotations

import gzip
import json
import random
import struct
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import brotli
import msgpack
import zstandard

from tests.chain.faults import NO_JSON, OWN_ERROR
from tests.chain.model import answer_to, dumps
from tests.road.wire import Message, head

MSGPACK = "application/msgpack"


@dataclass
class Ask:
    """One request. plain: its body as the server should see it. body: as it is sent."""

    kind: str
    method: str
    target: str
    plain: bytes = b""
    body: bytes = b""
    fields: list[str] = field(default_factory=list)
    chunked: bool = False
    streams: bool = False

    def message(self) -> Message:
        """The request that the server would get if nobody stood between."""
        lines = [f"{self.method} {self.target} HTTP/1.1", *self.fields]
        message = Message([line.encode() for line in lines])
        message.body = self.plain
        return message

    def raw(self) -> bytes:
        """Its bytes."""
        lines = [f"{self.method} {self.target} HTTP/1.1", "Host: remora.test", *self.fields]
        if not self.body and not self.chunked:
            return head(*lines)
        if self.chunked:
            pieces = [self.body[at : at + 50] for at in range(0, len(self.body), 50)]
            framed = b"".join(b"%x\r\n%b\r\n" % (len(one), one) for one in pieces) + b"0\r\n\r\n"
            return head(*lines, "Transfer-Encoding: chunked") + framed
        return head(*lines, f"Content-Length: {len(self.body)}") + self.body


class Wrong(AssertionError):
    """A client got what it must not get."""


def check(ask: Ask, answer: Message, whole: bool, faults: bool) -> str:
    """What became of the request, in a word; raises Wrong. whole: the body came to its end.

    faults: whether the server may fail; where it may not, only the right answer will do.
    """
    status = answer.status
    body = answer.body if ask.method == "HEAD" else _decoded(answer, whole)
    if status == 200 and answer["x-server"] is None:
        return _right(ask, answer, body, whole, faults)
    if status == 429 and answer["x-remora-error"] == "rate_limited":
        _in_dialect(ask, answer, body)
        return "limited"
    if not faults:
        raise Wrong(f"{ask.kind}: {status} {answer['x-remora-error']} {body[:300]!r}")
    if not whole:
        return "broke off"
    if answer["x-server"] is not None:
        said = msgpack.unpackb(body) if _packed(answer) else None
        if ask.method != "HEAD" and said is None and body not in (OWN_ERROR, NO_JSON):
            raise Wrong(f"{ask.kind}: not the server's own: {body[:300]!r}")
        return f"the server's {status}"
    if answer["x-remora-error"] is None:
        raise Wrong(f"{ask.kind}: {status}, and nobody says whose it is: {body[:300]!r}")
    if status == 500:
        raise Wrong(f"{ask.kind}: a bug of remora's: {body[:300]!r}")
    _in_dialect(ask, answer, body)
    return f"{status} {answer['x-remora-error']}"


def _packed(answer: Message) -> bool:
    return (answer["content-type"] or "").startswith(MSGPACK)


def _right(ask: Ask, answer: Message, body: bytes, whole: bool, faults: bool) -> str:
    if ask.method == "HEAD":
        return "answered"
    wanted = [answer_to(ask.message())] + [answer_to(ask.message(), 1)] * faults
    if wanted[0].body is None:
        return _stream(ask, answer, body, whole, wanted[0].events, faults)
    if not whole:
        if not faults:
            raise Wrong(f"{ask.kind}: an answer breaks off: {body[-100:]!r}")
        return "broke off"
    told = _value(answer, body)
    if not any(told == _plain(one.body) for one in wanted):
        raise Wrong(f"{ask.kind}: {ask.plain[:200]!r} was answered {body[:400]!r}")
    return "answered"


def _value(answer: Message, body: bytes) -> Any:
    return _told(msgpack.unpackb(body)) if _packed(answer) else _plain(body)


def _plain(body: bytes | None) -> Any:
    """As JSON, where it is; without what sums that were shared out may differ in."""
    assert body is not None
    try:
        return _told(json.loads(body))
    except ValueError:
        return body


def _told(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: one for key, one in value.items() if key not in ("usage", "id")}
    return value


def _stream(
    ask: Ask, answer: Message, body: bytes, whole: bool, events: list[bytes], faults: bool
) -> str:
    if _packed(answer):
        wanted = [_object(one) for one in events]
        told = list(_objects(body))
    else:
        wanted = list(events)
        told = [one + b"\n\n" for one in body.split(b"\n\n") if one]
    if told == wanted and whole:
        return "answered"
    if not faults:
        raise Wrong(f"{ask.kind}: a stream of {told!r}, whole: {whole}")
    last = told[-1] if told else None
    if whole:
        failed = "error" in last if isinstance(last, dict) else last and b'"error"' in last
        if not failed or told[:-1] != wanted[: len(told) - 1]:
            raise Wrong(f"{ask.kind}: a whole stream without its end or an error: {told!r}")
        return "failed within the stream"
    if told[:-1] != wanted[: max(0, len(told) - 1)]:
        raise Wrong(f"{ask.kind}: a stream of another: {told!r}")
    return "broke off"


def _objects(body: bytes) -> Any:
    unpacker = msgpack.Unpacker()
    unpacker.feed(body)
    return unpacker


def _object(event: bytes) -> Any:
    data = event.removeprefix(b"data: ").strip()
    return "[DONE]" if data == b"[DONE]" else json.loads(data)


def _in_dialect(ask: Ask, answer: Message, body: bytes) -> None:
    """An error of remora's own, as the API in front tells one."""
    if ask.method == "HEAD" or ask.kind == "page":
        return
    told = msgpack.unpackb(body) if _packed(answer) else json.loads(body)
    if ask.target.startswith("/v1/") and not ask.target.endswith(":predict"):
        if not {"message", "type", "code"} <= set(told["error"]):
            raise Wrong(f"{ask.kind}: no error of OpenAI's: {told}")
    elif not isinstance(told["error"], str):
        raise Wrong(f"{ask.kind}: no error of its API: {told}")


_UNDONE: dict[str | None, Callable[[bytes], bytes]] = {
    "gzip": gzip.decompress,
    "br": brotli.decompress,
    "zstd": lambda body: zstandard.ZstdDecompressor().decompressobj().decompress(body),
    None: lambda body: body,
}


def _decoded(answer: Message, whole: bool) -> bytes:
    coding = answer["content-encoding"]
    if not whole and coding is not None:
        return b""
    if coding is not None and not answer.body:
        return b""
    return _UNDONE[coding](answer.body)


# -- what is asked


class Asker:
    """Draws requests. texts: how many different ones there are, so that some are alike."""

    def __init__(self, chance: random.Random, texts: int = 40) -> None:
        self.chance = chance
        self.texts = texts

    def text(self) -> str:
        number = self.chance.randrange(self.texts)
        return f"text {number} " + "é" * (number % 7)

    def some(self) -> str | list[str]:
        one = self.chance.random()
        if one < 0.4:
            return self.text()
        return [self.text() for _ in range(self.chance.choice((1, 2, 3, 5, 12)))]

    def draw(self, model: str = "m") -> Ask:
        kinds = (self.embeddings, self.completions, self.chat, self.stream, self.embed,
                 self.predict, self.infer, self.page)  # fmt: skip
        weights = (5, 2, 2, 3, 3, 2, 2, 2)
        (make,) = self.chance.choices(kinds, weights)
        return make(model)

    def embeddings(self, model: str) -> Ask:
        asked = {"model": model, "input": self.some()}
        return self._json("embeddings", "/v1/embeddings", asked)

    def completions(self, model: str) -> Ask:
        asked = {"model": model, "prompt": self.some(), "temperature": 0, "max_tokens": 9}
        return self._json("completions", "/v1/completions", asked)

    def chat(self, model: str) -> Ask:
        return self._json("chat", "/v1/chat/completions", self._chat(model))

    def stream(self, model: str) -> Ask:
        asked = self._chat(model) | {"stream": True, "stream_options": {"include_usage": True}}
        ask = self._json("stream", "/v1/chat/completions", asked)
        ask.streams = True
        return ask

    def _chat(self, model: str) -> dict[str, Any]:
        asked = {"model": model, "messages": [{"role": "user", "content": self.text()}],
                 "max_tokens": 9}  # fmt: skip
        return asked | self.chance.choice(({"temperature": 0}, {"seed": 4}, {"temperature": 0.7}))

    def embed(self, model: str) -> Ask:
        return self._json("embed", "/embed", {"inputs": self.some()})

    def predict(self, model: str) -> Ask:
        rows = [[self.chance.randrange(9), 2] for _ in range(self.chance.choice((1, 2, 6)))]
        return self._json("predict", f"/v1/models/{model}:predict", {"instances": rows})

    def infer(self, model: str) -> Ask:
        rows, steps = self.chance.choice((1, 2, 5)), self.chance.choice((2, 3))
        values = [self.chance.randrange(9) for _ in range(rows * steps)]
        raw = struct.pack(f"<{len(values)}q", *values)
        ids = {"name": "ids", "datatype": "INT64", "shape": [rows, steps],
               "parameters": {"binary_data_size": len(raw)}}  # fmt: skip
        wish = {"name": "out", "parameters": {"binary_data": True}}
        text = dumps({"inputs": [ids], "outputs": [wish]})
        fields = [f"Inference-Header-Content-Length: {len(text)}",
                  "Content-Type: application/octet-stream"]  # fmt: skip
        return Ask("infer", "POST", f"/v2/models/{model}/infer", text + raw, text + raw, fields)

    def page(self, model: str) -> Ask:
        method = self.chance.choice(("GET", "GET", "HEAD", "PUT", "POST", "DELETE"))
        body = self.text().encode() * 20 if method in ("PUT", "POST") else b""
        ask = Ask("page", method, f"/files/{self.chance.randrange(5)}?a=%2e/..", body, body)
        ask.fields += self._accepts()
        ask.chunked = bool(body) and self.chance.random() < 0.5
        return ask

    def _json(self, kind: str, target: str, asked: Any) -> Ask:
        ask = Ask(kind, "POST", target, dumps(asked))
        ask.body = ask.plain
        form, coding = "application/json", self.chance.random()
        if self.chance.random() < 0.2:
            form, ask.body = MSGPACK, msgpack.packb(asked)
        if coding < 0.15:
            ask.body = gzip.compress(ask.body)
            ask.fields.append("Content-Encoding: gzip")
        ask.fields += [f"Content-Type: {form}", *self._accepts()]
        if self.chance.random() < 0.2:
            ask.fields.append(f"Accept: {self.chance.choice((MSGPACK, 'application/json'))}")
        ask.chunked = self.chance.random() < 0.2
        return ask

    def _accepts(self) -> list[str]:
        codings = ("", "", "gzip", "br", "zstd;q=0.5, gzip", "identity")
        chosen = self.chance.choice(codings)
        return [f"Accept-Encoding: {chosen}"] if chosen else []
