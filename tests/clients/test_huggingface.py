"""huggingface_hub's InferenceClient, unchanged, through remora to the stand-in for TGI."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest
from huggingface_hub import InferenceClient, close_session
from huggingface_hub.errors import ValidationError

from proxy.demo.standin import StandIn

PROMPT = "What does a remora do?"
CHAT = [{"role": "user", "content": PROMPT}]


@pytest.fixture
def client(standin: StandIn, remora: Callable[[str], str]) -> Iterator[InferenceClient]:
    """The client, through remora, to the stand-in."""
    with InferenceClient(remora(standin.url), timeout=20) as connected:
        yield connected
    close_session()


@pytest.fixture
def direct(standin: StandIn) -> Iterator[InferenceClient]:
    """The client straight to the stand-in."""
    with InferenceClient(standin.url, timeout=20) as connected:
        yield connected


def test_text_generation(client: InferenceClient, direct: InferenceClient) -> None:
    """A text through remora equals that of a direct call."""
    text = client.text_generation(PROMPT, max_new_tokens=12)
    assert text == direct.text_generation(PROMPT, max_new_tokens=12)
    assert len(text.split()) == 12


def test_text_generation_with_details(client: InferenceClient, direct: InferenceClient) -> None:
    """Details, with every token and the prompt's, come through whole."""
    answers = [
        each.text_generation(PROMPT, max_new_tokens=4, details=True, decoder_input_details=True)
        for each in (client, direct)
    ]
    assert answers[0] == answers[1]
    details = answers[0].details
    assert details is not None
    assert (details.finish_reason, details.generated_tokens) == ("length", 4)
    assert (len(details.tokens), len(details.prefill)) == (4, 5)


def test_text_generation_streamed(client: InferenceClient) -> None:
    """Streamed tokens make up the text of the same call in one piece."""
    whole = client.text_generation(PROMPT, max_new_tokens=12)
    pieces = list(client.text_generation(PROMPT, max_new_tokens=12, stream=True))
    assert len(pieces) == 12
    assert "".join(pieces) == whole


def test_text_generation_streamed_with_details(client: InferenceClient) -> None:
    """The last event of a stream carries the text and the reason of its end."""
    events = list(client.text_generation(PROMPT, max_new_tokens=3, stream=True, details=True))
    assert [event.index for event in events] == [1, 2, 3]
    assert [event.generated_text is None for event in events] == [True, True, False]
    assert events[-1].generated_text == "".join(event.token.text for event in events)
    assert events[-1].details is not None
    assert events[-1].details.finish_reason == "length"


def test_chat_completion(client: InferenceClient) -> None:
    """A chat and the same chat streamed say the same."""
    whole = client.chat_completion(CHAT, max_tokens=6).choices[0].message.content
    chunks = client.chat_completion(CHAT, max_tokens=6, stream=True)
    pieces = [chunk.choices[0].delta.content or "" for chunk in chunks]
    assert whole is not None
    assert len(whole.split()) == 6
    assert "".join(pieces) == whole


@pytest.mark.parametrize("stream", [False, True])
def test_an_error_of_the_server_keeps_its_type(client: InferenceClient, stream: bool) -> None:
    """TGI's 422 reaches the client as ValidationError, with the server's message."""
    with pytest.raises(ValidationError, match="`temperature` must be strictly positive"):
        client.text_generation(PROMPT, temperature=0, stream=stream)
