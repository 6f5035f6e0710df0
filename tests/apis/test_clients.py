"""The installed clients raise what they are meant to raise on remora's errors. No network."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import httpx2
import openai
import pytest
from huggingface_hub import InferenceClient
from huggingface_hub import errors as hf
from huggingface_hub.utils import _http as hf_http

from proxy.apis import render
from proxy.errors import (
    BadRequest,
    BodyTooLarge,
    ConnectFailed,
    NoRoute,
    ProxyError,
    Unavailable,
    UpstreamClosed,
    UpstreamTimeout,
)
from proxy.exchange import Request

CHAT = (
    b'data: {"id":"1","object":"chat.completion.chunk","created":1,"model":"m",'
    b'"choices":[{"index":0,"delta":{"content":"Hel"},"finish_reason":null}]}\n\n'
)
TOKEN = (
    b'data: {"index":1,"token":{"id":1,"text":"Hel","logprob":0.0,"special":false},'
    b'"generated_text":null,"details":null}\n\n'
)


def remora(error: ProxyError, after: bytes = b"") -> httpx2.MockTransport:
    """Stands for remora: answers with `error`, or streams `after` and then its error event."""

    def answer(sent: httpx2.Request) -> httpx2.Response:
        request = Request(sent.method.encode(), sent.url.raw_path, [], sent.read())
        if after:
            events = after + request.api.error_event(error)
            return httpx2.Response(
                200, headers={"content-type": "text/event-stream"}, content=events
            )
        response = render(error, request.api)
        headers = [(name, value) for name, value in response.headers]
        return httpx2.Response(response.status, headers=headers, content=response.body)

    return httpx2.MockTransport(answer)


@pytest.fixture
def openai_client() -> Iterator[Callable[[httpx2.MockTransport], openai.OpenAI]]:
    opened: list[openai.OpenAI] = []

    def connect(transport: httpx2.MockTransport) -> openai.OpenAI:
        client = openai.OpenAI(
            base_url="http://remora.test/v1",
            api_key="none",
            max_retries=0,
            http_client=httpx2.Client(transport=transport),
        )
        opened.append(client)
        return client

    yield connect
    for client in opened:
        client.close()


@pytest.fixture
def hf_client() -> Iterator[Callable[[httpx2.MockTransport], InferenceClient]]:
    def connect(transport: httpx2.MockTransport) -> InferenceClient:
        hf_http.set_client_factory(lambda: httpx2.Client(transport=transport))
        return InferenceClient(model="http://remora.test", token="hf_none")

    yield connect
    hf_http.set_client_factory(hf_http.default_client_factory)


MESSAGES = [{"role": "user", "content": "hello"}]


@pytest.mark.parametrize(
    ("error", "raised"),
    [
        (BadRequest("told"), openai.BadRequestError),
        (ProxyError("told", status=401, code="no_key"), openai.AuthenticationError),
        (ProxyError("told", status=403, code="not_yours"), openai.PermissionDeniedError),
        (NoRoute("told"), openai.NotFoundError),
        (ProxyError("told", status=429, code="rate_limited"), openai.RateLimitError),
        (Unavailable("told"), openai.InternalServerError),
        (ConnectFailed("told"), openai.InternalServerError),
        (UpstreamTimeout("told"), openai.InternalServerError),
    ],
)
@pytest.mark.parametrize("stream", [False, True])
def test_openai_raises_by_status(
    openai_client: Callable[[httpx2.MockTransport], openai.OpenAI],
    error: ProxyError,
    raised: type[openai.APIStatusError],
    stream: bool,
) -> None:
    """openai's client raises the class of the status, with remora's message and code."""
    client = openai_client(remora(error))
    with pytest.raises(raised) as caught:
        client.chat.completions.create(model="m", messages=MESSAGES, stream=stream)
    assert caught.value.code == error.code
    assert "told" in caught.value.message


def test_openai_raises_in_mid_stream(
    openai_client: Callable[[httpx2.MockTransport], openai.OpenAI],
) -> None:
    """openai's client hands over the chunks that came, then raises on the error event."""
    client = openai_client(remora(UpstreamClosed("it went away"), after=CHAT))
    stream = client.chat.completions.create(model="m", messages=MESSAGES, stream=True)
    assert next(stream).choices[0].delta.content == "Hel"
    with pytest.raises(openai.APIError, match="it went away") as caught:
        next(stream)
    assert caught.value.code == "upstream_closed"
    assert caught.value.type == "server_error"


