"""What of plain HTTP is stored: by directive, status, method, credentials; and which fields."""

from __future__ import annotations

import pytest

from tests.cache.conftest import MakeRig
from tests.cache.exchanges import Step, Steps, anew, asked, etag, play, stored

MA = "Cache-Control: max-age=3600"
D = "Date: @0"
FRESH = ("Expires: @100000", "Cache-Control: max-age=100000", "Last-Modified: @0", D)
PAST = ("Expires: @-5000", "Last-Modified: @-100000", D)


def kept(*says: str, **more: object) -> Steps:
    return [asked(*says, **more), stored(gets=int(str(more.get("status", "200"))[:3]))]


def not_kept(*says: str, **more: object) -> Steps:
    return [asked(*says, **more), anew()]


LONG = ("Expires: @10000", D)
DIRECTIVES = {
    "private": not_kept("Cache-Control: private, max-age=3600"),
    "no-store": not_kept("Cache-Control: no-store"),
    "no-store in odd case": not_kept("Cache-Control: No-StOrE"),
    "no-store beside freshness": not_kept("Cache-Control: max-age=10000, no-store", *LONG),
    "no-cache": not_kept("Cache-Control: max-age=10000, no-cache", *LONG),
    "no-cache in odd case": not_kept("Cache-Control: max-age=10000, No-CaChE", *LONG),
    "no-cache with a validator": [asked("Cache-Control: no-cache", 'ETag: "a"'), etag()],
    "no-cache, fresh, with a validator":
        [asked("Cache-Control: max-age=10000, no-cache", *LONG, 'ETag: "a"'), etag()],
    "no-cache of one field":
        [asked('Cache-Control: no-cache="a"', "A: 1", "B: 2", MA, D),
         stored(has=("B: 2",), lacks=("A",))],
    "no-cache of two fields":
        [asked('Cache-Control: no-cache="a, b"', "A: 1", "B: 2", "C: 3", MA, D),
         stored(has=("C: 3",), lacks=("A", "B"))],
    "an older answer survives no-store":
        [asked(MA, "A: 1"),
         Step("origin", ask=("Cache-Control: no-store",), says=("Cache-Control: no-store",)),
         stored(has=("A: 1",))],
    "must-revalidate, fresh": kept("Cache-Control: max-age=10000, must-revalidate", 'ETag: "a"'),
    "must-revalidate, stale":
        [asked("Cache-Control: max-age=2, must-revalidate", 'ETag: "a"', wait=0), stored(), etag()],
    "must-understand of a known status":
        kept("Cache-Control: max-age=3600, no-store, must-understand"),
    "must-understand of an unknown one":
        not_kept("Cache-Control: max-age=3600, no-store, must-understand", status="599 Odd"),
    "Pragma of an answer": kept(MA, "Pragma: no-cache"),
}  # fmt: skip

STATUSES = ["200 OK", "203 Non-Authoritative Information", "204 No Content", "299 Whatever",
            "301 Moved Permanently", "302 Found", "303 See Other", "307 Temporary Redirect",
            "308 Permanent Redirect", "400 Bad Request", "404 Not Found", "410 Gone",
            "499 Whatever", "500 Internal Server Error", "502 Bad Gateway",
            "503 Service Unavailable", "504 Gateway Timeout", "599 Whatever"]  # fmt: skip

AUTH = "Authorization: FOO"


def authorized(cache_control: str, *, kept: bool) -> Steps:
    first = Step("origin", ask=(AUTH,), says=(f"Cache-Control: {cache_control}", D), sent=(AUTH,))
    return [first, stored() if kept else anew()]


CREDENTIALS = {
    "max-age alone": authorized("max-age=3600", kept=False),
    "public": authorized("max-age=3600, public", kept=True),
    "must-revalidate": authorized("max-age=3600, must-revalidate", kept=True),
    "s-maxage": authorized("s-maxage=3600", kept=True),
}

STORED_FIELDS = [
    "Test-Header: x", "X-Test-Header: x", "Content-Foo: x", "X-Content-Foo: x",
    "Content-Encoding: x", "Content-Location: /foo", "Content-MD5: rL0Y20zC+Fzt72VPzMSk2A==",
    "Content-Range: x", "Content-Security-Policy: default-src 'self'", "Content-Type: text/plain",
    "Clear-Site-Data: cache", 'ETag: "abcdef"', "Expires: Fri, 01 Jan 2038 01:01:01 GMT",
    "Public-Key-Pins: x", "Set-Cookie: a=b", "Set-Cookie2: a=b", "X-Frame-Options: deny",
    "X-XSS-Protection: 1", "Content-Disposition: attachment; filename=a.txt",
]  # fmt: skip
UNSTORED_FIELDS = [
    "Connection: keep-alive", "Keep-Alive: x", "Proxy-Authenticate: x",
    "Proxy-Authentication-Info: x", "Proxy-Authorization: x", "Proxy-Connection: x", "TE: x",
    "Upgrade: x",
]  # fmt: skip

