"""Answers of which nobody can tell whose part is whose, and requests that pass as they are."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxy.apis import by_name
from proxy.apis.batch.asked import MAX_ITEMS
from proxy.apis.batch.instances import MAX_LEVELS
from proxy.apis.batch.openai import MAX_CHOICES
from proxy.apis.batch.rest import MAX_KINDS
from proxy.apis.items import Parted
from proxy.exchange import Request, Response, Stream

from . import servers
from .servers import COMPACT, Server

ASKED: dict[str, tuple[str, dict[str, Any], Server, Callable[[Any], list[Any]]]] = {
    "embeddings": (
        "/v1/embeddings", {"input": ["a", "b", "c"]}, servers.embeddings, lambda body: body["data"],
    ),
    "completions": (
        "/v1/completions", {"prompt": ["a", "b"], "n": 2}, servers.completions,
        lambda body: body["choices"],
    ),
    "embed": ("/embed", {"inputs": ["a", "b", "c"]}, servers.embed, lambda body: body),
    "predict": ("/predict", {"inputs": [["a"], ["b"]]}, servers.predict, lambda body: body),
    "rerank": ("/rerank", {"query": "q", "texts": ["a", "b"]}, servers.rerank, lambda body: body),
    "instances": (
        "/v1/models/m:predict", {"instances": [[1], [2]]}, servers.scalars,
        lambda body: body["predictions"],
    ),
}  # fmt: skip
INDEXED = ["embeddings", "completions", "rerank"]


def ask(path: str, body: Any, *headers: tuple[bytes, bytes]) -> Request:
    raw = body if isinstance(body, bytes | Stream) else orjson.dumps(body)
    return Request(b"POST", path.encode(), list(headers), raw)


def asked(name: str) -> tuple[Parted, Any, Callable[[Any], list[Any]]]:
    """A request taken apart, the answer to it, and where the list is in that."""
    path, body, server, list_of = ASKED[name]
    request = ask(path, body)
    parted = request.api.parts(request)
    assert parted is not None
    return parted, json.loads(server(request, COMPACT).body), list_of


def split(parted: Parted, body: Any, status: int = 200, *headers: tuple[bytes, bytes]) -> Any:
    raw = body if isinstance(body, bytes | Stream) else json.dumps(body).encode()
    return parted.split(Response(status, list(headers), raw), parted.items)


@pytest.mark.parametrize("name", ASKED)
def test_a_sound_answer(name: str) -> None:
    """What the tests below break is taken apart as long as it is whole, in whatever order."""
    parted, body, list_of = asked(name)
    whole = split(parted, body)
    assert whole is not None and len(whole.answers) == len(parted.items)
    if name in INDEXED:
        list_of(body).reverse()
        again = split(parted, body)
        assert again is not None and again.answers == whole.answers


@pytest.mark.parametrize("name", ASKED)
def test_missing_or_too_many(name: str) -> None:
    """One answer less, one more, none, or something else than a list."""
    parted, body, list_of = asked(name)
    found = list_of(body)
    last = found.pop()
    assert split(parted, body) is None
    found += [last, last]
    assert split(parted, body) is None
    found.pop()
    assert split(parted, body) is not None
    found.clear()
    assert split(parted, body) is None
    for other in (None, 3, "list", {}, {"error": "no"}, [], [None], b"", b"[", b"{"):
        assert split(parted, other) is None


@pytest.mark.parametrize("name", INDEXED)
@pytest.mark.parametrize("index", [0, 9, -1, 1.0, "1", None, True, 10**12, [], {}])
def test_a_wrong_index(name: str, index: Any) -> None:
    """Twice, out of range, or no whole number; and none at all."""
    parted, body, list_of = asked(name)
    found = sorted(list_of(body), key=lambda one: one["index"])
    list_of(body)[:] = found
    found[1]["index"] = index
    assert split(parted, body) is None
    del found[1]["index"]
    assert split(parted, body) is None


@pytest.mark.parametrize(
    ("raw", "sound"),
    [(b'[{"index":0,"score":1},{"index":1,"score":2}]', True),
     (b'[{"index":0,"score":1},{"index":1,"score":NaN}]', False),
     (b'[{"index":0,"score":1},{"index":1,"score":1e999}]', False),
     (b'[{"index":0,"score":1},{"index":1,"score":"2"}]', False),
     (b'[{"index":0,"score":1},{"index":1}]', False),
     (b'[{"index":0,"score":1},{"index":1,"index":1,"score":2}]', False)],
)  # fmt: skip
def test_a_rank_needs_its_score(raw: bytes, sound: bool) -> None:
    """Without a number to sort by, no client's own order is known."""
    parted, _, _ = asked("rerank")
    assert (split(parted, raw) is not None) is sound


