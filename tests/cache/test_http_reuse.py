"""Which stored answer serves which request: by the client's directives, by Vary, by method."""

from __future__ import annotations

import asyncio

import pytest

from tests.cache.conftest import MakeRig
from tests.cache.exchanges import Step, Steps, anew, asked, etag, modified, play, stale, stored
from tests.road.scripted import Peer
from tests.road.wire import Message, head, ok, until

MA = "Cache-Control: max-age=3600"
SHORT = "Cache-Control: max-age=2"
D = "Date: @0"
FRESH = ("Expires: @100000", "Cache-Control: max-age=100000", "Last-Modified: @0", D)

DIRECTIVES = {
    "max-age=0": [asked(*FRESH), modified(MA, ask=("Cache-Control: max-age=0",))],
    "max-age=1": [asked(MA), anew("Cache-Control: max-age=1")],
    "max-age greater than its age": [asked(MA), stored("Cache-Control: max-age=10")],
    "max-age less than its Age": [asked(MA, "Age: 1800"), anew("Cache-Control: max-age=600")],
    "max-stale": [asked("Cache-Control: max-age=1"), stored("Cache-Control: max-stale=1000")],
    "max-stale of an old one":
        [asked("Cache-Control: max-age=1500", "Age: 2000", 'ETag: "a"'),
         stored("Cache-Control: max-stale=1000")],
    "max-stale, too stale": [asked(SHORT, wait=100), anew("Cache-Control: max-stale=10")],
    "max-stale against must-revalidate":
        [asked("Cache-Control: max-age=1, must-revalidate"), anew("Cache-Control: max-stale=1000")],
    "min-fresh": [asked("Cache-Control: max-age=1500"), anew("Cache-Control: min-fresh=2000")],
    "min-fresh of an old one":
        [asked("Cache-Control: max-age=1500", "Age: 1000"), anew("Cache-Control: min-fresh=1000")],
    "no-cache": [asked(MA), anew("Cache-Control: no-cache")],
    "no-cache with a date":
        [asked(MA, "Last-Modified: @-10000", D), modified(MA, ask=("Cache-Control: no-cache",))],
    "no-cache with an etag": [asked(MA, 'ETag: "abc"'), etag(MA, ask=("Cache-Control: no-cache",))],
    "no-store": [asked(MA), anew("Cache-Control: no-store"), stored(text=b"body 1")],
    "no-store is not stored":
        [Step("origin", ask=("Cache-Control: no-store",), says=(MA,)), anew()],
    "only-if-cached": [Step("cache", ask=("Cache-Control: only-if-cached",), gets=504, text=None,
                            method="HEAD")],
    "only-if-cached, stored": [asked(MA), stored("Cache-Control: only-if-cached")],
    "Pragma": [asked(MA), anew("Pragma: no-cache")],
    "Pragma beside Cache-Control":
        [asked(MA), stored("Pragma: no-cache", "Cache-Control: max-age=99")],
    "Pragma of another kind": [asked(MA), stored("Pragma: unrecognised-extension")],
}  # fmt: skip

V = ("Expires: @5000", "Last-Modified: @-3000", D)


def varied(vary: str, first: tuple[str, ...], second: tuple[str, ...], same: bool) -> Steps:
    step = Step("origin", ask=first, says=(*V, *(f"Vary: {one}" for one in vary.split("|"))))
    return [step, stored(*second) if same else anew(*second)]


