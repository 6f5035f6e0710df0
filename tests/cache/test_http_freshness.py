"""How long an answer of plain HTTP is fresh, and how old it is (RFC 9111 section 4.2)."""

from __future__ import annotations

import pytest

from tests.cache.conftest import MakeRig
from tests.cache.exchanges import Steps, anew, asked, play, stored

MA = "Cache-Control: max-age=3600"
D = "Date: @0"


def kept(*says: str) -> Steps:
    return [asked(*says), stored()]


def not_kept(*says: str) -> Steps:
    return [asked(*says), anew()]


MAX_AGE = {
    "no word of it, no validator": not_kept(),
    "max-age": kept(MA),
    "max-age after its end": not_kept("Cache-Control: max-age=2"),
    "max-age=0": not_kept("Cache-Control: max-age=0"),
    "max-age of 2^31 - 1": kept("Cache-Control: max-age=2147483647"),
    "max-age of 2^31": kept("Cache-Control: max-age=2147483648"),
    "max-age of 2^31 + 1": kept("Cache-Control: max-age=2147483649"),
    "a larger max-age": kept("Cache-Control: max-age=99999999999"),
    "a negative max-age": not_kept("Cache-Control: max-age=-3600"),
    "older than max-age when it came": not_kept(D, MA, "Age: 7200"),
    "older than max-age by its Date": not_kept("Date: @-7200", MA),
    "max-age beside a past Expires": kept(MA, "Expires: @-7200", D),
    "max-age beside an invalid Expires": kept(MA, "Expires: 0", D),
    "max-age=0 beside a future Expires": not_kept("Expires: @3600", "Cache-Control: max-age=0", D),
    "max-age behind an extension": kept("Cache-Control: foobar, max-age=3600"),
    "max-age in odd case": kept("Cache-Control: MaX-aGe=3600"),
    "s-maxage": kept("Cache-Control: s-maxage=3600"),
    "a shorter s-maxage": not_kept("Cache-Control: max-age=3600, s-maxage=1"),
    "a shorter s-maxage first": not_kept("Cache-Control: s-maxage=1, max-age=3600"),
    "a shorter s-maxage in its own line":
        not_kept("Cache-Control: max-age=3600", "Cache-Control: s-maxage=1"),
    "a longer s-maxage": kept("Cache-Control: max-age=1, s-maxage=3600"),
    "a longer s-maxage, a past Expires":
        kept("Expires: @-10", "Cache-Control: max-age=0, s-maxage=3600"),
}  # fmt: skip

GRAMMAR = {
    "the first of two counts": kept("Cache-Control: max-age=1800, max-age=1"),
    "the first of two lines counts": kept(
        "Cache-Control: max-age=1800", "Cache-Control: max-age=1"
    ),
    "a stale first one": not_kept("Cache-Control: max-age=1, max-age=1800"),
    "quoted": kept('Cache-Control: max-age="3600"'),
    "in another's quotes, before": not_kept('Cache-Control: extension="max-age=3600", max-age=1'),
    "in another's quotes, behind": not_kept('Cache-Control: max-age=1, extension="max-age=3600"'),
    "a space before the equals sign": not_kept("Cache-Control: max-age =3600"),
    "a space behind the equals sign": not_kept("Cache-Control: max-age= 3600"),
    "leading zeros": kept("Cache-Control: max-age=003600"),
    "single quotes": not_kept("Cache-Control: max-age='3600'"),
    "a decimal": not_kept("Cache-Control: max-age=3600.0"),
    "a letter before": not_kept("Cache-Control: max-age=a3600"),
    "a letter behind": not_kept("Cache-Control: max-age=3600a"),
}

AGE = {
    "not a number": kept(D, MA, "Age: abc"),
    "negative": kept(D, MA, "Age: -7200"),
    "a decimal": kept(D, MA, "Age: 7200.0"),
    "2^31 - 1": not_kept(D, MA, "Age: 2147483647"),
    "2^31": not_kept(D, MA, "Age: 2147483648"),
    "2^31 + 1": not_kept(D, MA, "Age: 2147483649"),
    "old, then 0": not_kept(D, MA, "Age: 7200, 0"),
    "0, then old": kept(D, MA, "Age: 0, 7200"),
    "a line old, a line 0": not_kept(D, MA, "Age: 7200", "Age: 0"),
    "a line 0, a line old": kept(D, MA, "Age: 0", "Age: 7200"),
    "0 twice": kept(D, MA, "Age: 0, 0"),
    "0 in two lines": kept(D, MA, "Age: 0", "Age: 0"),
    "the same in two lines": kept(D, "Cache-Control: max-age=10000", "Age: 3600", "Age: 3600"),
}

