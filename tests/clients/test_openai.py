"""The openai client, unchanged, through remora to llama.cpp and to the stand-in."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import openai
import pytest

from proxy.demo.llama import LlamaServer
from proxy.demo.standin import StandIn

Remora = Callable[[str], str]
CHAT = [{"role": "user", "content": "hi"}]


def connect(url: str) -> openai.OpenAI:
    return openai.OpenAI(base_url=f"{url}/v1", api_key="none", max_retries=0, timeout=20)


@pytest.fixture
def client(llama: LlamaServer, remora: Remora) -> Iterator[openai.OpenAI]:
    """The client, through remora, to llama.cpp."""
    with connect(remora(llama.url)) as connected:
        yield connected


def test_completion_is_what_the_server_said(llama: LlamaServer, client: openai.OpenAI) -> None:
    """Text and usage through remora equal those of a direct call."""
    with connect(llama.url) as direct:
        answers = [
            each.completions.create(model="m", prompt="hello", max_tokens=32, temperature=0)
            for each in (direct, client)
        ]
    assert answers[0].choices == answers[1].choices
    assert answers[0].usage == answers[1].usage
    assert len(answers[1].choices[0].text.split()) == 32


def test_streamed_chat_is_the_whole_chat(client: openai.OpenAI) -> None:
    """The pieces of a streamed chat make up the text of the same chat in one piece."""
    whole = client.chat.completions.create(model="m", messages=CHAT, max_tokens=32, temperature=0)
    with client.chat.completions.create(
        model="m", messages=CHAT, max_tokens=32, temperature=0, stream=True
    ) as stream:
        pieces = [chunk.choices[0].delta.content for chunk in stream if chunk.choices]
    said = [piece for piece in pieces if piece]
    assert len(said) == 32
    assert "".join(said) == whole.choices[0].message.content


def test_an_error_of_the_server_keeps_its_type(client: openai.OpenAI) -> None:
    """llama.cpp's 400 reaches the client as BadRequestError; the next call works.

    llama.cpp closes its connection after an error, so the next call needs a fresh one.
    """
    with pytest.raises(openai.BadRequestError, match="prompt"):
        client.completions.create(model="m", prompt=3, max_tokens=1)  # type: ignore[arg-type]
    answer = client.completions.create(model="m", prompt="a", max_tokens=1)
    assert answer.choices[0].text


def test_models(client: openai.OpenAI) -> None:
    """The list of models comes through."""
    assert len(client.models.list().data) == 1


def test_text_outside_ascii(client: openai.OpenAI) -> None:
    """A prompt in any script goes through as it is: the token counts agree with a direct call."""
    prompt = "Grüße 鮫 🦈"
    answer = client.completions.create(model="m", prompt=prompt, max_tokens=1, temperature=0)
    assert answer.usage is not None
    # One for the beginning, one for the leading space, one a character or byte of what has none.
    assert answer.usage.prompt_tokens == 2 + len("Gr") + len("üß".encode()) + len("e  ") + len(
        "鮫🦈".encode()
    )


def test_embeddings(standin: StandIn, remora: Remora) -> None:
    """Embeddings through remora equal those of a direct call, in the order asked."""
    with connect(standin.url) as direct, connect(remora(standin.url)) as through:
        answers = [
            each.embeddings.create(model="m", input=["a", "b"]) for each in (direct, through)
        ]
    assert answers[0].data == answers[1].data
    assert answers[1].data[0].embedding != answers[1].data[1].embedding


def test_a_long_body(standin: StandIn, remora: Remora) -> None:
    """A request of 8 MiB arrives whole: the server counts each of its words."""
    words = 2 * 1024 * 1024
    with connect(remora(standin.url)) as client:
        answer = client.completions.create(model="m", prompt="abc " * words, max_tokens=1)
    assert answer.usage is not None
    assert answer.usage.prompt_tokens == words
