"""A client in one form, a server in the other: bodies and fields, both ways."""

from __future__ import annotations

import asyncio

import msgpack
import orjson
import pytest

from tests.road.wire import LAST_CHUNK, chunk, head, ok
from tests.transcode.conftest import MakeRig
from tests.transcode.rig import JSON, MSGPACK, echo, said, unpacked

ASKED = {"model": "m", "input": ["a", "b"], "x": 1.5}
ANSWER = {"data": [1, 2.5, None, "ž"], "usage": {"n": 3}}
NAMES = ["application/msgpack", "application/x-msgpack", "application/vnd.msgpack"]


@pytest.mark.parametrize("name", NAMES)
async def test_a_msgpack_client_of_a_json_server(name: str, rig: MakeRig) -> None:
    """The server reads and writes JSON and hears of nothing else; the client's own name for
    MessagePack comes back.
    """
    one = await rig(said(ANSWER))
    fields = (f"Content-Type: {name}; v=1", f"Accept: {name}", "Accept-Encoding: gzip, br")
    answer = await one.ask(msgpack.packb(ASKED), *fields)
    assert (answer.status, answer["content-type"]) == (200, name)
    assert answer.body == msgpack.packb(ANSWER)
    assert answer["content-length"] == str(len(answer.body))
    asked = one.server.last
    assert asked.body == orjson.dumps(ASKED)
    assert (asked["content-type"], asked["accept"]) == (JSON, JSON)
    assert asked["content-length"] == str(len(asked.body))
    assert asked["accept-encoding"] is None
    assert asked.names.count("content-length") == asked.names.count("content-type") == 1
    assert one.count("remora_transcoded_total", route="/*", part="request") == 1
    assert one.count("remora_transcoded_total", route="/*", part="answer") == 1


@pytest.mark.parametrize("name", NAMES)
async def test_a_json_client_of_a_msgpack_server(name: str, rig: MakeRig) -> None:
    """The server reads and writes MessagePack, by the name that the file has for it."""
    one = await rig(said(ANSWER, of=name), upstream="msgpack", media_type=name)
    answer = await one.json(ASKED, "Accept: application/json, text/plain;q=0.1")
    assert (answer.status, answer["content-type"]) == (200, JSON)
    assert answer.body == orjson.dumps(ANSWER)
    asked = one.server.last
    assert asked.body == msgpack.packb(ASKED)
    assert (asked["content-type"], asked["accept"]) == (name, f"{name}, text/plain;q=0.1")


async def test_a_json_client_of_a_json_server_changes_nothing(rig: MakeRig) -> None:
    """No byte of the body, not one that is no JSON at all, and no field: it is not even read."""
    raw = ok(b'{"a":1,"a":NaN', "Content-Type: application/json", 'ETag: "x"', "Date: d")
    one = await rig(raw, max_body=4)
    body = b' {"b" :1e400,\xff'
    answer = await one.ask(body, "Content-Type: application/json", "Accept-Encoding: gzip")
    assert answer.body == b'{"a":1,"a":NaN'
    assert answer.names == ["content-length", "content-type", "etag", "date"]
    assert answer["etag"] == '"x"'
    assert one.server.last.body == body
    assert one.server.last["accept-encoding"] == "gzip"


async def test_a_msgpack_client_of_a_msgpack_server_changes_no_body(rig: MakeRig) -> None:
    """Binary, extensions and keys that JSON has none for pass."""
    raw = msgpack.packb({1: b"\xff", "e": msgpack.ExtType(5, b"x")})
    one = await rig(echo, upstream="msgpack")
    answer = await one.ask(raw, f"Content-Type: {MSGPACK}", f"Accept: {MSGPACK}")
    assert answer.body == raw and one.server.last.body == raw


@pytest.mark.parametrize("serves", ["json", "msgpack"])
@pytest.mark.parametrize(
    "kind",
    ["multipart/form-data; boundary=x", "application/octet-stream", "text/plain",
     "application/x-www-form-urlencoded", "application/json-seq", None],
)  # fmt: skip
async def test_any_other_type_passes(kind: str | None, serves: str, rig: MakeRig) -> None:
    """Neither the request's bytes nor the answer's are looked at, whatever is accepted."""
    body = b"--x\r\n\x81\xa1a\x01{"
    one = await rig(ok(body, "Content-Type: image/png", 'ETag: "x"'), upstream=serves)
    for accept in (f"Accept: {MSGPACK}, image/*", f"Accept: {JSON}, image/*", "Accept: */*"):
        fields = [accept] if kind is None else [accept, f"Content-Type: {kind}"]
        answer = await one.ask(body, *fields)
        assert (answer.body, answer["etag"], answer["vary"]) == (body, '"x"', None)
        assert one.server.last.body == body


