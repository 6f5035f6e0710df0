"""What cannot be said in the other form is refused: 400 or 413 to a request, 502 for an answer."""

from __future__ import annotations

import asyncio
import json
import random
from typing import Any

import msgpack
import orjson
import pytest

from tests.road.wire import chunk, head, ok
from tests.transcode import corpus
from tests.transcode.conftest import MakeRig
from tests.transcode.rig import JSON, MSGPACK, echo, said, unpacked


async def test_the_corpus_through_a_msgpack_server(rig: MakeRig) -> None:
    """Each document that is one comes back equal, each other one is a 400 with a code: no 500,
    and the connection goes on.
    """
    one = await rig(echo, upstream="msgpack", max_body=1 << 20)
    expected: dict[str, tuple[bytes, bool]] = {
        **{name: (text, True) for name, text in corpus.VALID.items()},
        **{name: (text, False) for name, text in corpus.INVALID.items()},
        **corpus.EITHER,
    }
    wrong = []
    for name, (text, kept) in expected.items():
        answer = await one.ask(text, f"Content-Type: {JSON}", f"Accept: {JSON}")
        if kept:
            good = answer.status == 200 and json.loads(answer.body) == json.loads(text)
        else:
            good = (answer.status, answer["x-remora-error"]) == (400, "request_not_convertible")
            good = good and b'"code":"request_not_convertible"' in answer.body
        if not good:
            wrong.append((name, answer.first_line, answer.body[:80]))
    assert not wrong
    assert len(expected) > 130
    assert not [text for text in (m.body for m in one.server.seen) if not text]


async def test_the_corpus_as_a_servers_answer(rig: MakeRig) -> None:
    """What is no document, or none that MessagePack can say, is a 502 with a code."""
    texts = {**corpus.INVALID, **{n: t for n, (t, kept) in corpus.EITHER.items() if not kept}}
    answers = [ok(text, f"Content-Type: {JSON}") for text in texts.values()]
    one = await rig(*answers, ok(b"[]", f"Content-Type: {JSON}"), max_body=1 << 20)
    for name in texts:
        answer = await one.pack({})
        assert answer.status == 502, name
        assert answer["x-remora-error"] == "answer_not_convertible"
        assert unpacked(answer)["error"]["code"] == "answer_not_convertible"
    assert unpacked(await one.pack({})) == []
    counted = one.count("remora_transcode_refused_total", route="/*", code="answer_not_convertible")
    assert counted == len(texts)


@pytest.mark.parametrize(
    "value",
    [{"a": b"x"}, {1: 2}, msgpack.ExtType(5, b""), float("nan"), {"a": [float("inf")]}],
    ids=str,
)
async def test_what_json_cannot_say(value: Any, rig: MakeRig) -> None:
    """400 to the client that sent it, 502 where the server did."""
    one = await rig(said({}))
    answer = await one.pack(value)
    assert (answer.status, answer["x-remora-error"]) == (400, "request_not_convertible")
    assert unpacked(answer)["error"]["code"] == "request_not_convertible"
    assert one.server.seen == []
    other = await rig(said(value, of=MSGPACK), upstream="msgpack")
    answer = await other.json({})
    assert (answer.status, answer["x-remora-error"]) == (502, "answer_not_convertible")
    assert orjson.loads(answer.body)["error"]["code"] == "answer_not_convertible"


async def test_fuzzed_msgpack_is_never_a_500(rig: MakeRig) -> None:
    """Random bytes, and good ones with some changed: the server gets JSON, or the client a 400."""
    one = await rig(echo)
    chance = random.Random(5)
    good = msgpack.packb({"model": "m", "input": ["a" * 40, [1, -1, 1.5, None, True, 2**40]]})
    for turn in range(400):
        if turn % 2:
            raw = chance.randbytes(chance.randint(1, 40))
        else:
            raw = bytearray(good)
            for _ in range(chance.randint(1, 4)):
                raw[chance.randrange(len(raw))] = chance.randrange(256)
        answer = await one.ask(bytes(raw), f"Content-Type: {MSGPACK}", f"Accept: {JSON}")
        assert answer.status in (200, 400), bytes(raw)
        if answer.status == 200:
            orjson.loads(one.server.last.body)


async def test_no_message_quotes_the_body(rig: MakeRig) -> None:
    """A body may hold what is not for logs."""
    one = await rig(echo, upstream="msgpack")
    answer = await one.ask(b'{"password":"hunter2",}', f"Content-Type: {JSON}")
    assert answer.status == 400 and b"hunter2" not in answer.body
    assert b"password" not in answer.body


@pytest.mark.parametrize("over", [0, 1])
async def test_the_size_of_a_request(over: int, rig: MakeRig) -> None:
    """As it comes, and as it goes on: `max_body` passes, one byte more is a 413."""
    body = msgpack.packb("x" * 500)
    one = await rig(said({}), max_body=len(body) - over)
    answer = await one.ask(body, f"Content-Type: {MSGPACK}", f"Accept: {MSGPACK}")
    assert answer.status == (413 if over else 200)
    # What doubles on its way: a control character takes one byte there and six here.
    body = msgpack.packb("\x01" * 100)
    two = await rig(said({}), max_body=602 - over)
    answer = await two.ask(body, f"Content-Type: {MSGPACK}", f"Accept: {MSGPACK}")
    assert answer.status == (413 if over else 200)
    if over:
        assert unpacked(answer)["error"]["code"] == "body_too_large"
        assert two.server.seen == []
        for rigged in (one, two):
            labels = {"route": "/*", "code": "body_too_large"}
            assert rigged.count("remora_transcode_refused_total", **labels) == 1


