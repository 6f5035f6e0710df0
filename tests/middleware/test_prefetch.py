"""What `prefetch` fetches ahead, for whom."""

from __future__ import annotations

import pytest

from proxy.assembly import RouteInfo
from proxy.exchange import Request, Response, Stream

from .prefetch_stage import ALICE, BOB, TTL, A, B, Stage, embed, fine, get

# -- what is fetched


async def test_a_likely_successor_is_fetched() -> None:
    """Who asks for a is, twice seen, about to ask for b: b is fetched, once a has its answer."""
    stage = Stage()
    await stage.learn(embed(A), embed(B))
    request = embed(A)
    await stage.begin(request)
    assert len(stage.got) == 1 and not stage.env.spawned, "the client's exchange has not ended"
    request.finish()
    await stage.settled()
    (_, fetched) = stage.got
    assert (fetched.method, fetched.target, fetched.body) == (
        b"POST", b"/v1/embeddings", embed(B).body,
    )  # fmt: skip
    assert fetched.path == b"/v1/embeddings" and fetched.finished
    assert (fetched.outcome.status, fetched.outcome.bytes_sent) == (200, 2)
    assert stage.counts == {"sent": 1}


async def test_the_clients_exchange_is_not_touched() -> None:
    """The very answer of `next` comes back, and the request goes on as it came."""
    stage = Stage()
    request = embed(A, (b"X-Own", b"1"))
    headers, body = list(request.headers), request.body
    answer = Response(200, [], b"1")

    async def answers(request: Request) -> Response:
        return answer

    stage.answer = answers
    assert await stage.begin(request) is answer
    assert stage.got[0] is request
    assert (request.headers, request.body) == (headers, body)
    assert answer.headers == [] and answer.filters == []


async def test_a_body_that_nobody_read_is_not_read() -> None:
    """A stream passes; what no cache has read it would not have kept."""
    stage = Stage()
    body = Stream()
    request = embed(A)
    request.body = body
    assert await stage.ask(request) == []
    assert request.body is body and not body.done
    assert len(stage.layer._known) == 0


async def test_what_is_sent_is_what_this_client_would_send() -> None:
    """The successor's own fields, and this client's others: nobody else's go with it."""
    stage = Stage()
    theirs = ((b"X-User", b"theirs"), (b"Accept", b"text/event-stream"), (b"Host", b"model"))
    await stage.learn(get(b"/a", (b"Accept", b"*/*")), get(b"/b", *theirs))
    mine = get(
        b"/a", (b"X-User", b"mine"), (b"Accept", b"*/*"), (b"If-None-Match", b'"1"'),
        (b"traceparent", b"00-1"),
    )  # fmt: skip
    mine.client = "10.0.0.7"
    (fetched,) = await stage.ask(mine)
    assert fetched.headers == [
        (b"Accept", b"text/event-stream"),
        (b"Host", b"model"),
        (b"X-User", b"mine"),
        (b"traceparent", b"00-1"),
    ]
    assert (fetched.client, fetched.target, fetched.body) == ("10.0.0.7", b"/b", b"")


async def test_no_credential_is_kept() -> None:
    """Nothing that the layer remembers of a request holds its credentials."""
    stage = Stage()
    await stage.learn(embed(A, ALICE, (b"Cookie", b"id=alice")))
    kept = [known.repeat for _, known, _ in stage.layer._known.items()]
    assert kept and "alice" not in repr(kept)


async def test_a_successor_goes_down_its_own_route() -> None:
    """b was asked for on another route: it is fetched there, and nowhere else."""
    stage = Stage()
    other: list[Request] = []

    async def elsewhere(request: Request) -> Response:
        other.append(request)
        return await fine(request)

    handler = stage.layer.bind(RouteInfo("other", "default"), elsewhere)
    for session in (b"1", b"2"):
        await stage.ask(get(b"/a", (b"x-session", session)))
        await stage.ask(get(b"/b", (b"x-session", session)), handler)
    stage.now += TTL
    assert len(other) == 2
    assert await stage.ask(get(b"/a")) == []
    assert [request.target for request in other] == [b"/b"] * 3


async def test_the_same_target_on_two_routes_is_two() -> None:
    """b is asked for on both routes, behind a on the second alone: it is fetched there."""
    stage = Stage()
    await stage.ask(get(b"/b", (b"x-session", b"0")))
    seen: list[str] = []

    async def elsewhere(request: Request) -> Response:
        seen.append("second")
        return await fine(request)

    second = stage.layer.bind(RouteInfo("second", "default"), elsewhere)
    for session in (b"1", b"2"):
        await stage.ask(get(b"/a", (b"x-session", session)))
        await stage.ask(get(b"/b", (b"x-session", session)), second)
    stage.now += TTL
    seen.clear()
    assert await stage.ask(get(b"/a")) == [] and seen == ["second"]


async def test_probability_decides() -> None:
    """b follows a in two of three departures: that is enough for 0.6, and not for 0.7."""
    for probability, expected in ((0.6, 1), (0.7, 0)):
        stage = Stage(probability=probability)
        await stage.learn(embed(A), embed(B))
        await stage.ask(embed(A, (b"x-session", b"3")))
        await stage.ask(embed("c", (b"x-session", b"3")))
        stage.now += TTL
        assert len(await stage.ask(embed(A))) == expected


# -- for whom


async def test_tenants_are_apart() -> None:
    """What alice asks for in turn is fetched ahead for alice, and never for bob or nobody."""
    stage = Stage()
    await stage.learn(embed(A, ALICE), embed(B, ALICE))
    assert await stage.ask(embed(A, BOB)) == []
    assert await stage.ask(embed(A)) == []
    (fetched,) = await stage.ask(embed(A, ALICE))
    assert fetched.header(b"authorization") == ALICE[1]


async def test_what_was_fetched_for_one_is_of_no_use_to_another() -> None:
    """Bob's asking for b neither makes alice's prefetch useful nor spares her one."""
    stage = Stage()
    await stage.learn(embed(A, ALICE), embed(B, ALICE))
    await stage.ask(embed(B, BOB))
    assert len(await stage.ask(embed(A, ALICE))) == 1
    await stage.ask(embed(B, BOB))
    assert stage.counts == {"sent": 1}
    await stage.ask(embed(B, ALICE))
    assert stage.counts == {"sent": 1, "useful": 1}


async def test_a_tenant_that_was_found_outside_counts() -> None:
    """Where a layer outside says who it is, credentials no longer tell."""
    stage = Stage()

    def of(request: Request, tenant: str) -> Request:
        request.tenant = tenant
        return request

    await stage.learn(of(embed(A, ALICE), "team"), of(embed(B, ALICE), "team"))
    assert await stage.ask(of(embed(A, ALICE), "other")) == []
    (fetched,) = await stage.ask(of(embed(A, BOB), "team"))
    assert (fetched.tenant, fetched.header(b"authorization")) == ("team", BOB[1])


@pytest.mark.parametrize("named", [True, False], ids=["header", "address"])
async def test_sessions_are_told_apart(named: bool) -> None:
    """Two sessions that take turns are two: by the header that is named, else by address."""
    stage = Stage(session="X-Session" if named else None)

    def of(text: str, session: str) -> Request:
        if named:
            return embed(text, (b"X-Session", session.encode()))
        return embed(text, client=session)

    for _ in range(2):
        for text in ("a", "b"):
            await stage.ask(of(text, "1"))
            await stage.ask(of(text.upper(), "2"))
        stage.now += TTL
    stage.now += 1
    fetched = await stage.ask(of("a", "3"))
    assert [request.body for request in fetched] == [embed("b").body]
