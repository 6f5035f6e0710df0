"""What an answer from the cache says of itself, and what it leaves as it was."""

from __future__ import annotations

import re

import pytest

from middleware.cache import Cache
from middleware.cache.config import CacheConfig
from tests.cache.conftest import MakeRig
from tests.cache.rig import QUESTION, hit, status, written
from tests.conftest import Serve, UpstreamMaker
from tests.road.wire import ok

JSON = "Content-Type: application/json"


async def test_each_answer_says_where_it_came_from(rig: MakeRig) -> None:
    """`cache-status` follows RFC 9211 on a miss and on a hit, with the seconds it stays fresh."""
    one = await rig(ttl=60)
    assert status(await one.ask()) == {"fwd": "uri-miss"}
    one.clock.advance(20.5)
    found = await one.ask()
    assert status(found) == {"hit": "", "ttl": "39"}
    assert found["age"] == "20"


async def test_a_status_of_the_upstreams_own_stays_before_ours(rig: MakeRig) -> None:
    """A cache behind remora told its part first (RFC 9211 section 2)."""
    one = await rig(ok(b"{}", JSON, "Cache-Status: far; hit"))
    for _ in range(2):
        answer = await one.ask()
        lines = [value for name, value in answer.headers if name.lower() == b"cache-status"]
        assert lines[0] == b"far; hit" and lines[1].startswith(b"remora;")


async def test_a_hit_has_a_strong_validator(rig: MakeRig) -> None:
    """The same bytes have the same etag, others another; a client that has it gets 304."""
    one = await rig()
    await one.ask()
    first = await one.ask()
    tag = first["etag"]
    assert tag is not None and re.fullmatch(r'"[^"]+"', tag)
    for wanted in (tag, f"W/{tag}", f'"x", {tag}', f'"a,b",{tag}', "*"):
        again = await one.ask(None, f"If-None-Match: {wanted}")
        assert again.status == 304, wanted
        assert again["etag"] == tag and again.body == b""
        assert again["content-length"] is None and hit(again)
    for wanted in ('"x"', tag[1:-1], f'"{tag}"'):
        assert (await one.ask(None, f"If-None-Match: {wanted}")).status == 200
    other = {**QUESTION, "input": "other"}
    await one.ask(other)
    assert (await one.ask(other))["etag"] != tag


async def test_an_upstreams_own_validator_is_kept(rig: MakeRig) -> None:
    """An answer that has an etag keeps it."""
    one = await rig(ok(b"{}", JSON, 'ETag: W/"mine"'))
    await one.ask()
    assert (await one.ask())["etag"] == 'W/"mine"'
    assert (await one.ask(None, 'If-None-Match: "mine"')).status == 304


async def test_an_answer_keeps_its_fields(rig: MakeRig) -> None:
    """Names, case, order and duplicates come as the upstream sent them; ours stand behind."""
    one = await rig(ok(b"{}", JSON, "X-oDd: 1", "x-odd: 2", "Age: 5", status="200 Fine"))
    first = await one.ask()
    second = await one.ask()
    assert second.first_line == first.first_line == b"HTTP/1.1 200 Fine"
    theirs = [pair for pair in first.headers if pair[0] not in (b"cache-status", b"Age")]
    assert second.headers[: len(theirs)] == theirs
    assert [name for name, _ in second.headers[len(theirs) :]] == [b"etag", b"age", b"cache-status"]


async def test_nothing_is_added_where_the_file_says_so(rig: MakeRig) -> None:
    """With `headers: false` a hit is what the upstream sent, and says nothing of remora."""
    one = await rig(ok(b"{}", JSON, "X-A: 1"), headers=False)
    first = await one.ask()
    second = await one.ask()
    assert one.origin.count == 1
    assert first.headers == second.headers == [
        (b"Content-Length", b"2"), (b"Content-Type", b"application/json"), (b"X-A", b"1"),
    ]  # fmt: skip


async def test_a_layer_that_is_off_is_not_there(serve: Serve, upstream: UpstreamMaker) -> None:
    """`enabled: false` gives the next handler itself: nothing of it runs."""

    class Route:
        name = "r"
        upstream = "default"

    async def next(request: object) -> None:
        raise AssertionError

    class Env:
        def clock(self) -> float:
            return 0.0

        def store(self, name: str) -> None:
            return None

    layer = Cache(CacheConfig(enabled=False), Env())  # type: ignore[arg-type]
    assert layer.bind(Route(), next) is next  # type: ignore[arg-type, comparison-overlap]


@pytest.mark.parametrize("honor", [False, True])
async def test_a_get_is_left_alone_unless_http_is_honored(rig: MakeRig, honor: bool) -> None:
    """Without `honor_upstream` only calls with a body are cached."""
    one = await rig(ok(b"page", "Cache-Control: max-age=60"), honor_upstream=honor)
    for _ in range(2):
        page = await one.get()
    assert one.origin.count == (1 if honor else 2)
    assert (page["cache-status"] is None) is not honor


async def test_a_client_of_http_1_0_is_served(rig: MakeRig) -> None:
    """A stored answer is framed for whoever asks."""
    one = await rig()
    await one.ask()
    client = await one.client()
    client.ask("POST", "/v1/embeddings", body=written(), version="1.0")
    assert (await client.answer()).body == b'{"answer":1}'
    assert one.origin.count == 1