@pytest.mark.parametrize("over", [0, 1])
async def test_the_size_of_an_answer(over: int, rig: MakeRig) -> None:
    """As it comes, declared or not, and as it goes on: over `max_body` it is a 502."""
    text = orjson.dumps("x" * 20)
    declared = ok(text, f"Content-Type: {JSON}")
    chunked = head("HTTP/1.1 200 OK", f"Content-Type: {JSON}", "Transfer-Encoding: chunked")
    chunked += chunk(text[:15]) + chunk(text[15:]) + b"0\r\n\r\n"
    for raw in (declared, chunked):
        one = await rig(raw, max_body=len(text) - over)
        answer = await one.pack({})
        assert answer.status == (502 if over else 200)
        if over:
            assert unpacked(answer)["error"]["code"] == "answer_too_large"
    grows = said("\x01" * 100, of=MSGPACK)
    one = await rig(grows, upstream="msgpack", max_body=602 - over)
    assert (await one.json({})).status == (502 if over else 200)


@pytest.mark.parametrize(
    ("fields", "status", "body"),
    [
        (("Content-Encoding: gzip",), "200 OK", b"zipped"),
        (("Content-Range: bytes 0-2/9",), "206 Partial Content", b"[1]"),
    ],
)
async def test_an_answer_that_is_not_all_here(
    fields: tuple[str, ...], status: str, body: bytes, rig: MakeRig
) -> None:
    """Compressed or a part, though neither was asked for: 502, and the next one is well."""
    one = await rig(ok(body, f"Content-Type: {JSON}", *fields, status=status), said([]))
    answer = await one.pack({})
    assert (answer.status, answer["x-remora-error"]) == (502, "answer_not_convertible")
    assert unpacked(await one.pack({})) == []


async def test_an_answer_that_breaks_off(rig: MakeRig) -> None:
    """Before anything was sent: the server's failure keeps its status and code, in the client's
    form.
    """

    async def half(peer: Any, message: Any) -> None:
        peer.send(head("HTTP/1.1 200 OK", f"Content-Type: {JSON}", "Content-Length: 9") + b"[1")
        await peer.flush()
        peer.abort()

    one = await rig(half)
    answer = await one.pack({})
    assert (answer.status, unpacked(answer)["error"]["code"]) == (502, "upstream_closed")


async def test_a_client_that_leaves_while_its_answer_is_read(rig: MakeRig) -> None:
    """The server sees its connection closed."""
    left = asyncio.Event()

    async def half(peer: Any, message: Any) -> None:
        peer.send(head("HTTP/1.1 200 OK", f"Content-Type: {JSON}", "Content-Length: 9") + b"[1")
        began.set()
        await peer.ended()
        left.set()

    began = asyncio.Event()
    one = await rig(half)
    client = await one.client()
    client.ask("POST", "/v1/embeddings", f"Accept: {MSGPACK}", f"Content-Type: {JSON}", body=b"{}")
    await asyncio.wait_for(began.wait(), 5)
    client.abort()
    await asyncio.wait_for(left.wait(), 5)


# -- remora's own errors, for a client that speaks MessagePack


@pytest.mark.parametrize(
    ("target", "told"),
    [
        ("/v1/embeddings", {"error": {"message": "no", "type": "invalid_request_error",
                                      "param": None, "code": "refused"}}),
        ("/embed", {"error": "no", "error_type": "Validation", "code": "refused"}),
        ("/v2/models/m/infer", {"error": "no"}),
    ],
)  # fmt: skip
async def test_an_error_from_inside_is_told_in_msgpack(
    target: str, told: dict[str, Any], rig: MakeRig
) -> None:
    """In the API's own shape, its status, code and retry-after as ever."""
    one = await rig(said({}), inside=[{"tests.transcode.layers:Refuses": {}}])
    answer = await one.pack({"input": "a"}, target=target)
    assert (answer.status, answer["retry-after"]) == (422, "3")
    assert answer["x-remora-error"] == "refused"
    assert unpacked(answer) == told
    plain = await one.json({"input": "a"}, target=target)
    assert (plain["content-type"], orjson.loads(plain.body)) == (JSON, told)


async def test_an_error_of_no_known_api_stays_text(rig: MakeRig) -> None:
    """It has no JSON to make MessagePack of."""
    one = await rig(said({}), inside=[{"tests.transcode.layers:Refuses": {}}])
    answer = await one.pack({}, target="/of/ones/own")
    assert (answer["content-type"], answer.body) == ("text/plain; charset=utf-8", b"refused: no\n")


async def test_an_error_from_outside_is_told_as_the_api_does(rig: MakeRig) -> None:
    """The request did not get here: nobody has said in which form to answer."""
    one = await rig(said({}), outside=[{"tests.transcode.layers:Refuses": {}}])
    answer = await one.pack({})
    assert (answer.status, answer["content-type"]) == (422, JSON)


async def test_a_bug_inside_is_told_in_msgpack(
    rig: MakeRig, caplog: pytest.LogCaptureFixture
) -> None:
    """A 500 that tells nothing, in the client's form."""
    one = await rig(said({}), inside=[{"tests.transcode.layers:Breaks": {}}])
    answer = await one.pack({})
    assert (answer.status, unpacked(answer)["error"]["code"]) == (500, "internal_error")
    assert "failed" in caplog.text


async def test_a_server_that_is_down(rig: MakeRig) -> None:
    """A msgpack client of a msgpack server gets remora's error in MessagePack, too."""
    one = await rig(said({}), upstream="msgpack", inside=[{"tests.transcode.layers:Refuses": {}}])
    assert unpacked(await one.pack({}))["error"]["code"] == "refused"