@pytest.mark.parametrize("piece", [b"1.5", b'"a"', b"{}", b'{"label":"a"}', b"null"])
def test_an_embedding_is_a_list(piece: bytes) -> None:
    """A classifier at TEI's root answers a pair with two labels: they are no two vectors."""
    request = ask("/", {"inputs": ["a", "b"]})
    parted = request.api.parts(request)
    assert parted is not None
    assert split(parted, b"[[1],[2]]") is not None
    assert split(parted, b"[[1],%b]" % piece) is None


@pytest.mark.parametrize("name", ASKED)
def test_an_answer_that_is_not_to_be_read(name: str) -> None:
    """Failed, compressed, or still on its way."""
    parted, body, _ = asked(name)
    for status in (199, 300, 400, 503):
        assert split(parted, body, status) is None
    assert split(parted, body, 200, (b"Content-Encoding", b"gzip")) is None
    assert split(parted, body, 201, (b"Content-Encoding", b"Identity")) is not None
    assert split(parted, Stream()) is None


@pytest.mark.parametrize("name", ASKED)
def test_bytes_that_are_marks(name: str) -> None:
    """A control character is in no JSON: wherever one stands, nothing is put in its place."""
    parted, body, _ = asked(name)
    raw = json.dumps(body).encode()
    for place in range(len(raw) + 1):
        for mark in (b"\0", b"\1", b"\x0e"):
            shares = split(parted, raw[:place] + mark + raw[place:])
            if shares is not None and mark == b"\0":
                pytest.fail(f"taken apart with a NUL at {place}")
            if shares is not None:
                joined = parted.join(shares.rest, shares.answers).body
                assert isinstance(joined, bytes) and joined.count(mark) == 1


@pytest.mark.parametrize("name", ASKED)
def test_any_damage(name: str) -> None:
    """Bytes cut out, put in or changed: taken apart or not, and never an exception."""
    parted, body, _ = asked(name)
    raw = json.dumps(body).encode()

    @given(st.integers(0, len(raw)), st.integers(0, 6), st.binary(max_size=4))
    def check(at: int, less: int, more: bytes) -> None:
        shares = split(parted, raw[:at] + more + raw[at + less :])
        if shares is not None:
            parted.join(shares.rest, shares.answers)

    check()


@given(st.sampled_from(list(ASKED)), st.binary(max_size=30))
def test_any_answer(name: str, raw: bytes) -> None:
    """Whatever a server answers."""
    parted, _, _ = asked(name)
    split(parted, raw)


# -- usage that cannot be shared


@pytest.mark.parametrize(
    "usage",
    [b'{"prompt_tokens":1.5}', b'{"prompt_tokens":-1}', b'{"prompt_tokens":[1]}', b"[]", b"3",
     b'{"a":{"b":{"c":1}}}', b'{"prompt_tokens":1,"prompt_tokens":1}',
     b"{%b}" % b",".join(b'"k%d":1' % n for n in range(MAX_KINDS + 1))],
)  # fmt: skip
def test_usage_that_cannot_be_shared(usage: bytes) -> None:
    """Fractions, lists, objects in objects, or more than MAX_KINDS numbers."""
    parted, body, _ = asked("embeddings")
    del body["usage"]
    raw = json.dumps(body).encode()
    assert split(parted, raw[:-1] + b',"usage":%b}' % usage) is None


def test_as_many_numbers_as_can_be_shared() -> None:
    """MAX_KINDS of them, and what is no number."""
    parted, body, _ = asked("embeddings")
    body["usage"] = {f"k{n}": n for n in range(MAX_KINDS)} | {"a": None, "b": "x", "c": False}
    shares = split(parted, body)
    assert shares is not None
    joined = parted.join(shares.rest, shares.answers).body
    assert json.loads(joined)["usage"] == body["usage"]


# -- requests that pass as they are