EXPIRES = {
    "future": kept("Expires: @2592000", D),
    "past": not_kept("Expires: @-2592000", D),
    "now": not_kept("Expires: @0", D),
    "before Date": not_kept("Expires: @300", "Date: @400"),
    "no date at all": not_kept("Expires: 0", D),
    "beside an invalid Date": kept("Date: foo", "Expires: @10"),
    "older than it, Date behind": not_kept("Date: @-10", "Expires: @10", "Age: 25"),
    "older than it, Date ahead": not_kept("Date: @10", "Expires: @20", "Age: 15"),
    "beyond 2038": kept("Expires: Tue, 19 Jan 2038 14:14:08 GMT", D),
    "far beyond": kept("Expires: Sun, 21 Nov 2286 04:46:39 GMT", D),
    "as RFC 850 wrote it": kept("Expires: Thursday, 18-Aug-50 02:01:18 GMT", D),
    "as asctime writes it": kept("Expires: Thu Aug  8 02:01:18 2050", D),
    "another zone": not_kept("Expires: Thu, 18 Aug 2050 02:01:18 AEST", D),
    "no comma": not_kept("Expires: Thu 18 Aug 2050 02:01:18 GMT", D),
    "dashes": not_kept("Expires: Thu, 18-Aug-2050 02:01:18 GMT", D),
    "periods": not_kept("Expires: Thu, 18 Aug 2050 02.01.18 GMT", D),
    "an hour of one digit": not_kept("Expires: Thu, 18 Aug 2050 2:01:18 GMT", D),
}


def guessed(status: str, expected: bool, *more: str) -> Steps:
    says = ("Last-Modified: @-86400", D, *more)
    first = asked(*says, status=status)
    gets = int(status[:3])
    return [first, stored(gets=gets) if expected else anew(status=status, says=says)]


HEURISTIC = {
    **{
        status: guessed(status, True)
        for status in ("200 OK", "203 Non-Authoritative Information", "204 No Content",
                       "404 Not Found", "405 Method Not Allowed", "410 Gone", "414 URI Too Long",
                       "501 Not Implemented")
    },
    **{
        status: guessed(status, False)
        for status in ("201 Created", "202 Accepted", "403 Forbidden", "502 Bad Gateway",
                       "503 Service Unavailable", "504 Gateway Timeout", "599 Unknown")
    },
    "599 said to be public": guessed("599 Unknown", True, "Cache-Control: public"),
    "changed a minute ago": [asked("Last-Modified: @-60", D), stored()],
    "changed ten seconds ago": [asked("Last-Modified: @-10", D), anew()],
}  # fmt: skip


@pytest.mark.parametrize("case", MAX_AGE)
async def test_max_age(rig: MakeRig, case: str) -> None:
    """An answer is fresh for its s-maxage, else its max-age, whatever else it says."""
    await play(rig, MAX_AGE[case])


@pytest.mark.parametrize("case", GRAMMAR)
async def test_the_grammar_of_cache_control(rig: MakeRig, case: str) -> None:
    """A directive is read as RFC 9111 writes it; what is malformed makes nothing fresh."""
    await play(rig, GRAMMAR[case])


@pytest.mark.parametrize("case", AGE)
async def test_age(rig: MakeRig, case: str) -> None:
    """Age counts by its first member, capped; what is no number is not minded."""
    await play(rig, AGE[case])


@pytest.mark.parametrize("case", EXPIRES)
async def test_expires(rig: MakeRig, case: str) -> None:
    """Expires counts in the three forms of a date and in no other; without one it is past."""
    await play(rig, EXPIRES[case])


@pytest.mark.parametrize("case", HEURISTIC)
async def test_heuristic_freshness(rig: MakeRig, case: str) -> None:
    """Without a word on freshness, a tenth of the time since the last change is taken for it:
    for the statuses that RFC 9110 section 15.1 lists, and what is said to be public.
    """
    await play(rig, HEURISTIC[case])
