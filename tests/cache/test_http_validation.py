"""Conditions: whether a client holds it already, whether what is stored still holds."""

from __future__ import annotations

import asyncio

import pytest

from tests.cache.conftest import MakeRig
from tests.cache.exchanges import Step, Steps, anew, asked, etag, modified, play, stored
from tests.road.scripted import Peer
from tests.road.wire import Message, until

MA = "Cache-Control: max-age=3600"
SHORT = "Cache-Control: max-age=2"
D = "Date: @0"
FRESH = ("Expires: @100000", "Cache-Control: max-age=100000", "Last-Modified: @0", D)
E = 'ETag: "abcdef"'
LM = "Last-Modified: @-3000"


def held(tag: str, wanted: str, gets: int = 304, **more: object) -> Steps:
    return [asked(*FRESH, f"ETag: {tag}"), stored(f"If-None-Match: {wanted}", gets=gets, **more)]


IF_NONE_MATCH = {
    "the same": held('"abcdef"', '"abcdef"', has=(E,), lacks=("Content-Length", "Content-Type")),
    "beside an older If-Modified-Since":
        [asked(*FRESH, "Last-Modified: @-5000", E),
         stored('If-None-Match: "abcdef"', "If-Modified-Since: @-1", gets=304)],
    "another, beside a newer If-Modified-Since":
        [asked("Last-Modified: @-5000", D, MA, E),
         stored('If-None-Match: "x"', "If-Modified-Since: @0", gets=200)],
    "weak": held('W/"abcdef"', 'W/"abcdef"'),
    "weak for strong": held('"abcdef"', 'W/"abcdef"'),
    "strong for weak": held('W/"abcdef"', '"abcdef"'),
    "the first of several": held('"abcdef"', '"abcdef", "1234", "5678"'),
    "the middle one": held('"abcdef"', '"1234", "abcdef", "5678"'),
    "the last one": held('"abcdef"', '"1234", "5678", "abcdef"'),
    "with a comma in it": held('"a,b"', '"x", "a,b"'),
    "part of one with a comma": held('"b"', '"a,"b""', gets=200),
    "obs-text": held('"abcdef\u00fc"', '"abcdef\u00fc"'),
    "a star": held('"abcdef"', "*"),
    "another": held('"abcdef"', '"ghijkl"', gets=200),
    "unquoted for quoted": held('"abcdef"', "abcdef", gets=200),
    "of an error": [asked(*FRESH, E, status="404 Not Found"),
                    stored('If-None-Match: "abcdef"', gets=404)],
    "of what is not stored":
        [anew('If-None-Match: "abcdef"', sent=('If-None-Match: "abcdef"',))],
    "HEAD": [asked(*FRESH, E), stored('If-None-Match: "abcdef"', method="HEAD", gets=304)],
}  # fmt: skip

IF_MODIFIED_SINCE = {
    "the same": [asked(MA, LM, D), stored("If-Modified-Since: @-3003", gets=304)],
    "changed earlier": [asked(MA, LM, D), stored("If-Modified-Since: @-2000", gets=304)],
    "changed later": [asked(MA, LM, D), stored("If-Modified-Since: @-4000", gets=200)],
    "no date": [asked(MA, LM, D), stored("If-Modified-Since: yesterday", gets=200)],
    "stale, and it still holds":
        [asked(SHORT, LM, D),
         Step("if-modified-since", ask=("If-Modified-Since: @-3003",), says=(SHORT, D), gets=304)],
}  # fmt: skip

