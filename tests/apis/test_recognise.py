"""Which API a request speaks."""

from __future__ import annotations

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxy.apis import MAX_PATHS, _owners, by_name, recognise
from proxy.exchange import Request, Stream

BY_PATH = [
    ("POST", "/v1/chat/completions", "openai"),
    ("POST", "/v1/chat/completions?api-version=1", "openai"),
    ("POST", "/v1/completions", "openai"),
    ("POST", "/v1/embeddings", "openai"),
    ("POST", "/v1/responses", "openai"),
    ("POST", "/v1/audio/transcriptions", "openai"),
    ("POST", "/v1/images/generations", "openai"),
    ("POST", "/v1/moderations", "openai"),
    ("POST", "/v1/rerank", "openai"),
    ("POST", "/v1/score", "openai"),
    ("POST", "/v1/tokenize", "openai"),
    ("GET", "/v1/models", "openai"),
    ("GET", "/v1/models/llama", "openai"),
    ("GET", "/v1/models/ft:predict", "openai"),
    ("DELETE", "/v1/models/ft:gpt", "openai"),
    ("POST", "/openai/v1/chat/completions", "openai"),
    ("POST", "/chat/completions", "openai"),
    ("POST", "/embeddings", "openai"),
    ("POST", "/v2/rerank", "openai"),
    ("POST", "/v1/models/iris:predict", "kserve"),
    ("POST", "/v1/models/iris:explain", "kserve"),
    ("POST", "/v1/models/iris/versions/2:predict", "kserve"),
    ("GET", "/v2", "kserve"),
    ("GET", "/v2/", "kserve"),
    ("GET", "/v2/health/ready", "kserve"),
    ("GET", "/v2/models/resnet", "kserve"),
    ("POST", "/v2/models/resnet/infer", "kserve"),
    ("POST", "/v2/models/resnet/versions/1/infer", "kserve"),
    ("POST", "/v2/models/llm/generate", "kserve"),
    ("POST", "/v2/models/llm/generate_stream", "kserve"),
    ("POST", "/v2/repository/index", "kserve"),
    ("GET", "/v2/systemsharedmemory/status", "kserve"),
    ("POST", "/generate", "tgi"),
    ("POST", "/generate_stream", "tgi"),
    ("POST", "/chat_tokenize", "tgi"),
    ("GET", "/info", "tgi"),
    ("POST", "/embed", "tei"),
    ("POST", "/embed?truncate=1", "tei"),
    ("POST", "/embed_all", "tei"),
    ("POST", "/embed_sparse", "tei"),
    ("POST", "/predict", "tei"),
    ("POST", "/similarity", "tei"),
    ("POST", "/decode", "tei"),
    ("POST", "/rerank", "tei"),
    ("POST", "/tokenize", "tei"),
    ("GET", "/", "plain"),
    ("POST", "/", "plain"),
    ("POST", "/invocations", "plain"),
    ("GET", "/health", "plain"),
    ("GET", "/metrics", "plain"),
    ("GET", "/generate", "plain"),
    ("GET", "/embed", "plain"),
    ("POST", "/v1", "plain"),
    ("POST", "/v10/chat", "plain"),
    ("POST", "/v2x/models", "plain"),
    ("POST", "/v2/unknown", "plain"),
    ("POST", "/V1/embeddings", "plain"),
    ("POST", "/generate/", "plain"),
    ("OPTIONS", "*", "plain"),
    ("GET", "", "plain"),
]

BY_BODY = [
    ("/", {"inputs": "hi"}, "tgi"),
    ("/", {"inputs": "hi", "parameters": {"max_new_tokens": 3}}, "tgi"),
    ("/", {"inputs": "hi", "parameters": {}, "stream": True}, "tgi"),
    ("/", {"inputs": "hi", "stream": False, "truncate": True}, "tgi"),
    ("/", {"inputs": "hi", "parameters": {"truncate": 8}}, "tgi"),
    ("/", {"inputs": ["a", "b"]}, "tei"),
    ("/", {"inputs": ["a"], "parameters": {}}, "tei"),
    ("/", {"inputs": [[1, 2], [3]]}, "tei"),
    ("/", {"inputs": "hi", "normalize": True}, "tei"),
    ("/", {"inputs": "hi", "truncate": False}, "tei"),
    ("/", {"inputs": "hi", "raw_scores": True}, "tei"),
    ("/", {"inputs": {"source_sentence": "a", "sentences": ["b"]}}, "tei"),
    ("/", {"query": "a", "texts": ["b", "c"]}, "tei"),
    ("/", {"inputs": ["a"], "parameters": {"max_new_tokens": 3}}, "plain"),
    ("/", {"inputs": 7}, "plain"),
    ("/", {"inputs": {"image": "x"}}, "plain"),
    ("/", {"jsonrpc": "2.0", "method": "m"}, "plain"),
    ("/", {"messages": []}, "plain"),
    ("/", {"query": "a"}, "plain"),
    ("/", ["inputs"], "plain"),
    ("/", "inputs", "plain"),
    ("/", None, "plain"),
    ("/invocations", {"inputs": "hi", "parameters": {}}, "tgi"),
    ("/invocations", {"inputs": ["a"]}, "tei"),
    ("/invocations", {"model": "m", "messages": []}, "openai"),
    ("/invocations", {"model": "m", "prompt": "hi"}, "openai"),
    ("/invocations", {"instances": []}, "plain"),
    ("/tokenize", {"inputs": "hi"}, "tei"),
    ("/tokenize", {"prompt": "hi"}, "openai"),
    ("/rerank", {"query": "a", "texts": ["b"]}, "tei"),
    ("/rerank", {"query": "a", "documents": ["b"]}, "openai"),
    ("/rerank", [], "tei"),
    ("/v1/models/iris:predict", {"input": [1]}, "kserve"),
]