def test_openai_responses_raise_in_mid_stream(
    openai_client: Callable[[httpx2.MockTransport], openai.OpenAI],
) -> None:
    """The Responses API's stream, whose events carry names, raises on the same event."""
    first = (
        b"event: response.output_text.delta\n"
        b'data: {"type":"response.output_text.delta","item_id":"1","output_index":0,'
        b'"content_index":0,"delta":"Hel","sequence_number":1,"logprobs":[]}\n\n'
    )
    client = openai_client(remora(UpstreamClosed("it went away"), after=first))
    stream = client.responses.create(model="m", input="hello", stream=True)
    assert next(stream).type == "response.output_text.delta"
    with pytest.raises(openai.APIError, match="it went away"):
        next(stream)


@pytest.mark.parametrize(
    ("error", "raised"),
    [
        (BadRequest("told"), hf.ValidationError),
        (BodyTooLarge("told"), hf.ValidationError),
        (ProxyError("told", status=401, code="no_key"), hf.UnknownError),
        (ProxyError("told", status=429, code="rate_limited"), hf.OverloadedError),
        (Unavailable("told"), hf.OverloadedError),
        (ConnectFailed("told"), hf.GenerationError),
        (UpstreamTimeout("told"), hf.GenerationError),
    ],
)
@pytest.mark.parametrize("stream", [False, True])
def test_huggingface_raises_by_error_type(
    hf_client: Callable[[httpx2.MockTransport], InferenceClient],
    error: ProxyError,
    raised: type[Exception],
    stream: bool,
) -> None:
    """huggingface_hub POSTs generation to `/`, is known by its body, and raises TGI's class."""
    client = hf_client(remora(error))
    with pytest.raises(raised, match=r"^told$"):
        client.text_generation("hello", stream=stream, max_new_tokens=3)


@pytest.mark.parametrize("details", [False, True])
def test_huggingface_raises_in_mid_stream(
    hf_client: Callable[[httpx2.MockTransport], InferenceClient], details: bool
) -> None:
    """huggingface_hub hands over the tokens that came, then raises IncompleteGenerationError."""
    client = hf_client(remora(UpstreamClosed("it went away"), after=TOKEN))
    stream = iter(client.text_generation("hello", stream=True, details=details))
    first = next(stream)
    assert (first.token.text if details else first) == "Hel"
    with pytest.raises(hf.IncompleteGenerationError, match=r"^it went away$"):
        next(stream)


def test_huggingface_chat_raises_in_mid_stream(
    hf_client: Callable[[httpx2.MockTransport], InferenceClient],
) -> None:
    """huggingface_hub's chat speaks OpenAI's dialect, and raises on that error event, too."""
    client = hf_client(remora(UpstreamClosed("it went away"), after=CHAT))
    stream = iter(client.chat_completion(MESSAGES, stream=True))
    assert next(stream).choices[0].delta.content == "Hel"
    with pytest.raises(hf.TextGenerationError, match="it went away"):
        next(stream)


def test_huggingface_embeddings_show_the_message(
    hf_client: Callable[[httpx2.MockTransport], InferenceClient],
) -> None:
    """huggingface_hub POSTs embeddings to `/`, and shows the message of TEI's error object."""
    client = hf_client(remora(Unavailable("the queue is full", retry_after=2)))
    with pytest.raises(hf.HfHubHTTPError, match="the queue is full") as caught:
        client.feature_extraction("hello", normalize=True)
    assert caught.value.response.json()["error_type"] == "Overloaded"
    assert caught.value.response.headers["retry-after"] == "2"