OTHER = {
    "two queries": [asked(*FRESH, target="/thing?a=1"), anew(target="/thing?a=2")],
    "one query": [asked(*FRESH, target="/thing?a=1"), stored(target="/thing?a=1")],
    "another case of the target": [asked(*FRESH, target="/Thing"), anew(target="/thing")],
    "a cookie in the answer": kept(*FRESH, "Set-Cookie: a=b"),
    "a cookie in the request": [asked(*FRESH), stored("Cookie: a=b")],
    "age is told": [asked(*FRESH), stored(has=("Age: >2",))],
    "age beside Expires": [asked("Expires: @2592000", D, "Age: 30"), stored(has=("Age: >32",))],
    "age beside max-age": [asked(*FRESH, "Age: 30"), stored(has=("Age: >32",))],
    "date stays": [asked("Date: @0", MA, wait=5), stored(has=("Date: @-5",))],
    "date stays beside Expires":
        [asked("Date: @0", "Expires: @100", wait=5), stored(has=("Date: @-5", "Expires: @95"))],
    "fields that Connection names":
        [asked(*FRESH, "Connection: a, b", "A: 1", "B: 2", "C: 3"),
         stored(has=("C: 3",), lacks=("A", "B"))],
    "a partial answer":
        [Step("origin", ask=("Range: bytes=-5",), says=(MA, "Content-Range: bytes 5-9/10"),
              status="206 Partial Content", body=b"56789"), anew()],
    "HEAD stores nothing": [asked(*FRESH, method="HEAD"), anew()],
    "OPTIONS stores nothing": [asked(*FRESH, method="OPTIONS"), anew(method="OPTIONS"), anew()],
}  # fmt: skip


@pytest.mark.parametrize("case", DIRECTIVES)
async def test_directives_of_an_answer(rig: MakeRig, case: str) -> None:
    """The origin says whether its answer is stored, and whether it is served unasked."""
    await play(rig, DIRECTIVES[case])


@pytest.mark.parametrize("status", STATUSES)
async def test_a_fresh_answer_of_any_status_is_stored(rig: MakeRig, status: str) -> None:
    """Explicit freshness holds for each final status."""
    await play(rig, kept(*FRESH, status=status))


@pytest.mark.parametrize("status", STATUSES)
async def test_a_stale_answer_of_any_status_is_not_served(rig: MakeRig, status: str) -> None:
    """So does its end."""
    await play(rig, not_kept(*PAST, status=status))


@pytest.mark.parametrize("case", CREDENTIALS)
async def test_credentials(rig: MakeRig, case: str) -> None:
    """An answer to credentials serves others only where the origin says so (section 3.5)."""
    await play(rig, CREDENTIALS[case])


@pytest.mark.parametrize("field", STORED_FIELDS)
async def test_a_field_is_stored(rig: MakeRig, field: str) -> None:
    """Whatever the origin says of its answer is said again."""
    says = (field, D, MA)
    await play(rig, [asked(*says, has=(field,)), stored(has=(field,))])


@pytest.mark.parametrize("field", UNSTORED_FIELDS)
async def test_a_field_of_the_connection_is_not(rig: MakeRig, field: str) -> None:
    """What belongs to a connection or to a proxy's own credentials is not (section 3.1)."""
    await play(rig, [asked(field, D, MA), stored(lacks=(field.partition(":")[0],))])


@pytest.mark.parametrize("case", OTHER)
async def test_other_things(rig: MakeRig, case: str) -> None:
    """Targets, cookies, Age, Date, methods: each as RFC 9111 says."""
    await play(rig, OTHER[case])


async def test_a_get_with_content_is_its_servers_own(rig: MakeRig) -> None:
    """What a body on a GET means nobody else knows: it passes, whole, and is not stored."""
    one = await rig(honor_upstream=True, share="public")
    client = await one.own()
    for turn in (1, 2):
        await client.exchange("GET", "/thing", body=b"question")
        assert one.origin.count == turn
        assert one.origin.seen[-1].body == b"question"
    client.send(
        b"GET /thing HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n"
    )
    assert (await client.answer()).status == 200
    assert one.origin.seen[-1].body == b"abc"
