"""Files of conf/, served as they stand before the stand-in, asked by real clients."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Iterator
from contextlib import ExitStack
from hashlib import sha256
from pathlib import Path
from typing import Any

import openai
import pytest
from huggingface_hub import InferenceClient, close_session
from huggingface_hub.errors import HfHubHTTPError, OverloadedError, TextGenerationError

from proxy.demo.child import Child, free_port, get
from proxy.demo.standin import StandIn

CONF = Path(__file__).parents[2] / "conf"
CHAT: list[Any] = [{"role": "user", "content": "What does a remora do?"}]
KEY = "a-key-of-the-test-of-conf"


class Stage:
    """Starts what a test needs, and ends it."""

    def __init__(self, folder: Path, patch: pytest.MonkeyPatch, left: ExitStack) -> None:
        self._folder, self._patch, self._left = folder, patch, left

    def standin(self, delay: float = 0.0) -> StandIn:
        return self._left.enter_context(StandIn(delay=delay))

    def remora(self, name: str, **environment: str) -> str:
        """The URL of a remora that serves conf/NAME.yaml.

        Without the admin port, which another one on this machine may have, and with a short drain.
        """
        port = free_port()
        for key, value in {"LISTEN": f"127.0.0.1:{port}", **environment}.items():
            self._patch.setenv(key, value)
        file = self._folder / f"{name}.yaml"
        text = (CONF / f"{name}.yaml").read_text()
        file.write_text(f"{text}\nadmin: off\ndrain: {{quiet: 0s, timeout: 1s}}\n")
        argv = [sys.executable, "-m", "proxy", "serve", "-c", str(file)]
        return self._left.enter_context(Child(f"remora {name}", argv, port, grace=0.2)).url


@pytest.fixture
def stage(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Stage]:
    with ExitStack() as left:
        yield Stage(tmp_path, monkeypatch, left)


def client(url: str, key: str = "none") -> openai.OpenAI:
    return openai.OpenAI(base_url=f"{url}/v1", api_key=key, max_retries=0, timeout=20)


def say(one: openai.OpenAI, **more: Any) -> Any:
    return one.chat.completions.create(model="m", messages=CHAT, max_tokens=6, **more)


def streamed(one: openai.OpenAI, **more: Any) -> str:
    with say(one, stream=True, **more) as stream:
        return "".join(part.choices[0].delta.content or "" for part in stream if part.choices)


def test_llamacpp(stage: Stage) -> None:
    """A chat, the same as a stream out of the cache; a queue that is full refuses the next one."""
    server = stage.standin(delay=0.2)
    url = stage.remora("llamacpp", UPSTREAM=server.url, CONCURRENT="1")
    assert get(int(url.rpartition(":")[2]), "/health")[0] == 200
    with client(url) as one:
        text = say(one, temperature=0).choices[0].message.content
        assert streamed(one, temperature=0) == text
        assert server.stats()["requests"] == 1

    async def flood() -> openai.APIStatusError:
        """One is answered, 40 wait, and of two more at least one is refused."""
        async with openai.AsyncOpenAI(
            base_url=f"{url}/v1", api_key="none", max_retries=0, timeout=20
        ) as many:
            calls = [
                asyncio.ensure_future(many.completions.create(model="m", prompt=f"{number}"))
                for number in range(43)
            ]
            done, left = await asyncio.wait(calls, return_when=asyncio.FIRST_EXCEPTION)
            for call in left:
                call.cancel()
            await asyncio.gather(*left, return_exceptions=True)
            (refused, *_) = [call.exception() for call in done if call.exception() is not None]
            assert isinstance(refused, openai.APIStatusError)
            return refused

    refused = asyncio.run(flood())
    assert (refused.status_code, refused.code) == (503, "queue_full")
    assert 1 <= int(refused.response.headers["retry-after"]) <= 60


def test_tgi(stage: Stage) -> None:
    """TGI's own client and OpenAI's; when the server is gone the circuit opens, in TGI's words."""
    server = stage.standin()
    url = stage.remora("tgi", UPSTREAM=server.url)
    with InferenceClient(url, timeout=20) as one:
        text = one.text_generation("What?", max_new_tokens=6)
        pieces = list(one.text_generation("What?", max_new_tokens=6, stream=True))
        assert "".join(pieces) == text
        assert server.stats()["requests"] == 1, "TGI is greedy: the stream was made of the answer"
    with client(url) as other:
        assert say(other).choices[0].message.content
        assert streamed(other)

    server.stop()
    with InferenceClient(url, timeout=20) as one:
        refusals = []
        for number in range(6):
            with pytest.raises(TextGenerationError) as caught:
                one.text_generation(f"{number}?", max_new_tokens=6)
            assert isinstance(caught.value.__cause__, HfHubHTTPError)
            refusals.append(caught.value.__cause__.response)
        assert one.text_generation("What?", max_new_tokens=6) == text, "it is in the cache"
    close_session()
    assert isinstance(caught.value, OverloadedError)
    codes = [refusal.headers["x-remora-error"] for refusal in refusals]
    assert codes == ["upstream_connect_failed"] * 5 + ["circuit_open"]
    assert refusals[-1].status_code == 503
    assert 1 <= int(refusals[-1].headers["retry-after"]) <= 5
    assert refusals[-1].json()["error_type"] == "overloaded"


