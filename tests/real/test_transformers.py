"""`transformers serve` on a tiny model of random weights, asked with the openai client."""

from __future__ import annotations

import re
import subprocess
from collections.abc import Iterator
from pathlib import Path

import openai
import orjson
import pytest

from .conftest import HERE, Install, Proxy
from .environments import TRANSFORMERS
from .processes import Server, free_port
from .wire import Answer, exchange, request

# The fixtures install and start servers, each under a bound of its own.
pytestmark = pytest.mark.timeout(60, func_only=True)

CHAT = "/v1/chat/completions"
TOKENS = 24


@pytest.fixture(scope="module")
def model(install: Install, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of the model, which is also its name."""
    folder = tmp_path_factory.mktemp("tiny") / "llama"
    script = HERE / "servers" / "tiny_llama.py"
    subprocess.run([str(install(TRANSFORMERS)), str(script), str(folder)], check=True, timeout=120)
    return folder


@pytest.fixture(scope="module")
def direct(
    install: Install, model: Path, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Server]:
    port = free_port()
    program = install(TRANSFORMERS).with_name("transformers")
    command = [str(program), "serve", str(model), "--host", "127.0.0.1", "--port", str(port)]
    command += ["--device", "cpu"]
    log = tmp_path_factory.mktemp("transformers") / "log"
    ready = f"http://127.0.0.1:{port}/health"
    environ = {"HF_HUB_OFFLINE": "1", "OMP_NUM_THREADS": "1"}
    with Server(command, port, log, ready=ready, environ=environ) as server:
        yield server


@pytest.fixture(scope="module")
def through(direct: Server, proxy: Proxy) -> Server:
    return proxy(direct.url)


def ask(server: Server, model: Path, stream: bool) -> Answer:
    """One chat, with the id that the server would make up given to it; `created` zeroed."""
    body = orjson.dumps(
        {
            "model": str(model),
            "messages": [{"role": "user", "content": "what is a remora?"}],
            "max_tokens": TOKENS,
            "stream": stream,
        }
    )
    named = (("Content-Type", "application/json"), ("X-Request-Id", "one-of-a-kind"))
    answer = exchange(server.port, request("POST", CHAT, body, named))
    still = re.sub(rb'"created":\d+', b'"created":0', answer.body)
    return Answer(answer.status_line, answer.headers, still)


def test_a_chat_is_byte_for_byte_the_servers(direct: Server, through: Server, model: Path) -> None:
    """Same status line, header lines and body, except for the second it was created in."""
    expected = ask(direct, model, stream=False)
    assert expected.status == 200
    assert ask(through, model, stream=False) == expected


def test_a_stream_that_ends_without_done_passes_as_it_is(
    direct: Server, through: Server, model: Path
) -> None:
    """remora adds no `[DONE]` and takes nothing away: the events are the server's."""
    expected = ask(direct, model, stream=True)
    assert expected.status == 200
    assert b"[DONE]" not in expected.body, "this server was chosen because it sends none"
    assert expected.body.count(b"data: ") > 3
    assert ask(through, model, stream=True) == expected


def test_the_openai_client_reads_the_same_text_whole_and_streamed(
    direct: Server, through: Server, model: Path
) -> None:
    """Through remora a chat says what it says directly, and its stream adds up to the same."""
    texts = []
    for server in (direct, through):
        with openai.OpenAI(base_url=f"{server.url}/v1", api_key="none", max_retries=0) as client:
            said = client.chat.completions.create(
                model=str(model),
                messages=[{"role": "user", "content": "what is a remora?"}],
                max_tokens=TOKENS,
            )
            assert said.usage is not None and said.usage.completion_tokens == TOKENS
            texts.append(said.choices[0].message.content)
            pieces, reasons = [], []
            with client.chat.completions.create(
                model=str(model),
                messages=[{"role": "user", "content": "what is a remora?"}],
                max_tokens=TOKENS,
                stream=True,
            ) as stream:
                for event in stream:
                    pieces.append(event.choices[0].delta.content or "")
                    reasons.append(event.choices[0].finish_reason)
            texts.append("".join(pieces))
            assert reasons[-1] == "length"
    assert texts[0]
    assert texts == [texts[0]] * 4


def test_the_servers_own_error_reaches_the_client(through: Server) -> None:
    """A model the server does not have is refused by it, in its words, not by remora."""
    with (
        openai.OpenAI(base_url=f"{through.url}/v1", api_key="none", max_retries=0) as client,
        pytest.raises(openai.BadRequestError) as refused,
    ):
        client.chat.completions.create(
            model="nobody", messages=[{"role": "user", "content": "hello"}]
        )
    assert "nobody" in refused.value.response.json()["detail"]