async def test_a_body_that_comes_in_pieces(rig: MakeRig) -> None:
    """Of the client in chunks, of the server in chunks: each is read whole and goes on whole."""
    parts = orjson.dumps(ANSWER)
    raw = head("HTTP/1.1 200 OK", f"Content-Type: {JSON}", "Transfer-Encoding: chunked")
    raw += chunk(parts[:5]) + chunk(parts[5:]) + LAST_CHUNK
    one = await rig(raw)
    client = await one.client()
    client.send(
        head("POST /v1/embeddings HTTP/1.1", "Host: h", f"Content-Type: {MSGPACK}",
             "Transfer-Encoding: chunked")
    )  # fmt: skip
    packed = msgpack.packb(ASKED)
    client.send(chunk(packed[:3]) + chunk(packed[3:]) + LAST_CHUNK)
    assert unpacked(await client.answer()) == ANSWER
    assert one.server.last.body == orjson.dumps(ASKED)


async def test_an_answer_without_a_length(rig: MakeRig) -> None:
    """It ends with the server's connection."""
    raw = head("HTTP/1.1 200 OK", f"Content-Type: {JSON}", "Connection: close")

    async def answer(peer: object, message: object) -> None:
        peer.send(raw + b'{"a":1}')  # type: ignore[attr-defined]
        peer.close()  # type: ignore[attr-defined]

    one = await rig(answer)
    assert unpacked(await one.pack(ASKED)) == {"a": 1}


async def test_an_empty_body_is_no_document(rig: MakeRig) -> None:
    """It passes both ways, whatever its type says."""
    one = await rig(ok(b"", f"Content-Type: {JSON}"))
    answer = await one.ask(b"", f"Content-Type: {MSGPACK}", f"Accept: {MSGPACK}")
    assert (answer.status, answer.body) == (200, b"")
    assert one.server.last.body == b""


async def test_an_error_of_the_server_is_converted(rig: MakeRig) -> None:
    """With its status, and so is problem+json."""
    one = await rig(
        said({"error": {"message": "no"}}, status="422 Unprocessable"),
        said({"title": "no"}, of="application/problem+json", status="400 Bad Request"),
        ok(b"oops", "Content-Type: text/plain", status="500 Oops"),
    )
    answer = await one.pack(ASKED)
    assert (answer.status, unpacked(answer)) == (422, {"error": {"message": "no"}})
    answer = await one.pack(ASKED)
    assert (answer.status, unpacked(answer)) == (400, {"title": "no"})
    answer = await one.pack(ASKED)
    assert (answer.status, answer.body, answer["content-type"]) == (500, b"oops", "text/plain")


async def test_fields_of_a_converted_answer(rig: MakeRig) -> None:
    """A weak etag, Vary, no digest of bytes that are gone; the rest as it came."""
    fields = ('ETag: "abc"', "Content-Digest: sha-256=:x:", "Accept-Ranges: bytes", "X-Model: m")
    one = await rig(said(ANSWER, *fields, "Vary: Origin"))
    answer = await one.pack(ASKED)
    assert answer["etag"] == 'W/"abc"'
    assert [value for name, value in answer.headers if name.lower() == b"vary"] == [
        b"Origin", b"Accept",
    ]  # fmt: skip
    assert answer["x-model"] == "m"
    assert not {"content-digest", "accept-ranges"} & set(answer.names)


async def test_a_conditional_request(rig: MakeRig) -> None:
    """The client's weak tag goes on as it is: servers compare weakly. So does the 304's come back
    weak, and varying.
    """
    one = await rig(head("HTTP/1.1 304 Not Modified", 'ETag: "abc"'))
    answer = await one.ask(None, f"Accept: {MSGPACK}", 'If-None-Match: W/"abc"', method="GET")
    assert (answer.status, answer["etag"], answer["vary"]) == (304, 'W/"abc"', "Accept")
    assert one.server.last["if-none-match"] == 'W/"abc"'
    answer = await one.ask(None, f"Accept: {JSON}", 'If-None-Match: "abc"', method="GET")
    assert (answer.status, answer["etag"], answer["vary"]) == (304, '"abc"', "Accept")


@pytest.mark.parametrize("method", ["GET", "HEAD"])
async def test_an_answer_that_caches_may_keep_varies(method: str, rig: MakeRig) -> None:
    """Also where it was not converted: another client would get it otherwise."""
    one = await rig(
        said(ANSWER, 'ETag: "x"') if method == "GET"
        else head("HTTP/1.1 200 OK", f"Content-Type: {JSON}", "Content-Length: 9", 'ETag: "x"')
    )  # fmt: skip
    answer = await one.ask(None, "Accept: application/json", method=method)
    assert (answer["vary"], answer["etag"]) == ("Accept", '"x"')
    assert answer["content-length"] is not None


async def test_one_form_for_all_varies_by_nothing(rig: MakeRig) -> None:
    """Where clients may have one form only, no answer depends on Accept."""
    one = await rig(said(ANSWER, of=MSGPACK), upstream="msgpack", clients=["json"])
    answer = await one.ask(None, "Accept: */*", method="GET")
    assert (answer["content-type"], answer["vary"]) == (JSON, None)