UNTOUCHED: list[tuple[str, Any]] = [
    ("/v1/embeddings", {"input": []}),
    ("/v1/embeddings", {"input": ["a", [1]]}),
    ("/v1/embeddings", {"input": [["a"]]}),
    ("/v1/embeddings", {"input": [[]]}),
    ("/v1/embeddings", {"input": [1, "a"]}),
    ("/v1/embeddings", {"input": [True]}),
    ("/v1/embeddings", {"input": {"text": "a"}}),
    ("/v1/embeddings", {"input": "a", "messages": [{}]}),
    ("/v1/embeddings", {"messages": []}),
    ("/v1/embeddings", ["a"]),
    ("/v1/embeddings", b'{"input":"a","input":"b"}'),
    ("/v1/embeddings", b'{"\\u0069nput":"a"}'),
    ("/v1/embeddings", b'{"input":"a","x":NaN}'),
    ("/v1/embeddings", b'{"input":"\\ud800"}'),
    ("/v1/embeddings", b'{"input":"a"} x'),
    ("/v1/embeddings", Stream()),
    ("/v1/chat/completions", {"messages": [], "prompt": "a"}),
    ("/v1/responses", {"input": ["a", "b"]}),
    ("/v1/completions", {"prompt": "a", "stream": True}),
    ("/v1/completions", {"prompt": "a", "stream": 0}),
    ("/v1/completions", {"prompt": "a", "stream": "true"}),
    ("/v1/completions", {"prompt": "a", "seed": 1}),
    ("/v1/completions", {"prompt": "a", "seed": 1, "temperature": 0.2}),
    ("/v1/completions", {"prompt": "a", "n": 0}),
    ("/v1/completions", {"prompt": "a", "n": True}),
    ("/v1/completions", {"prompt": "a", "n": "2"}),
    ("/v1/completions", {"prompt": "a", "n": MAX_CHOICES + 1}),
    ("/v1/completions", {"prompt": "a", "prompt_embeds": "x"}),
    ("/v1/completions", {}),
    ("/completions", {"prompt": ["a", "b"]}),
    ("/embed", {"inputs": {"a": 1}}),
    ("/embed", {"inputs": [["a"]]}),
    ("/similarity", {"inputs": {"source_sentence": "a", "sentences": ["b"]}}),
    ("/tokenize", {"inputs": ["a"]}),
    ("/predict", {"inputs": ["a", "b", "c"]}),
    ("/predict", {"inputs": []}),
    ("/predict", {"inputs": [[]]}),
    ("/predict", {"inputs": [["a", "b", "c"]]}),
    ("/predict", {"inputs": ["a", ["b"]]}),
    ("/predict", {"inputs": [["a"], "b"]}),
    ("/predict", {"inputs": [[1]]}),
    ("/rerank", {"query": "a", "texts": []}),
    ("/rerank", {"query": "a", "texts": [1]}),
    ("/rerank", {"query": 1, "texts": ["a"]}),
    ("/rerank", {"query": "a", "documents": ["b"]}),
    ("/", {"inputs": "a"}),
    ("/", {"inputs": ["a"], "parameters": {"x": 1}}),
    ("/generate", {"inputs": "a"}),
    ("/v1/models/m:predict", {"instances": {}}),
    ("/v1/models/m:predict", {"instances": []}),
    ("/v1/models/m:predict", {"inputs": [1]}),
    ("/v1/models/m:predict", {"instances": [[1], [1, 2]]}),
    ("/v1/models/m:predict", {"instances": [{"a": 1}, {"b": 1}]}),
    ("/v1/models/m:explain", {"instances": [1]}),
    ("/health", {"inputs": ["a"]}),
]


@pytest.mark.parametrize(("path", "body"), UNTOUCHED, ids=str)
def test_left_alone(path: str, body: Any) -> None:
    """Streams, seeds, unknown shapes, and what two servers could read in two ways."""
    request = ask(path, body)
    assert request.api.parts(request) is None


@pytest.mark.parametrize("more", [{"parameters": {"top_k": 3}}, {"stream": False}], ids=str)
def test_a_generation_on_a_route_of_tei_is_left_alone(more: Any) -> None:
    """What is posted to `/` is told by its body, whatever the route says."""
    plain, told = ask("/", {"inputs": "a"}), ask("/", {"inputs": "a", **more})
    plain.route_api = told.route_api = by_name["tei"]
    assert plain.api.parts(plain) is not None
    assert told.api.parts(told) is None


