"""Header fields: what they say, and that it is so."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from middleware.rate_limit.fields import duration
from proxy.apis import by_name
from proxy.apis.render import render
from proxy.errors import ProxyError
from proxy.exchange import Request, Response

from .stage import JSON, Stage, call, fine, get, header, known, seconds
from .test_windows import kinds

OPENAI = ("limit", "remaining", "reset")


async def test_on_an_answer() -> None:
    """Each limit with what is left and until when, and OpenAI's three of the tightest."""
    stage = Stage(limits=["20/second", "3/2 minutes"], strategy="fixed_window")
    await stage.ask()
    stage.now += 0.9995
    answer = await stage.ask()
    assert isinstance(answer, Response)
    assert answer.headers == [
        *JSON,
        (b"ratelimit-policy", b'"20/second";q=20;w=1, "3/2 minutes";q=3;w=120'),
        (b"ratelimit", b'"20/second";r=18;t=1, "3/2 minutes";r=1;t=120'),
        (b"x-ratelimit-limit-requests", b"3"),
        (b"x-ratelimit-remaining-requests", b"1"),
        (b"x-ratelimit-reset-requests", b"1m59.001s"),
    ]


async def test_of_tokens_and_with_a_name() -> None:
    """The unit is in the policy, OpenAI's fields are those of tokens, a name tells two apart."""
    stage = Stage(limits="1000/minute", cost="tokens", name="spend", strategy="fixed_window")
    answer = await stage.ask(call(max_tokens=90))
    assert header(answer, b"ratelimit-policy") == '"spend 1000/minute";q=1000;w=60;qu="tokens"'
    assert header(answer, b"ratelimit") == '"spend 1000/minute";r=900;t=60'
    assert header(answer, b"x-ratelimit-limit-tokens") == "1000"
    assert header(answer, b"x-ratelimit-remaining-tokens") == "900"
    assert header(answer, b"x-ratelimit-reset-tokens") == "1m0s"


async def test_on_a_refusal() -> None:
    """The same fields and retry-after, as a client of the API in front gets them."""
    stage = Stage(limits="1/hour", strategy="fixed_window")
    await stage.ask()
    stage.now += 10.5
    refused = await stage.ask()
    assert isinstance(refused, ProxyError)
    assert (refused.status, refused.code) == (429, "rate_limited")
    assert refused.message == "over the limit of 1/hour requests; try again in 3590 s"
    answer = render(refused, by_name["openai"])
    assert header(answer, b"retry-after") == "3590"
    assert header(answer, b"ratelimit") == '"1/hour";r=0;t=3590'
    assert header(answer, b"x-ratelimit-reset-requests") == "59m49.5s"


async def test_switched_off() -> None:
    """`headers: false`: an answer is what it was; a refusal keeps its retry-after alone."""
    stage = Stage(limits="1/hour", headers=False)
    answer = await stage.ask()
    assert isinstance(answer, Response) and answer.headers == JSON
    refused = await stage.ask()
    assert isinstance(refused, ProxyError)
    assert list(refused.headers) == [] and refused.retry_after is not None


async def test_the_upstreams_own() -> None:
    """Those of OpenAI in our unit give way, in whatever case; the others stay, its `ratelimit` too,
    beside which ours is one more.
    """
    theirs = [
        (b"X-RateLimit-Limit-Requests", b"9"), (b"x-ratelimit-remaining-tokens", b"8"),
        (b"x-ratelimit-reset-requests", b"7s"), (b"RateLimit", b'"up";r=6;t=5'),
    ]  # fmt: skip

    async def upstream(request: Request) -> Response:
        return Response(200, [*JSON, *theirs], b"{}")

    answer = await Stage(upstream, limits="3/hour").ask()
    assert header(answer, b"x-ratelimit-limit-requests") == "3"
    assert header(answer, b"x-ratelimit-remaining-tokens") == "8"
    assert header(answer, b"x-ratelimit-reset-requests") != "7s"
    service = [value for key, value in answer.headers if key.lower() == b"ratelimit"]
    assert len(service) == 2 and service[0] == theirs[3][1]
    shadow = await Stage(upstream, limits="3/hour", shadow=True).ask()
    assert shadow.headers == [*JSON, *theirs]


@pytest.mark.parametrize("status", [429, 503])
async def test_the_upstreams_refusal_is_its_own(status: int) -> None:
    """Where the upstream refuses, its numbers count: ours would say that there is room."""
    theirs = [(b"retry-after", b"9"), (b"x-ratelimit-remaining-requests", b"0")]

    async def upstream(request: Request) -> Response:
        return Response(status, list(theirs), b"{}")

    answer = await Stage(upstream, limits="3/hour").ask()
    assert answer.headers == theirs