def ask(method: str, target: str, body: bytes | Stream = b"") -> str:
    return recognise(Request(method.encode(), target.encode(), [], body)).name


@pytest.mark.parametrize(("method", "target", "name"), BY_PATH)
def test_path_decides(method: str, target: str, name: str) -> None:
    """A method and path that one API has are its own, the query and the body aside."""
    assert ask(method, target) == name
    if name != "plain":
        assert ask(method, target, Stream()) == name


@pytest.mark.parametrize(("path", "body", "name"), BY_BODY)
def test_body_decides_where_paths_are_shared(path: str, body: object, name: str) -> None:
    """On a path that several APIs have, the body tells which one it is for."""
    assert ask("POST", path, orjson.dumps(body)) == name


@pytest.mark.parametrize("body", [b"", b"{", b"\xff\xfe", b'{"inputs": "hi"} trailing'])
def test_a_body_that_is_no_json_is_nobodys(body: bytes) -> None:
    """Bytes that are no JSON, sent to a shared path, are recognised as plain and raise nothing."""
    assert ask("POST", "/", body) == "plain"


def test_a_streaming_body_is_left_alone() -> None:
    """A body still on its way is not touched; on `/` it counts as TGI's, however it arrived."""
    stream = Stream()
    stream.feed(b'{"inputs": "hi"}')
    assert ask("POST", "/", stream) == "tgi"
    assert stream.take() == b'{"inputs": "hi"}'


def test_the_routes_api_wins() -> None:
    """A route that names its API is believed, whatever the path says."""
    request = Request(b"POST", b"/v1/embeddings", [], b"{}")
    request.route_api = by_name["tei"]
    assert request.api is by_name["tei"]


def test_by_name_holds_every_api_under_its_own_name() -> None:
    """The names that a file may give are those of the five APIs, each once."""
    assert sorted(by_name) == ["kserve", "openai", "plain", "tei", "tgi"]
    assert all(api.name == name for name, api in by_name.items())


def test_plain_owns_nothing() -> None:
    """`plain` is what remains: it claims no path and no body."""
    plain = by_name["plain"]
    assert not plain.owns(b"GET", b"/")
    assert not plain.owns_body(Request(b"POST", b"/", [], b"{}"))


KEYS = ["inputs", "parameters", "stream", "truncate", "query", "texts", "sentences", "prompt"]
LEAVES = st.none() | st.booleans() | st.integers(-9, 9) | st.text(max_size=3)
JSON = st.recursive(
    LEAVES,
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(KEYS), inner, max_size=4)
    ),
    max_leaves=8,
)


@given(JSON)
def test_no_body_at_the_root_is_claimed_twice(body: object) -> None:
    """Whatever JSON is POSTed to the root, TGI and TEI never both claim it."""
    request = Request(b"POST", b"/", [], orjson.dumps(body))
    claims = [name for name in ("tgi", "tei") if by_name[name].owns_body(request)]
    assert len(claims) <= 1
    assert recognise(request).name == (claims[0] if claims else "plain")


@given(st.binary(max_size=6), st.binary(max_size=30))
def test_any_bytes_are_recognised(method: bytes, path: bytes) -> None:
    """Any method and path at all find an API and raise nothing."""
    assert recognise(Request(method, path, [])).name in by_name


def test_paths_are_remembered_up_to_a_bound() -> None:
    """Clients choose them; one that was forgotten is found again."""
    for number in range(2 * MAX_PATHS):
        assert recognise(Request(b"POST", b"/v1/%d" % number, [])) is by_name["openai"]
        assert _owners.cache_info().currsize <= MAX_PATHS
    assert recognise(Request(b"POST", b"/v1/0", [])) is by_name["openai"]
