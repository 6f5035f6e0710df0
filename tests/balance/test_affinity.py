"""What gives a request its key."""

from __future__ import annotations

import json
from collections import Counter
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from proxy.exchange import Request, Stream
from proxy.upstream import affinity
from proxy.upstream.affinity import (
    ENOUGH,
    FADES,
    MAX_POPULAR,
    MAX_STEPS,
    ByPrefix,
    BySession,
    Popular,
)

CHARS = 16


def chat(*messages: str, **fields: Any) -> Request:
    body = {"model": "m", "messages": [{"role": "user", "content": one} for one in messages]}
    data = json.dumps({**body, **fields}).encode()
    return Request(b"POST", b"/v1/chat/completions", [(b"Content-Type", b"application/json")], data)


async def key_of(request: Request, by: ByPrefix | None = None) -> int | None:
    return await (by or ByPrefix(CHARS, 4096)).key(request, 4)


# -- sessions


async def test_a_session_is_its_headers_value() -> None:
    """Equal values, whatever the case of the name, have one key; others have another."""
    by = BySession("X-Session-Id")
    requests = [
        Request(b"GET", b"/", [(name, value)])
        for name, value in (
            (b"x-session-id", b"a"),
            (b"X-SESSION-ID", b"a"),
            (b"x-session-id", b"b"),
        )
    ]
    one, same, other = [await by.key(request, 4) for request in requests]
    assert one is not None and one == same != other


async def test_without_the_header_there_is_no_key() -> None:
    """Nor with an empty one."""
    by = BySession("x-session-id")
    assert await by.key(Request(b"GET", b"/", []), 4) is None
    assert await by.key(Request(b"GET", b"/", [(b"X-Session-Id", b"")]), 4) is None


# -- which requests have a prompt


async def test_prompts_that_begin_alike_have_one_key() -> None:
    """As far as `chars` goes; one that differs before that has another; so has another model."""
    first = await key_of(chat("the same beginning", "and one end"))
    assert first is not None
    assert await key_of(chat("the same beginning", "and a very different one")) == first
    assert await key_of(chat("not the same one", "and one end")) != first
    assert await key_of(chat("the same beginning", model="other")) != first


@pytest.mark.parametrize(
    "request_",
    [
        Request(b"GET", b"/v1/models", []),
        Request(b"POST", b"/v1/chat/completions", [], b"no json"),
        Request(b"POST", b"/v1/chat/completions", [], b"[1, 2]"),
        Request(b"POST", b"/v1/chat/completions", [], b""),
        Request(b"POST", b"/nothing/known", [], b"{}"),
        Request(b"POST", b"/v1/completions", [(b"Content-Encoding", b"gzip")], b'{"prompt":"a"}'),
    ],
    ids=["get", "no-json", "no-object", "empty", "no-prompt", "encoded"],
)
async def test_where_there_is_no_prompt_there_is_no_key(request_: Request) -> None:
    """It is balanced as if no prefix were asked for."""
    assert await key_of(request_) is None


def streamed(length: int | None, kind: bytes = b"application/json") -> tuple[Request, Stream]:
    stream = Stream()
    body = chat("a prompt").body
    assert isinstance(body, bytes)
    stream.feed(body)
    stream.end()
    headers = [(b"Content-Type", kind)]
    if length is not None:
        headers.append((b"Content-Length", b"%d" % (length or len(body))))
    request = Request(b"POST", b"/v1/chat/completions", headers, stream)
    request.declared = stream
    return request, stream


async def test_a_streamed_body_is_read() -> None:
    """It is then in memory, and has the key that it would have had there."""
    request, _ = streamed(0)
    assert await key_of(request) == await key_of(chat("a prompt"))
    assert isinstance(request.body, bytes)


@pytest.mark.parametrize(
    ("length", "kind"),
    [(4097, b"application/json"), (None, b"application/json"), (0, b"audio/wav")],
)
async def test_a_body_that_is_no_prompts_streams_past(length: int | None, kind: bytes) -> None:
    """One over `max_body`, one that does not say its length, one that is no JSON: none is read."""
    request, stream = streamed(length, kind)
    assert await key_of(request) is None
    assert request.body is stream and stream.take()