async def test_two_layers() -> None:
    """One for requests and one for tokens tell both."""
    inner = Stage(limits="1000/minute", cost="tokens", name="spend")
    outer = Stage(inner.handle, limits="20/minute")
    answer = await outer.ask(call(max_tokens=90))
    assert isinstance(answer, Response)
    names = [name for name, _ in answer.headers]
    assert names.count(b"ratelimit") == names.count(b"ratelimit-policy") == 2
    for unit in (b"requests", b"tokens"):
        for what in OPENAI:
            assert b"x-ratelimit-%b-%b" % (what.encode(), unit) in names


@kinds
@given(
    amount=st.integers(1, 30), every=st.integers(1, 5),
    pauses=st.lists(st.floats(0, 3), max_size=60),
)  # fmt: skip
async def test_they_agree_with_what_happens_next(
    kind: str, amount: int, every: int, pauses: list[float]
) -> None:
    """Whoever waits for retry-after is admitted; a second earlier nobody is. What is said to
    remain is admitted; nothing more is. After the reset all of it is.
    """
    stage = Stage(limits=f"{amount}/{every} seconds", strategy=kind)
    for pause in pauses:
        stage.now += pause
        await stage.ask()
    last = await stage.ask()
    while isinstance(last, Response):
        left = int(header(last, b"x-ratelimit-remaining-requests"))
        assert f";r={left};" in header(last, b"ratelimit")
        last = await stage.ask()
        assert isinstance(last, Response) == (left > 0)
    wait = math.ceil(last.retry_after or 0)
    assert wait >= 1
    asked = stage.now
    for earlier in range(1, wait):
        stage.now = asked + earlier - 0.002
        assert not await stage.passes()
    stage.now = asked + wait + 0.0005
    answer = await stage.ask()
    assert isinstance(answer, Response)
    stage.now += seconds(header(answer, b"x-ratelimit-reset-requests")) + 0.0005
    answer = await stage.ask()
    assert header(answer, b"x-ratelimit-remaining-requests") == str(amount - 1)


async def test_a_retry_of_tokens_gets_through_when_told() -> None:
    """A large call waits longer than a small one, and each as long as it was told."""

    async def upstream(request: Request) -> Response:
        return Response(200, list(JSON), b'{"usage": {"total_tokens": 54}}')

    stage = Stage(upstream, limits="120/minute", cost="tokens", strategy="moving_window")
    await stage.ask(call(max_tokens=44))
    stage.now += 20
    await stage.ask(call(max_tokens=44))
    small, large = await stage.ask(call(max_tokens=10)), await stage.ask(call(max_tokens=80))
    assert isinstance(small, ProxyError) and isinstance(large, ProxyError)
    assert (small.retry_after, large.retry_after) == (40, 60)
    assert "90 are needed" in large.message and "12 are left" in large.message
    stage.now += 39
    assert not await stage.passes(call(max_tokens=10))
    stage.now += 1
    assert await stage.passes(call(max_tokens=10))


async def test_what_no_waiting_helps_against() -> None:
    """A call over the whole limit is told so, without retry-after, and not to try again."""
    stage = Stage(limits=["1000/minute", "5000/hour"], cost="tokens")
    refused = await stage.ask(call(max_tokens=2000))
    assert isinstance(refused, ProxyError)
    assert (refused.status, refused.code, refused.retry_after) == (429, "rate_limited", None)
    assert "2010 tokens" in refused.message and "1000/minute" in refused.message
    assert header(refused, b"x-should-retry") == "false"
    assert await stage.passes(call(max_tokens=990)), "it used something up"


@pytest.mark.parametrize(
    ("milliseconds", "told"),
    [
        (0, b"0ms"), (999, b"999ms"), (1000, b"1s"), (1500, b"1.5s"), (59_001, b"59.001s"),
        (60_000, b"1m0s"), (360_000, b"6m0s"), (3_600_000, b"1h0m0s"), (90_061_010, b"25h1m1.01s"),
        (10_000, b"10s"),
    ],
)  # fmt: skip
def test_durations_as_openai_writes_them(milliseconds: int, told: bytes) -> None:
    """Exact to the millisecond."""
    assert duration(milliseconds) == told
    assert seconds(told.decode()) == pytest.approx(milliseconds / 1000)


async def test_nothing_of_a_client_is_in_them() -> None:
    """Names come from the file."""
    stage = Stage(fine, limits="1/hour", key="api_key")
    request = known(get("10.0.0.1", (b"authorization", b"sk-1")), "alice")
    assert "alice" not in repr((await stage.ask(request)).headers)
    refused = await stage.ask(request)
    assert isinstance(refused, ProxyError)
    assert "alice" not in repr(refused.headers) + refused.message