TWO, THREE = ("Foo: 1", "Bar: abc"), ("Foo: 1", "Bar: abc", "Baz: 789")
VARY = {
    "the same": varied("Foo", ("Foo: 1",), ("Foo: 1",), True),
    "another": varied("Foo", ("Foo: 1",), ("Foo: 2",), False),
    "not there, then there": varied("Foo", (), ("Foo: 1",), False),
    "there, then not": varied("Foo", ("Foo: 1",), (), False),
    "empty, then not there": varied("Foo", ("Foo: ",), (), False),
    "fields not named": varied("Foo", ("Foo: 1", "Other: 2"), ("Foo: 1", "Other: 3"), True),
    "another case of the name": varied("FOO", ("foo: 1",), ("Foo: 1",), True),
    "each variant keeps its place":
        [Step("origin", ask=("Foo: 1",), says=(*V, "Vary: Foo")),
         Step("origin", ask=("Foo: 2",), says=(*V, "Vary: Foo")),
         stored("Foo: 1", text=b"body 1"), stored("Foo: 2", text=b"body 2")],
    "two, the same": varied("Foo, Bar", TWO, TWO, True),
    "two, one differs": varied("Foo, Bar", TWO, ("Foo: 2", "Bar: abc"), False),
    "two, none there": varied("Foo, Bar", ("Foo: 1",), (), False),
    "two lines": varied("Foo|Bar", TWO, ("Foo: 1", "Bar: x"), False),
    "three, the same": varied("Foo, Bar, Baz", THREE, THREE, True),
    "three, one differs": varied("Foo, Bar, Baz", THREE, ("Foo: 2", *THREE[1:]), False),
    "three, one longer":
        varied("Foo, Bar, Baz", ("Foo: 1", "Bar: abc4", "Baz: 789"), THREE, False),
    "three, one in neither":
        varied("Foo, Bar, Baz", ("Foo: 1", "Baz: 7"), ("Foo: 1", "Baz: 7"), True),
    "combined lines": varied("Foo", ("Foo: 1, 2",), ("Foo: 1", "Foo: 2"), True),
    "white space": varied("Foo", ("Foo: 1,2",), ("Foo:  1, 2 ",), True),
    "a language in other case":
        varied("Accept-Language", ("Accept-Language: en, de",), ("Accept-Language: eN, De",), True),
    "a language with other spaces":
        varied("Accept-Language", ("Accept-Language: en, de",), ("Accept-Language:  en ,  de",),
               True),
    "another language":
        varied("Accept-Language", ("Accept-Language: en",), ("Accept-Language: de",), False),
    "a star": varied("*", THREE, THREE, False),
    "two stars": varied("*, *", THREE, THREE, False),
    "two lines of stars": varied("*|*", THREE, THREE, False),
    "a star behind nothing": varied(", *", THREE, THREE, False),
    "a star behind an empty line": varied("|*", THREE, THREE, False),
    "a star and a field": varied("*, Foo", THREE, THREE, False),
    "a field and a star": varied("Foo, *", THREE, THREE, False),
}  # fmt: skip


def changed(method: str, status: str = "200 OK") -> Step:
    return Step("origin", method=method, status=status)


METHODS = ["POST", "PUT", "DELETE", "PATCH", "M-SEARCH"]
INVALID: dict[str, Steps] = {}
for _method in METHODS:
    INVALID[_method] = [asked(*FRESH), changed(_method), anew()]
    INVALID[f"{_method} that failed"] = [asked(*FRESH), changed(_method, "500 Oh"), stored()]
    INVALID[f"{_method}, Location"] = [
        asked(*FRESH, target="/there"), Step("origin", method=_method, says=("Location: /there",)),
        anew(target="/there")]  # fmt: skip
    INVALID[f"{_method}, Content-Location"] = [
        asked(*FRESH, target="/there"),
        Step("origin", method=_method, says=("Content-Location: there",)),
        anew(target="/there")]  # fmt: skip
INVALID |= {
    "of another origin": [
        asked(*FRESH, target="/there"),
        Step("origin", method="POST", says=("Location: http://elsewhere.test/there",)),
        stored(target="/there")],
    "every variant": [
        Step("origin", ask=("Foo: 1",), says=(*FRESH, "Vary: Foo")),
        Step("origin", ask=("Foo: 2",), says=(*FRESH, "Vary: Foo")), changed("PUT"),
        anew("Foo: 1"), anew("Foo: 2")],
    "a safe method": [asked(*FRESH), changed("OPTIONS"), stored()],
}  # fmt: skip

RANGES = {
    "the first bytes": ("bytes=0-1", b"01"),
    "all but the first": ("bytes=1-", b"123456789A"),
    "the last": ("bytes=-1", b"A"),
}

STALE = {
    "the origin dies": [asked(SHORT), stale(dies=True, gets=200)],
    "the origin is not there": [asked(SHORT), stale(status="503 No", gets=200)],
    "within stale-while-revalidate":
        [asked("Cache-Control: max-age=1, stale-while-revalidate=3600", 'ETag: "abc"'),
         Step("stale", says=(MA,), text=b"body 1"), stored()],
    "beyond stale-while-revalidate":
        [asked("Cache-Control: max-age=1, stale-while-revalidate=4", 'ETag: "abc"', wait=6),
         Step("origin", says=(MA, 'ETag: "def"'))],
    "within stale-if-error":
        [asked(f"{SHORT}, stale-if-error=600", wait=300), stale(dies=True, gets=200)],
    "beyond stale-if-error":
        [asked("Cache-Control: max-age=2, stale-if-error=5", wait=30),
         Step("origin", dies=True, gets=504)],
    "must-revalidate": [asked(f"{SHORT}, must-revalidate"), Step("origin", dies=True, gets=504)],
    "proxy-revalidate": [asked(f"{SHORT}, proxy-revalidate"), Step("origin", dies=True, gets=504)],
    "no-cache": [asked(f"{SHORT}, no-cache"), Step("origin", dies=True, gets=502)],
    "s-maxage": [asked(f"{SHORT}, s-maxage=2"), Step("origin", dies=True, gets=504)],
}  # fmt: skip