async def test_the_bound_on_bodies_in_memory() -> None:
    """A body that another layer has read counts only up to `max_body`, too."""
    request = chat("a prompt")
    size = len(request.body)  # type: ignore[arg-type]
    assert await key_of(request, ByPrefix(CHARS, size)) is not None
    assert await key_of(request, ByPrefix(CHARS, size - 1)) is None


# -- how much of a prompt tells it apart


def test_popular_beginnings_are_looked_behind() -> None:
    """Prompts with one system prompt get as many keys as there are conversations, once enough of
    them came; each conversation keeps its own.
    """
    by = ByPrefix(CHARS, 4096)
    system = "You are helpful." * 3
    before = {by.of("m", f"{system}conversation {number:3d} says hello", 4) for number in range(20)}
    assert len(before) == 1
    for number in range(200):
        by.of("m", f"{system}conversation {number:3d} says hello", 4)
    for _ in range(3):
        after = [by.of("m", f"{system}conversation {n:3d} says hello", 4) for n in range(200)]
        again = [by.of("m", f"{system}conversation {n:3d} says much more", 4) for n in range(200)]
        assert len(set(after)) == 200
        assert after == again


def test_a_rare_beginning_is_not_looked_behind() -> None:
    """Its prompts stay together however they go on, beside popular ones."""
    by = ByPrefix(CHARS, 4096)
    for number in range(500):
        by.of("m", "You are helpful." + f"conversation {number:3d}", 4)
    assert len({by.of("m", "a rare beginning" + str(number) * 40, 4) for number in range(9)}) == 1


def test_only_so_much_of_a_prompt_is_looked_at() -> None:
    """Beyond MAX_STEPS pieces, all of them popular, the rest makes no difference."""
    by = ByPrefix(CHARS, 1 << 20)
    start = "x" * (CHARS * MAX_STEPS)
    for _ in range(2 * ENOUGH):
        by.of("m", start, 4)
    last = by.of("m", start + "a", 4)
    assert by.of("m", start + "b", 4) == last
    assert by.of("m", start[:-1] + "ya", 4) != last


@settings(max_examples=60, deadline=None)
@given(st.text(max_size=80), st.text(max_size=20))
def test_any_text_has_a_key(text: str, model: str) -> None:
    """Also one with characters that no encoding has; and the same each time, in any process."""
    key = ByPrefix(CHARS, 4096).of(model, text, 4)
    assert 0 <= key < 2**64
    assert ByPrefix(CHARS, 4096).of(model, text, 4) == key
    assert ByPrefix(CHARS, 4096).of("m", "\ud800", 4) >= 0


def test_keys_are_the_same_in_every_process() -> None:
    """Workers and replicas must agree: the key depends on nothing but the prompt."""
    assert ByPrefix(CHARS, 4096).of("m", "hello", 4) == 6467738266568765509


# -- what is counted


def test_the_table_is_bounded() -> None:
    """However many different beginnings come; the popular one among them is not forgotten."""
    popular = Popular()
    for number in range(3 * MAX_POPULAR):
        popular.request()
        popular.seen(number + 10, 4)
        if number % 3 == 0:
            popular.request()
            common = popular.seen(1, 4)
        assert len(popular) <= MAX_POPULAR
    assert common


def test_nothing_is_popular_before_enough_was_seen() -> None:
    """One of two requests is half of them, and says nothing."""
    popular = Popular()
    told = []
    for _ in range(ENOUGH):
        popular.request()
        told.append(popular.seen(1, 4))
    assert told.index(True) == ENOUGH - 1


def test_old_habits_fade(monkeypatch: pytest.MonkeyPatch) -> None:
    """What was popular is so no longer after as many requests without it, several times over."""
    assert FADES > ENOUGH
    monkeypatch.setattr(affinity, "FADES", 512)
    popular = Popular()
    told: Counter[bool] = Counter()
    for _ in range(400):
        popular.request()
        popular.seen(1, 4)
    for number in range(4000):
        popular.request()
        popular.seen(number % 100 + 10, 4)
    for _ in range(3):
        popular.request()
        told[popular.seen(1, 4)] += 1
    assert told == {False: 3}
    assert popular._total < 512