QUESTIONS = {
    "by etag": [asked(SHORT, E), etag(SHORT, sent=('If-None-Match: "abcdef"',))],
    "by weak etag":
        [asked(SHORT, 'ETag: W/"abcdef"'), etag(SHORT, sent=('If-None-Match: W/"abcdef"',))],
    "by date": [asked(SHORT, LM, D), modified(SHORT, D)],
    "by both": [asked(SHORT, LM, D, E), etag(MA, D), stored()],
    "with the fields of Vary":
        [Step("origin", ask=("Abc: 123",), says=("Expires: @1", E, D, "Vary: Abc")),
         Step("if-none-match", ask=("Abc: 123",), says=("Expires: @10", D), sent=("Abc: 123",))],
    "without a validator": [asked(SHORT), anew()],
    "it changed":
        [asked(SHORT, E),
         Step("origin", says=(MA, 'ETag: "new"'), sent=('If-None-Match: "abcdef"',)),
         stored(has=('ETag: "new"',))],
    "it is gone":
        [asked(SHORT, E),
         Step("origin", status="404 Not Found", sent=('If-None-Match: "abcdef"',))],
    "a range of a stale one is no part of the question":
        [asked(SHORT, E, body=b"0123456789"),
         Step("if-none-match", ask=("Range: bytes=0-1",), says=(SHORT,), gets=206, text=b"01")],
    "HEAD for a stale one":
        [asked(SHORT, E),
         Step("if-none-match", says=(MA,), method="HEAD", has=("Content-Length: 6",)),
         stored()],
    "the client's own question is answered from it":
        [asked(SHORT, E),
         Step("if-none-match", ask=('If-None-Match: "abcdef"',), says=(SHORT,), gets=304)],
    "a new answer that the client holds already":
        [asked(SHORT, E),
         Step("origin", ask=('If-None-Match: "new"',), says=(MA, 'ETag: "new"'), gets=304),
         stored(gets=200, text=b"body 2")],
}  # fmt: skip

UPDATED = [
    ("Test-Header: a", "Test-Header: b"), ("X-Test-Header: a", "X-Test-Header: b"),
    ("Content-Foo: a", "Content-Foo: b"), ("X-Content-Foo: a", "X-Content-Foo: b"),
    ("Cache-Control: max-age=2", "Cache-Control: max-age=3600"),
    ("Content-Location: /foo", "Content-Location: /bar"),
    ("Content-Security-Policy: default-src 'self'", "Content-Security-Policy: default-src *"),
    ("Content-Type: text/plain", "Content-Type: text/plain;charset=utf-8"),
    ("Clear-Site-Data: cache", "Clear-Site-Data: cookies"),
    ("Expires: Fri, 01 Jan 2038 01:01:01 GMT", "Expires: Mon, 11 Jan 2038 11:11:11 GMT"),
    ("Public-Key-Pins: a", "Public-Key-Pins: b"), ("Set-Cookie: a=b", "Set-Cookie: a=c"),
    ("Set-Cookie2: a=b", "Set-Cookie2: a=c"),
    ("X-Frame-Options: deny", "X-Frame-Options: sameorigin"),
    ("X-XSS-Protection: 1", "X-XSS-Protection: 1; mode=block"),
]  # fmt: skip
NOT_UPDATED = [
    ("Content-Encoding: a", "Content-Encoding: b"),
    ("Content-Length: 6", "Content-Length: 10"),
    ("Content-Range: a", "Content-Range: b"),
]


@pytest.mark.parametrize("case", IF_NONE_MATCH)
async def test_a_client_that_holds_it_gets_304(rig: MakeRig, case: str) -> None:
    """If-None-Match is compared weakly, outweighs If-Modified-Since, and is for 2xx alone."""
    await play(rig, IF_NONE_MATCH[case])


@pytest.mark.parametrize("case", IF_MODIFIED_SINCE)
async def test_a_client_that_saw_it_since_gets_304(rig: MakeRig, case: str) -> None:
    """If-Modified-Since is compared with Last-Modified."""
    await play(rig, IF_MODIFIED_SINCE[case])


@pytest.mark.parametrize("case", QUESTIONS)
async def test_what_is_stale_is_asked_about(rig: MakeRig, case: str) -> None:
    """A stored validator makes a question of its own; the answer serves, or replaces."""
    await play(rig, QUESTIONS[case])


