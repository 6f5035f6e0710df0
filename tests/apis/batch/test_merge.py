"""Requests merged into one call get what each would have got alone."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxy.apis import Generic
from proxy.apis.items import Parted
from proxy.exchange import Request, Response

from . import servers
from .servers import COMPACT, STYLES, Server, Style, merged, told

TEXT = st.text(st.characters(codec="utf-8"), max_size=12) | st.sampled_from(
    ["a", "],[", '"', "\\", "}{", "\u2028"]
)
IDS = st.lists(st.integers(0, 50_000), min_size=1, max_size=6)
PAIR = st.lists(TEXT, min_size=1, max_size=2)
NUMBERS = st.lists(st.integers(-9, 9), min_size=3, max_size=3)


def some(item: st.SearchStrategy[Any]) -> st.SearchStrategy[list[Any]]:
    return st.lists(item, min_size=1, max_size=4)


def inputs() -> st.SearchStrategy[list[Any]]:
    """The `input` of several requests of a group: texts or ids, bare or in lists."""
    return some(TEXT | some(TEXT)) | some(IDS | some(IDS))


def fixed(**members: Any) -> st.SearchStrategy[dict[str, Any]]:
    return st.fixed_dictionaries({}, optional={key: st.just(one) for key, one in members.items()})


GENERIC = Generic("/in/puts", "/out/0/a~1b")

FORMS: dict[str, tuple[str, Server, str, Any, Any]] = {
    "embeddings": (
        "/v1/embeddings", servers.embeddings, "input", inputs(),
        fixed(encoding_format="base64", dimensions=4, model="m", user="u"),
    ),
    "completions": (
        "/v1/completions", servers.completions, "prompt", inputs(),
        fixed(n=3, temperature=0.5, stream=False),
    ),
    "embed": ("/embed", servers.embed, "inputs", inputs(), fixed(truncate=True, normalize=False)),
    "embed at the root": ("/", servers.embed, "inputs", some(some(TEXT)), fixed(normalize=True)),
    "embed_sparse": ("/embed_sparse", servers.embed_sparse, "inputs", inputs(), fixed()),
    "predict": (
        "/predict", servers.predict, "inputs", some(TEXT | PAIR | some(PAIR)),
        fixed(truncate=True),
    ),
    "predict at the root": ("/", servers.predict, "inputs", some(some(PAIR)), fixed()),
    "rerank": (
        "/rerank", servers.rerank, "texts", some(some(TEXT)),
        st.fixed_dictionaries({"query": TEXT}, optional={"return_text": st.just(True)}),
    ),
    "instances": (
        "/v1/models/m:predict", servers.instances, "instances",
        some(some(st.fixed_dictionaries({"a": TEXT, "b": NUMBERS}))), fixed(signature_name="s"),
    ),
    "scalars": (
        "/v1/models/m:predict", servers.scalars, "instances", some(some(NUMBERS)), fixed(),
    ),
}  # fmt: skip


def requests_of(path: str, key: str, values: list[Any], rest: dict[str, Any]) -> list[Request]:
    """Bodies in different hands: with and without white space and escapes, members turned round."""
    headers = [(b"Content-Type", b"application/json"), (b"Accept-Encoding", b"gzip")]
    made = []
    for place, value in enumerate(values):
        body: dict[str, Any] = {**rest, key: value} if place % 2 else {key: value, **rest}
        escaped = place % 3 == 0 and all(isinstance(one, int | bool) for one in rest.values())
        raw = json.dumps(body, ensure_ascii=escaped, indent=place % 4 or None)
        made.append(Request(b"POST", path.encode(), list(headers), raw.encode()))
    return made


def taken_apart(requests: list[Request]) -> list[Parted]:
    parted = [request.api.parts(request) for request in requests]
    assert None not in parted
    return parted  # type: ignore[return-value]


def same(got: Response, alone: Response, style: Style) -> None:
    """Equal to the last digit; with no white space in the server's hand, to the last byte."""
    assert got.status == alone.status
    assert got.reason == alone.reason
    but = (b"etag", b"content-length")
    assert got.headers == [pair for pair in alone.headers if pair[0].lower() not in but]
    assert told(got.body) == told(alone.body)
    if style is COMPACT:
        assert got.body == alone.body


@pytest.mark.parametrize("name", FORMS)
@pytest.mark.parametrize("style", STYLES, ids=["compact", "spaced", "lines"])
def test_each_gets_what_it_would_have_got_alone(name: str, style: Style) -> None:
    """Any requests of a group, bare or with many items, in any hand: body, numbers and head."""
    path, server, key, values, rest = FORMS[name]

    @given(values, rest)
    def check(values: list[Any], rest: dict[str, Any]) -> None:
        requests = requests_of(path, key, values, rest)
        answers = merged(taken_apart(requests), server, style, requests[0])
        assert answers is not None
        for request, got in zip(requests, answers, strict=True):
            same(got, server(request, style), style)

    check()