@pytest.mark.parametrize("case", DIRECTIVES)
async def test_directives_of_a_request(rig: MakeRig, case: str) -> None:
    """A client bounds age and staleness, asks anew, or asks for nothing new."""
    await play(rig, DIRECTIVES[case])


@pytest.mark.parametrize("case", VARY)
async def test_vary(rig: MakeRig, case: str) -> None:
    """An answer serves requests whose fields of its Vary are the same as its own request's."""
    await play(rig, VARY[case])


@pytest.mark.parametrize("case", INVALID)
async def test_invalidation(rig: MakeRig, case: str) -> None:
    """What changes a thing makes every stored answer about it stale (section 4.4)."""
    await play(rig, INVALID[case])


@pytest.mark.parametrize("case", RANGES)
async def test_a_part_of_a_stored_answer(rig: MakeRig, case: str) -> None:
    """One range of bytes comes out of the whole, with the fields that were stored."""
    wanted, text = RANGES[case]
    whole = asked(MA, "A: 1", body=b"0123456789A")
    part = stored(f"Range: {wanted}", gets=206, text=text, has=("A: 1",))
    await play(rig, [whole, part])


@pytest.mark.parametrize("case", STALE)
async def test_serving_stale(rig: MakeRig, case: str) -> None:
    """What is stale stands in for a failing origin within its window, and never where forbidden."""
    await play(rig, STALE[case])


async def test_the_switch_works_for_pages_too(rig: MakeRig) -> None:
    """`x-remora-cache: off` leaves the cache out of a GET, and goes no further."""
    case = [asked(MA), anew("X-Remora-Cache: off", lacks=("Cache-Status",)), stored()]
    await play(rig, case)
    one = await rig(honor_upstream=True)
    await one.get("/page", "X-Remora-Cache: off")
    assert one.origin.seen[0]["x-remora-cache"] is None


@pytest.mark.parametrize("status", ["102 Processing", "103 Early Hints"])
async def test_an_interim_answer_passes(rig: MakeRig, status: str) -> None:
    """1xx answers reach the client that waits, and the final one is stored."""
    interim = head(f"HTTP/1.1 {status}", "Link: </a.css>; rel=preload")
    one = await rig(interim + ok(b"page", MA), honor_upstream=True, share="public")
    client = await one.own()
    client.ask("GET", "/page")
    first = await client.head()
    assert first.status == int(status[:3]) and first["link"] == "</a.css>; rel=preload"
    assert (await client.answer()).body == b"page"
    assert (await one.get()).body == b"page"
    assert one.origin.count == 1


async def test_a_page_that_changed_meanwhile_is_not_stored(rig: MakeRig) -> None:
    """A PUT that passes while a GET is under way: what that GET brings is of before."""
    release = asyncio.Event()

    async def says(peer: Peer, message: Message) -> None:
        if message.first_line.startswith(b"GET"):
            await release.wait()
        peer.send(ok(b"x", MA))

    one = await rig(says, honor_upstream=True, share="public")
    reader = await one.client()
    reader.ask("GET", "/page")
    await until(lambda: one.origin.count == 1)
    await (await one.own()).exchange("PUT", "/page", body=b"new")
    release.set()
    await reader.answer()
    await one.get()
    assert one.origin.count == 3


async def test_an_upgrade_is_left_alone(rig: MakeRig) -> None:
    """A GET that asks for another protocol reaches the origin with its question."""
    switches = head("HTTP/1.1 101 Switching", "Connection: upgrade", "Upgrade: echo")
    one = await rig(switches, honor_upstream=True)
    client = await one.client()
    client.ask("GET", "/socket", "Connection: upgrade", "Upgrade: echo")
    assert (await client.head()).status == 101
    assert one.origin.seen[0]["upgrade"] == "echo"
    client.abort()
    for peer in list(one.running.clients):
        peer.abort()


async def test_a_large_page_that_cannot_be_stored_is_not_held(rig: MakeRig) -> None:
    """What may not be stored is passed on as it comes, not kept to its end."""
    release = asyncio.Event()

    async def large(peer: Peer, _: Message) -> None:
        peer.send(head("HTTP/1.1 200 OK", "Content-Length: 1000000", "Cache-Control: no-store"))
        for _ in range(9):
            peer.send(bytes(100_000))
            await peer.flush()
        await release.wait()
        peer.send(bytes(100_000))

    one = await rig(large, honor_upstream=True, share="public")
    client = await one.client()
    client.ask("GET", "/page")
    await client.head()
    await client.exactly(900_000)
    (flight,) = one.cache.flights.values()
    assert flight.recording.held == 0
    release.set()
    await client.exactly(100_000)