def test_the_gateway(stage: Stage) -> None:
    """A key of the file passes, no other does; more tokens than a limit holds are refused; and one
    of two replicas that dies is not missed. There is no Redis: each limit is counted here.
    """
    first, second = stage.standin(), stage.standin()
    url = stage.remora(
        "gateway", FIRST=first.url, SECOND=second.url, REDIS=f"redis://127.0.0.1:{free_port()}/0",
        BATCH_KEY_SHA256=sha256(KEY.encode()).hexdigest(),
    )  # fmt: skip
    with client(url, KEY) as one, client(url, "a-key-that-nobody-has") as stranger:
        assert say(one).choices[0].message.content
        assert streamed(one)
        with pytest.raises(openai.AuthenticationError) as unknown:
            say(stranger)
        assert unknown.value.code == "invalid_key"
        with pytest.raises(openai.RateLimitError) as too_much:
            one.completions.create(model="m", prompt="?", max_tokens=300_000)
        assert too_much.value.code == "rate_limited"
        assert "200000/minute" in too_much.value.message
        with pytest.raises(openai.NotFoundError):
            one.get("/../metrics", cast_to=object)

        first.stop()
        answers = [
            one.completions.with_raw_response.create(model="m", prompt=f"{n}", max_tokens=3)
            for n in range(12)
        ]
    assert all(answer.parse().choices[0].text for answer in answers)
    assert "2" in [answer.headers.get("x-remora-attempts") for answer in answers]


def test_the_gateway_lets_nobody_in_untold(stage: Stage) -> None:
    """With nothing in the environment no key passes, and the server is asked for nothing."""
    server = stage.standin()
    url = stage.remora("gateway", FIRST=server.url)
    for key in (KEY, "0" * 64, "0" * 63 + "1"):
        with client(url, key) as one, pytest.raises(openai.AuthenticationError):
            say(one)
    assert server.stats()["requests"] == 0


def test_a_file_of_keys_that_is_not_there_ends_the_start(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    """In one line, and not with a traceback."""
    from proxy.cli import main

    file = tmp_path / "keys.yaml"
    file.write_text(
        f"listen: 127.0.0.1:{free_port()}\nadmin: off\n"
        "upstreams: {default: {endpoints: ['http://127.0.0.1:1']}}\n"
        f"chain: [{{auth: {{keys: [{{name: one, file: {tmp_path}/nosuch}}]}}}}]\n"
    )
    assert main(["serve", "-c", str(file)]) == 1
    assert capfd.readouterr().err.splitlines() == [
        f"remora: `{tmp_path}/nosuch` cannot be read: No such file or directory"
    ]