async def test_head_says_what_get_would(rig: MakeRig) -> None:
    """The type and the weak tag, and no length, which only converting would tell."""
    raw = head("HTTP/1.1 200 OK", f"Content-Type: {JSON}", "Content-Length: 9", 'ETag: "x"')
    one = await rig(raw)
    answer = await one.ask(None, f"Accept: {MSGPACK}", method="HEAD")
    assert (answer["content-type"], answer["etag"]) == (MSGPACK, 'W/"x"')
    assert answer["content-length"] is None and answer["vary"] == "Accept"


async def test_a_range_is_not_asked_for_where_bytes_change(rig: MakeRig) -> None:
    """The client's part of its form is no part of the server's."""
    one = await rig(said(ANSWER))
    fields = (f"Accept: {MSGPACK}", "Range: bytes=0-3", 'If-Range: "x"')
    answer = await one.ask(None, *fields, method="GET")
    assert unpacked(answer) == ANSWER
    assert not {"range", "if-range"} & set(one.server.last.names)


async def test_the_client_of_an_interim_answer(rig: MakeRig) -> None:
    """A client that waits for 100 Continue gets it before its body is read."""
    one = await rig(said(ANSWER))
    client = await one.client()
    packed = msgpack.packb(ASKED)
    client.send(
        head("POST /v1/embeddings HTTP/1.1", "Host: h", f"Content-Type: {MSGPACK}",
             f"Content-Length: {len(packed)}", "Expect: 100-continue")
    )  # fmt: skip
    assert (await client.head()).status == 100
    client.send(packed)
    assert unpacked(await client.answer()) == ANSWER


async def test_the_layers_inside_see_json(rig: MakeRig) -> None:
    """A cache inside stores one form: the JSON client gets what the other one's call brought,
    each in its own.
    """
    one = await rig(said(ANSWER), inside=[{"cache": {"items": False}}])
    packed = await one.pack(ASKED, "Accept: application/msgpack")
    assert "fwd=uri-miss" in (packed["cache-status"] or "")
    plain = await one.json(ASKED, "Accept: application/json")
    again = await one.pack(ASKED, "Accept: application/msgpack")
    assert "hit" in (plain["cache-status"] or "") and "hit" in (again["cache-status"] or "")
    assert plain.body == orjson.dumps(ANSWER) and unpacked(again) == unpacked(packed) == ANSWER
    assert len(one.server.seen) == 1
    assert plain["etag"] and again["etag"] == f"W/{plain['etag']}"


async def test_a_large_answer_through_the_cache(rig: MakeRig) -> None:
    """More than a stream holds at once: the call that others may share hands it over in turns."""
    large = {"texts": ["x" * 1000] * 300}
    one = await rig(said(large), inside=[{"cache": {"items": False}}])
    packed = await asyncio.wait_for(one.pack(ASKED), 10)
    assert "fwd=uri-miss" in (packed["cache-status"] or "")
    assert unpacked(packed) == large


async def test_whose_api_it_is_is_found_from_what_the_server_gets(rig: MakeRig) -> None:
    """At `/`, where the body decides: a layer outside that asked early changes nothing."""
    outside = [{"tests.transcode.layers:AsksEarly": {}}]
    inside = [{"tests.transcode.layers:Refuses": {}}]
    one = await rig(said(ANSWER), inside=inside, outside=outside)
    answer = await one.pack({"inputs": ["a"]}, target="/")
    assert unpacked(answer) == {"error": "no", "error_type": "Validation", "code": "refused"}


async def test_filters_of_layers_inside_see_the_servers_bytes(rig: MakeRig) -> None:
    """They run before the answer is converted."""
    one = await rig(said({"a": 1}), inside=[{"tests.transcode.layers:Doubles": {}}])
    assert unpacked(await one.pack(ASKED)) == {"a": 2}


async def test_the_api_of_a_json_client_stays_its_own(rig: MakeRig) -> None:
    """At `/`, where the body decides, also once that is MessagePack: an error is told as ever."""
    inside = [{"tests.transcode.layers:Refuses": {}}]
    one = await rig(said(ANSWER), upstream="msgpack", inside=inside)
    answer = await one.json({"inputs": ["a"]}, target="/")
    assert orjson.loads(answer.body)["error_type"] == "Validation"


async def test_trailers_of_a_converted_answer_are_left_out(rig: MakeRig) -> None:
    """They may sign bytes that are gone."""
    raw = head("HTTP/1.1 200 OK", f"Content-Type: {JSON}", "Transfer-Encoding: chunked")
    one = await rig(raw + chunk(b"{}") + b"0\r\nRepr-Digest: x\r\n\r\n")
    answer = await one.pack(ASKED)
    assert unpacked(answer) == {} and answer.trailers == []
    assert (await one.json(ASKED)).trailers == [(b"Repr-Digest", b"x")]
