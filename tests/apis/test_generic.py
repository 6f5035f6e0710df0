"""An API of which the file tells the lists."""

from __future__ import annotations

import json

import pytest

from proxy.apis import Generic
from proxy.errors import BadRequest
from proxy.exchange import Request
from tests.conftest import Serve

GENERIC = Generic("/inputs", "/outputs")


def test_errors_are_plain_json() -> None:
    """Message and code, in an answer and as the last event of a stream."""
    told = {"error": "no", "code": "bad_request"}
    kind, body = GENERIC.error(BadRequest("no"))
    assert kind == b"application/json" and json.loads(body) == told
    event = GENERIC.error_event(BadRequest("no"))
    assert json.loads(event.removeprefix(b"data: ")) == told
    assert GENERIC.fails_stream(event.removeprefix(b"data: ").strip())


@pytest.mark.parametrize("body", [b'{"inputs":["some text","more"],"model":"m"}', b"[]", b"{"])
def test_what_it_knows(body: bytes) -> None:
    """Its list's text, and a model's name; nothing of time, chance or tokens."""
    request = Request(b"POST", b"/any", [], body)
    known = body.startswith(b'{"')
    assert GENERIC.prompt(request).tokens == (4 if known else 0)
    assert GENERIC.model(request) == ("m" if known else "")
    assert not GENERIC.owns(b"POST", b"/any") and not GENERIC.owns_body(request)
    assert not GENERIC.deterministic(request)
    assert not GENERIC.streams(request) and not GENERIC.ends_stream(b"[DONE]")


def test_a_stream_is_left_alone() -> None:
    """Whoever asks for one waits for events."""
    request = Request(b"POST", b"/any", [], b'{"inputs":["a"],"stream":true}')
    assert GENERIC.streams(request) and GENERIC.parts(request) is None


@pytest.mark.parametrize("body", [b'{"inputs":"a"}', b'{"inputs":[]}', b'{"x":["a"]}', b"", b"3"])
def test_no_list(body: bytes) -> None:
    """What is no list of anything has no items."""
    assert GENERIC.parts(Request(b"POST", b"/any", [], body)) is None
    assert GENERIC.parts(Request(b"PUT", b"/any", [], b'{"inputs":["a"]}')) is None


def test_groups() -> None:
    """Kinds and sizes of items, and everything around the list, part requests."""

    def group(body: bytes) -> object:
        parted = GENERIC.parts(Request(b"POST", b"/any", [], body))
        assert parted is not None
        return parted.group

    alike = [b'{"inputs":["a"],"x":1}', b'{ "x":1, "inputs" : ["b","c"] }']
    other = [b'{"inputs":["a"],"x":2}', b'{"inputs":[[1]],"x":1}', b'{"inputs":[[1,2]],"x":1}']
    assert group(alike[0]) == group(alike[1])
    assert len({group(body) for body in alike + other}) == 4


async def test_a_route_of_a_file_has_it(serve: Serve) -> None:
    """Its errors reach clients of that route, and of no other."""
    running = await serve(
        "http://127.0.0.1:1",
        routes=[
            {"match": {"path": "/own"}, "api": {"generic": {"items": "/a", "results": "/b"}}},
            {"match": {"path": "/*"}},
        ],
    )
    client = await running.connect()
    own = await client.exchange("POST", "/own", body=b"{}")
    assert json.loads(own.body)["code"] == "upstream_connect_failed"
    other = await client.exchange("POST", "/other", body=b"{}")
    assert other.body.startswith(b"upstream_connect_failed: ")