@pytest.mark.parametrize("name", FORMS)
def test_answers_can_be_kept_and_put_elsewhere(name: str) -> None:
    """An item's answer of one call fits into the answer to any other request of the group."""
    path, server, key, values, rest = FORMS[name]

    @given(values, rest, st.randoms(use_true_random=False))
    def check(values: list[Any], rest: dict[str, Any], random: Any) -> None:
        requests = requests_of(path, key, values, rest)
        parted = taken_apart(requests)
        known, rests = {}, []
        for one in parted:
            call = one.call(one.items)
            response = server(Request(b"POST", path.encode(), call.headers, call.body), COMPACT)
            shares = one.split(response, one.items)
            assert shares is not None
            rests.append(shares.rest)
            known.update(zip((item.key for item in one.items), shares.answers, strict=True))
        for request, one in zip(requests, parted, strict=True):
            left = random.choice(rests)
            before = left.body, list(left.headers)
            got = one.join(left, servers.kept_apart([known[item.key] for item in one.items]))
            same(got, server(request, COMPACT), COMPACT)
            assert (left.body, left.headers) == before, "join changed what is kept"

    check()


@given(some(some(TEXT)), st.booleans(), st.sampled_from(STYLES))
def test_generic(values: list[list[str]], spaced: bool, style: Style) -> None:
    """Lists that pointers lead to, in the request and in the answer."""
    requests = []
    for value in values:
        body = {"in": {"puts": value, "k": 1}, "model": "m"}
        raw = json.dumps(body, separators=(", ", ": ") if spaced else (",", ":"))
        requests.append(Request(b"POST", b"/any", [], raw.encode()))
        requests[-1].route_api = GENERIC
    answers = merged(taken_apart(requests), servers.generic, style, requests[0])
    assert answers is not None
    for request, got in zip(requests, answers, strict=True):
        same(got, servers.generic(request, style), style)


@pytest.mark.parametrize(
    ("items", "results", "body", "answer"),
    [("", "", b' ["a","b"]\n', b"[1.50,2]"), ("/x", "/y", b'{"x":["a","b"]}', b'{"y":[{},[]]}'),
     ("/0/x", "/1", b'[{"x":["a","b"]},2]', b'["z",["u","v"]]')],
)  # fmt: skip
def test_pointers_of_any_depth(items: str, results: str, body: bytes, answer: bytes) -> None:
    """The whole body may be the list, or a value deep in it."""
    request = Request(b"POST", b"/", [], body)
    parted = Generic(items, results).parts(request)
    assert parted is not None
    assert parted.call(parted.items).body == body
    shares = parted.split(Response(200, [], answer), parted.items)
    assert shares is not None
    assert parted.join(shares.rest, shares.answers).body == answer
    assert parted.split(Response(200, [], answer + b"]"), parted.items) is None


def test_ids_are_each_clients_own() -> None:
    """The first client keeps the id that the server gave; each other has it with a number."""
    for path, server in (
        ("/v1/completions", servers.completions),
        ("/v1/embeddings", servers.embeddings),
    ):
        key = "prompt" if "comp" in path else "input"
        requests = requests_of(path, key, ["a", "b", ["c", "d"]], {})
        parted = taken_apart(requests)
        items = [item for one in parted for item in one.items]
        call = parted[0].call(items)
        response = server(Request(b"POST", path.encode(), [], call.body), COMPACT)
        shares = parted[0].split(response, items)
        assert shares is not None
        given_ = [
            json.loads(one.join(shares.rest, shares.answers[: len(one.items)], number).body)["id"]
            for number, one in enumerate(parted)
        ]
        id_ = json.loads(response.body)["id"]
        assert given_ == [id_, f"{id_}-1", f"{id_}-2"]


def test_the_head_of_a_call() -> None:
    """The client's own fields, in order, but for the length; no compressed answer is asked for."""
    headers = [
        (b"Host", b"h"), (b"content-LENGTH", b"5"), (b"Accept-Encoding", b"br"), (b"X-Own", b"1"),
    ]  # fmt: skip
    request = Request(b"POST", b"/embed", list(headers), b'{"inputs":"a"}')
    parted = request.api.parts(request)
    assert parted is not None
    assert parted.call(parted.items).headers == [
        (b"Host", b"h"), (b"X-Own", b"1"), (b"Accept-Encoding", b"identity"),
    ]  # fmt: skip
    assert request.headers == headers


def test_the_head_of_an_answer() -> None:
    """What belongs to the whole body, or to one client of several, is not for each of them."""
    headers = [
        (b"Content-Length", b"9"), (b"Set-Cookie", b"a=b"), (b"ETag", b"x"), (b"Digest", b"y"),
        (b"Content-Digest", b"z"), (b"Server", b"s"), (b"X-Compute-Characters", b"odd"),
    ]  # fmt: skip
    request = Request(b"POST", b"/embed", [], b'{"inputs":"a"}')
    parted = request.api.parts(request)
    assert parted is not None
    shares = parted.split(Response(200, headers, b"[[1]]"), parted.items)
    assert shares is not None
    assert parted.join(shares.rest, shares.answers).headers == headers[-2:]