@pytest.mark.parametrize("name", ASKED)
def test_left_alone_by_its_head(name: str) -> None:
    """Another method, or a compressed body."""
    path, body, *_ = ASKED[name]
    request = ask(path, body)
    api = request.api
    assert api.parts(request) is not None
    request.method = b"PUT"
    assert api.parts(request) is None
    assert api.parts(ask(path, body, (b"content-encoding", b"gzip"))) is None
    assert api.parts(ask(path, body, (b"content-encoding", b"identity"))) is not None


def test_a_cloud_event_is_left_alone() -> None:
    """Its head tells of one event."""
    request = ask("/v1/models/m:predict", {"instances": [1]}, (b"Ce-Id", b"7"))
    assert request.api.parts(request) is None


def test_seeds_that_draw_nothing() -> None:
    """At temperature 0 a seed changes nothing, and a null is none."""
    for body in ({"prompt": "a", "seed": 1, "temperature": 0}, {"prompt": "a", "seed": None}):
        request = ask("/v1/completions", body)
        assert request.api.parts(request) is not None


def test_items_are_bounded() -> None:
    """MAX_ITEMS are taken apart, one more is not."""
    for path, key in (("/v1/embeddings", "input"), ("/embed", "inputs")):
        request = ask(path, {key: ["a"] * MAX_ITEMS})
        parted = request.api.parts(request)
        assert parted is not None and len(parted.items) == MAX_ITEMS
        request = ask(path, {key: ["a"] * (MAX_ITEMS + 1)})
        assert request.api.parts(request) is None


def test_choices_are_bounded() -> None:
    """MAX_CHOICES are taken."""
    request = ask("/v1/completions", {"prompt": "a", "n": MAX_CHOICES})
    assert request.api.parts(request) is not None


def test_levels_are_bounded() -> None:
    """MAX_LEVELS in an instance are looked into; with one more the request is left alone."""
    deep: Any = [1]
    for _ in range(MAX_LEVELS - 1):
        deep = [deep, deep] if deep == [1] else [deep]
    request = ask("/v1/models/m:predict", {"instances": [deep]})
    assert request.api.parts(request) is not None
    request = ask("/v1/models/m:predict", {"instances": [[deep]]})
    assert request.api.parts(request) is None


KEYS = ["input", "inputs", "prompt", "texts", "query", "instances", "n", "stream", "outputs"]
LEAVES = st.none() | st.booleans() | st.integers(-2, 2) | st.floats(-1, 1) | st.text(max_size=3)
JSON = st.recursive(
    LEAVES,
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(KEYS), inner, max_size=4)
    ),
    max_leaves=8,
)
PATHS = sorted({path for path, _ in UNTOUCHED} | {"/v2/models/m/infer"})


@given(st.sampled_from(PATHS), JSON)
def test_any_body(path: str, body: Any) -> None:
    """Whatever JSON a body is, each API takes it apart or leaves it, and can send what it took."""
    request = ask(path, body)
    for api in by_name.values():
        parted = api.parts(request)
        if parted is not None:
            assert parted.items
            hash(parted.group)
            orjson.loads(parted.call(parted.items).body)
            parted.split(Response(200, [], b"[]"), parted.items)


# -- groups

APART: list[tuple[str, Any, Any]] = [
    ("/v1/embeddings", {"input": "a"}, {"input": [1]}),
    ("/v1/embeddings", {"input": "a"}, {"input": "a", "dimensions": 4}),
    ("/v1/embeddings", {"input": "a", "model": "m"}, {"input": "a", "model": "n"}),
    ("/v1/embeddings", {"input": "a", "x": 1}, {"input": "a", "x": 1.0}),
    ("/v1/embeddings", {"input": "a", "encoding_format": "float"},
     {"input": "a", "encoding_format": "base64"}),
    ("/v1/embeddings", b'{"input":"a","x":18446744073709551616}',
     b'{"input":"a","x":18446744073709551617}'),
    ("/v1/completions", {"prompt": "a", "n": 2}, {"prompt": "a"}),
    ("/embed", {"inputs": "a"}, {"inputs": "a", "normalize": None}),
    ("/rerank", {"query": "a", "texts": ["c"]}, {"query": "b", "texts": ["c"]}),
    ("/", {"inputs": ["a"]}, {"inputs": [["a"]]}),
    ("/v1/models/m:predict", {"instances": [[1]]}, {"instances": [[1, 2]]}),
    ("/v1/models/m:predict", {"instances": [[1]]}, {"instances": [["1"]]}),
    ("/v1/models/m:predict", {"instances": [[1]]}, {"instances": [[1.5]]}),
    ("/v1/models/m:predict", {"instances": [[[1], [2]]]}, {"instances": [[[1], [True]]]}),
    ("/v1/models/m:predict", {"instances": [{"a": 1}]}, {"instances": [{"b": 1}]}),
    ("/v1/models/m:predict", {"instances": [1]}, {"instances": [1], "signature_name": "s"}),
]  # fmt: skip

