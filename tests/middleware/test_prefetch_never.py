"""What `prefetch` never fetches ahead."""

from __future__ import annotations

import pytest

from proxy.errors import UpstreamClosed
from proxy.exchange import Headers, Request, Response

from .prefetch_stage import TTL, A, B, Stage, embed, fine, get


def upgraded(request: Request) -> Request:
    request.upgrade = b"websocket"
    return request


def other(method: bytes, body: bytes = b"{}", target: bytes = b"/v1/embeddings") -> Request:
    return Request(method, target, [(b"Content-Type", b"application/json")], body)


CHAT = b'{"model":"m","messages":[{"role":"user","content":"hi"}]}'
NEVER: dict[str, Request] = {
    "PUT": other(b"PUT"),
    "DELETE": other(b"DELETE", b""),
    "PATCH": other(b"PATCH"),
    "OPTIONS": other(b"OPTIONS", b""),
    "HEAD": other(b"HEAD", b""),
    "GET with a body": other(b"GET"),
    "a random answer": other(b"POST", CHAT, b"/v1/chat/completions"),
    "an unknown POST": other(b"POST", b"{}", b"/order"),
    "no-store": embed(B, (b"Cache-Control", b"no-store")),
    "no-cache": embed(B, (b"Cache-Control", b"max-age=5, No-Cache")),
    "only-if-cached": embed(B, (b"cache-control", b"only-if-cached")),
    "pragma": get(b"/b", (b"Pragma", b"no-cache")),
    "range": get(b"/b", (b"Range", b"bytes=0-1")),
    "switched off": embed(B, (b"X-Remora-Cache", b"off")),
    "upgrade": upgraded(get(b"/b")),
    "a browser's prefetch": get(b"/b", (b"Sec-Purpose", b"prefetch;prerender")),
    "an old browser's": get(b"/b", (b"Purpose", b"prefetch")),
    "large": embed("b" * 70_000),
}


@pytest.mark.parametrize("request_b", NEVER.values(), ids=NEVER)
async def test_it_is_never_fetched(request_b: Request) -> None:
    """Neither is it fetched behind a, nor does it make anything be fetched."""
    stage = Stage()
    await stage.learn(embed(A), request_b, embed("c"))
    assert await stage.ask(embed(A)) != [], "c follows a, for what is between does not count"
    assert await stage.ask(request_b.fork()) == []
    stage.now += TTL + 1
    bodies = [request.body for request in await stage.ask(embed(A, (b"x-session", b"9")))]
    assert request_b.body not in bodies


async def test_a_deterministic_generation_is_fetched() -> None:
    """The same chat at temperature 0 may be asked again."""
    stage = Stage()
    greedy = CHAT[:-1] + b',"temperature":0}'
    await stage.learn(embed(A), other(b"POST", greedy, b"/v1/chat/completions"))
    assert [request.body for request in await stage.ask(embed(A))] == [greedy]


FRESH = (b"Cache-Control", b"max-age=300")
SAID = (b"Cache-Status", b"remora; fwd=uri-miss")


@pytest.mark.parametrize(
    ("status", "fields"),
    [
        (404, [FRESH, SAID]),
        (500, [FRESH, SAID]),
        (200, [(b"Cache-Control", b"max-age=300, No-Store"), SAID]),
        (200, [FRESH, SAID, (b"Set-Cookie", b"a=1")]),
        (200, [FRESH, SAID, (b"Content-Type", b"Text/Event-Stream; charset=utf-8")]),
        (200, [SAID]),
        (200, [FRESH, SAID, (b"Age", b"300")]),
        (200, [FRESH]),
        (200, [FRESH, (b"Cache-Status", b"elsewhere; hit")]),
        (200, [FRESH, (b"Cache-Status", b"remora; fwd=request")]),
    ],
    ids=[
        "404", "500", "no-store", "set-cookie", "endless", "not fresh", "stale", "no cache",
        "another's cache", "passed",
    ],
)  # fmt: skip
async def test_an_answer_that_is_not_kept_is_not_fetched(status: int, fields: Headers) -> None:
    """Errors, what the server forbids to store, cookies, event streams of a GET, and pages that
    are not fresh or that remora's cache took no notice of; the same page without that is fetched.
    """
    for kept in (False, True):
        stage = Stage()
        of_b = Response(status, fields, b"x") if not kept else Response(200, [FRESH, SAID])

        async def answers(request: Request, of_b: Response = of_b) -> Response:
            return of_b if request.target == b"/b" else await fine(request)

        stage.answer = answers
        await stage.learn(get(b"/a"), get(b"/b"))
        assert [request.target for request in await stage.ask(get(b"/a"))] == [b"/b"] * kept
        assert stage.count("sent") == kept


async def test_a_page_is_fetched_when_its_server_lets_it_get_stale() -> None:
    """What is left of `max-age`, not `ttl`, says when a page is fetched again."""
    stage = Stage()
    age = b"0"

    async def answers(request: Request) -> Response:
        return Response(200, [(b"Cache-Control", b"max-age=20"), SAID, (b"Age", age)], b"x")

    stage.answer = answers
    await stage.learn(get(b"/a"), get(b"/b"))
    age = b"12"
    await stage.ask(get(b"/b"))
    stage.now += 7
    assert await stage.ask(get(b"/a")) == []
    stage.now += 1
    assert len(await stage.ask(get(b"/a"))) == 1
    stage.now += 19
    assert await stage.ask(get(b"/a")) == []
    stage.now += 1
    assert len(await stage.ask(get(b"/a"))) == 1


async def test_who_has_left_is_not_fetched_for() -> None:
    """A client that left, or whose exchange failed, asks for nothing next."""
    stage = Stage()
    await stage.learn(embed(A), embed(B))
    for field, value in (("cancelled", True), ("error", UpstreamClosed("no"))):
        request = embed(A)
        await stage.begin(request)
        setattr(request.outcome, field, value)
        stage.got.clear()
        request.finish()
        await stage.settled()
        assert stage.got == []
    assert len(await stage.ask(embed(A))) == 1


async def test_what_is_fresh_is_not_fetched_again() -> None:
    """Within `ttl` of being stored, by a client's asking or ahead, b is left alone; then not."""
    stage = Stage()
    await stage.learn(embed(A), embed(B))
    await stage.ask(embed(B))
    stage.now += TTL - 1
    await stage.ask(embed(B))  # a hit makes nothing younger
    assert await stage.ask(embed(A)) == []
    stage.now += 1
    assert len(await stage.ask(embed(A))) == 1
    stage.now += TTL - 1
    assert await stage.ask(embed(A)) == []
    stage.now += 1
    assert len(await stage.ask(embed(A))) == 1