@pytest.mark.parametrize(("old", "new"), UPDATED)
async def test_a_304_updates_a_field(rig: MakeRig, old: str, new: str) -> None:
    """What a 304 says replaces what was stored (section 3.2), now and from then on."""
    short = () if old.startswith(("Cache-Control", "Expires")) else (SHORT,)
    first = (SHORT,) if old.startswith("Expires") else short
    case = [
        asked(*first, D, E, old, has=(old,)),
        etag(*(first or ()), D, E, new, has=(new,), wait=0),
        stored(has=(new,)),
    ]
    await play(rig, case)


@pytest.mark.parametrize(("old", "new"), NOT_UPDATED)
async def test_a_304_leaves_what_the_stored_bytes_depend_on(
    rig: MakeRig, old: str, new: str
) -> None:
    """Fields that describe the stored bytes stay theirs."""
    first = (SHORT, D, E) if old.startswith("Content-Length") else (SHORT, D, E, old)
    await play(rig, [asked(*first), etag(SHORT, D, E, new, has=(old,), wait=0), stored(has=(old,))])


async def test_a_304_that_omits_a_field_leaves_it(rig: MakeRig) -> None:
    """What was stored and not said again is still so."""
    case = [
        asked(SHORT, "Last-Modified: Wed, 01 Jan 2020 00:00:00 GMT", D, "Test-Header: x"),
        modified("Last-Modified: Wed, 01 Jan 2020 00:00:00 GMT", D, has=("Test-Header: x",)),
    ]
    await play(rig, case)


async def test_a_304_of_another_version_is_not_believed(rig: MakeRig) -> None:
    """One whose strong etag is not the stored one's updates nothing: the origin is asked again
    without a condition (section 4.3.4).
    """
    answers = [
        b'HTTP/1.1 200 OK\r\nContent-Length: 3\r\nCache-Control: max-age=2\r\nETag: "a"\r\n\r\nold',
        b'HTTP/1.1 304 Not Modified\r\nETag: "b"\r\n\r\n',
        b'HTTP/1.1 200 OK\r\nContent-Length: 3\r\nCache-Control: max-age=9\r\nETag: "b"\r\n\r\nnew',
    ]
    one = await rig(*answers, honor_upstream=True, share="public")
    assert (await one.get()).body == b"old"
    one.clock.advance(3)
    assert (await one.get()).body == b"new"
    assert one.origin.seen[2]["if-none-match"] is None
    assert one.origin.count == 3
    assert (await one.get()).body == b"new"
    assert one.origin.count == 3


async def test_many_that_find_it_stale_ask_once(rig: MakeRig) -> None:
    """A question about a stored answer is asked once for all who wait for it, and each client's
    own condition is answered for itself.
    """
    release = asyncio.Event()

    async def says(peer: Peer, message: Message) -> None:
        if message["if-none-match"] is None:
            peer.send(b'HTTP/1.1 200 OK\r\nContent-Length: 1\r\nETag: "a"\r\n'
                      b"Cache-Control: max-age=2\r\n\r\nx")  # fmt: skip
        else:
            await release.wait()
            peer.send(b"HTTP/1.1 304 Not Modified\r\nCache-Control: max-age=2\r\n\r\n")

    one = await rig(says, honor_upstream=True, share="public")
    await one.get()
    one.clock.advance(3)
    clients = [await one.client() for _ in range(4)]
    for index, client in enumerate(clients):
        client.ask("GET", "/page", *(['If-None-Match: "a"'] if index == 3 else []))
    await until(lambda: one.cache.flights)
    (flight,) = one.cache.flights.values()
    await until(lambda: len(flight._waiting) == 4)
    release.set()
    answers = [await client.answer() for client in clients]
    assert [answer.status for answer in answers] == [200, 200, 200, 304]
    assert one.origin.count == 2