TOGETHER: list[tuple[str, Any, Any]] = [
    ("/v1/embeddings", {"input": "a", "model": "m", "user": "u"},
     b'{ "user":"u", "input" : ["b"],\n"model":"m" }'),
    ("/v1/embeddings", {"input": [1]}, {"input": [[1], [2, 3]]}),
    ("/v1/completions", {"prompt": "a"}, {"prompt": ["b", "c"]}),
    ("/predict", {"inputs": "a"}, {"inputs": [["a", "b"]]}),
    ("/v1/models/m:predict", {"instances": [[1, 2.5], [3, 4]]}, {"instances": [[1.5, 2]]}),
    ("/v1/models/m:predict", {"instances": [{"a": [1], "b": "x"}]},
     {"instances": [{"b": "longer", "a": [2]}]}),
]  # fmt: skip


def group(path: str, body: Any, *headers: tuple[bytes, bytes]) -> Any:
    request = ask(path, body, *headers)
    parted = request.api.parts(request)
    assert parted is not None
    return parted.group


@pytest.mark.parametrize(("path", "one", "other"), APART, ids=str)
def test_kept_apart(path: str, one: Any, other: Any) -> None:
    """Another parameter, another kind of item, other digits: another group."""
    assert group(path, one) != group(path, other)


@pytest.mark.parametrize(("path", "one", "other"), TOGETHER, ids=str)
def test_together(path: str, one: Any, other: Any) -> None:
    """The order of members, white space around them, and how many items there are, part nobody."""
    assert group(path, one) == group(path, other)


def test_headers_that_say_how_to_read() -> None:
    """Content-Type and Accept part, but for the ways of writing that JSON will do."""
    path, body = "/embed", {"inputs": "a"}
    plain = group(path, body)
    assert group(path, body, (b"content-type", b"application/json")) != plain
    for accept in (b"*/*", b"Application/JSON", b"text/html, */*"):
        assert group(path, body, (b"Accept", accept)) == plain
    assert group(path, body, (b"accept", b"application/msgpack")) != plain
    assert group(path, body, (b"x-other", b"1")) == plain


# -- what is said of an item


@pytest.mark.parametrize(
    ("one", "other", "alike"),
    [(b'"a"', b'"\\u0061"', True), (b'"\\/"', b'"/"', True), (b"[1, 2]", b"[1,2]", True),
     (b'"a b"', b'"ab"', False), (b"[12]", b"[1,2]", False), (b'"1"', b'"1 "', False)],
)  # fmt: skip
def test_keys(one: bytes, other: bytes, alike: bool) -> None:
    """Equal for the same text however it is escaped, and for the same ids however they are set."""
    keys = []
    for piece in (one, other):
        request = ask("/v1/embeddings", b'{"input":%b}' % piece)
        parted = request.api.parts(request)
        assert parted is not None
        keys.append(parted.items[0].key)
    assert (keys[0] == keys[1]) is alike


@pytest.mark.parametrize(
    ("path", "body", "sizes"),
    [("/v1/embeddings", {"input": ["", "abcd", "abcde", "é" * 4]}, [0, 1, 2, 2]),
     ("/v1/embeddings", {"input": [[7] * 9, [1]]}, [9, 1]),
     ("/predict", {"inputs": [["abcd", "efgh"]]}, [2]),
     ("/v1/models/m:predict", {"instances": [[1.5] * 7]}, [7]),
     ("/v1/models/m:predict", {"instances": [{"t": "abcdefgh", "u": "i"}]}, [3]),
     ("/v1/models/m:predict", {"instances": ["abcdefgh"]}, [2]),
     ("/v1/models/m:predict", {"instances": [{"k": 1, "ids": [1] * 5}]}, [5])],
)  # fmt: skip
def test_sizes(path: str, body: Any, sizes: list[int]) -> None:
    """About four bytes of text to a token; of token ids and lists of numbers how many there are."""
    request = ask(path, body)
    parted = request.api.parts(request)
    assert parted is not None
    assert [item.size for item in parted.items] == sizes
    assert all(item.weight == len(item.data) + 1 for item in parted.items)
