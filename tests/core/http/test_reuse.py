"""Whether what is stored may be served."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from middleware.core.http.cache_control import MAX_SECONDS
from middleware.core.http.reuse import (
    Decision,
    Options,
    after_error,
    decide,
    keep,
    only_if_cached,
)
from tests.core.http.at import head

FRESH = Decision.FRESH
STALE = Decision.STALE
BACKGROUND = Decision.STALE_WHILE_REVALIDATE
ASK = Decision.REVALIDATE
PASS = Decision.PASS
REFUSE = Decision.REFUSE

PLAIN = Options()
GRACE = Options(grace=60)
ALONE = Options(shared=False, grace=60)
DEAF = Options(client=False, grace=60)

# (what the client wants, what the origin said, age, lifetime, options, decision)
TABLE = [
    # RFC 9111 4.2
    ("", "max-age=60", 0, 60, PLAIN, FRESH),
    ("", "max-age=60", 59.9, 60, PLAIN, FRESH),
    ("", "max-age=60", 60, 60, PLAIN, ASK),
    ("", "max-age=60", 3600, 60, PLAIN, ASK),
    ("", "max-age=0", 0, 0, PLAIN, ASK),
    ("unheard-of", "max-age=60, unheard-of", 5, 60, PLAIN, FRESH),
    # 5.2.2.4
    ("", "max-age=60, no-cache", 0, 60, GRACE, ASK),
    ("", "max-age=60, No-CaChE", 0, 60, GRACE, ASK),
    ("", "max-age=60, no-cache", 90, 60, GRACE, ASK),
    ("max-stale", "max-age=60, no-cache", 0, 60, GRACE, ASK),
    ("", 'max-age=60, no-cache="a"', 0, 60, GRACE, FRESH),
    # 5.2.2.2, 5.2.2.8, 5.2.2.10: fresh as ever, never stale
    ("", "max-age=60, must-revalidate", 5, 60, GRACE, FRESH),
    ("", "max-age=60, must-revalidate", 90, 60, GRACE, ASK),
    ("max-stale", "max-age=60, must-revalidate", 90, 60, GRACE, ASK),
    ("max-stale", "max-age=60, proxy-revalidate", 90, 60, GRACE, ASK),
    ("max-stale", "s-maxage=60", 90, 60, GRACE, ASK),
    ("", "max-age=60, must-revalidate, stale-while-revalidate=90", 90, 60, GRACE, ASK),
    ("", "max-age=60, must-revalidate", 90, 60, ALONE, ASK),
    ("", "max-age=60, proxy-revalidate, s-maxage=60", 90, 60, ALONE, BACKGROUND),
    # RFC 5861 3
    ("", "max-age=60, stale-while-revalidate=30", 5, 60, PLAIN, FRESH),
    ("", "max-age=60, stale-while-revalidate=30", 60, 60, PLAIN, BACKGROUND),
    ("", "max-age=60, stale-while-revalidate=30", 89, 60, PLAIN, BACKGROUND),
    ("", "max-age=60, stale-while-revalidate=30", 90, 60, PLAIN, ASK),
    ("", "max-age=60, stale-while-revalidate=x", 61, 60, GRACE, ASK),
    ("", "max-age=60, stale-while-revalidate=0", 61, 60, GRACE, ASK),
    ("", "max-age=60", 119, 60, GRACE, BACKGROUND),
    ("", "max-age=60", 120, 60, GRACE, ASK),
    # 5.2.1.1
    ("max-age=0", "max-age=60", 0, 60, GRACE, ASK),
    ("max-age=10", "max-age=60", 9, 60, GRACE, FRESH),
    ("max-age=10", "max-age=60", 10, 60, GRACE, FRESH),
    ("max-age=10", "max-age=60", 11, 60, GRACE, ASK),
    ("max-age=x", "max-age=60", 0, 60, GRACE, ASK),
    ("max-age=600", "max-age=60", 90, 60, GRACE, ASK),
    ("max-age=600, max-stale", "max-age=60", 90, 60, GRACE, STALE),
    # 5.2.1.2
    ("max-stale", "max-age=60", 9000, 60, PLAIN, STALE),
    ("max-stale=30", "max-age=60", 90, 60, PLAIN, STALE),
    ("max-stale=30", "max-age=60", 91, 60, PLAIN, ASK),
    ("max-stale=30", "max-age=60", 91, 60, GRACE, ASK),
    ("max-stale=x", "max-age=60", 61, 60, PLAIN, ASK),
    # 5.2.1.3
    ("min-fresh=30", "max-age=60", 30, 60, PLAIN, FRESH),
    ("min-fresh=30", "max-age=60", 31, 60, PLAIN, ASK),
    ("min-fresh=30", "max-age=60", 61, 60, GRACE, ASK),
    # 5.2.1.4, 5.2.1.5
    ("no-cache", "max-age=60", 0, 60, GRACE, ASK),
    ("no-store", "max-age=60", 0, 60, GRACE, PASS),
    # 5.2.1.7
    ("only-if-cached", "max-age=60", 5, 60, PLAIN, FRESH),
    ("only-if-cached", "max-age=60", 61, 60, PLAIN, REFUSE),
    ("only-if-cached", "max-age=60", 61, 60, GRACE, BACKGROUND),
    ("only-if-cached, no-cache", "max-age=60", 5, 60, PLAIN, REFUSE),
    ("only-if-cached, no-store", "max-age=60", 5, 60, PLAIN, REFUSE),
    ("only-if-cached, max-stale", "max-age=60", 90, 60, PLAIN, STALE),
    # a cache that is told not to listen
    ("no-cache, no-store, only-if-cached, max-age=0", "max-age=60", 5, 60, DEAF, FRESH),
    # a clock that was set back
    ("", "max-age=99999999999", MAX_SECONDS, MAX_SECONDS, PLAIN, ASK),
]


@pytest.mark.parametrize(("wants", "control", "age", "lifetime", "options", "expected"), TABLE)
def test_decide(
    wants: str, control: str, age: float, lifetime: float, options: Options, expected: Decision
) -> None:
    """RFC 9111 4, 5.2: what client, origin and configuration allow together."""
    request = head(f"Cache-Control: {wants}") if wants else []
    assert decide(request, head(f"Cache-Control: {control}"), age, lifetime, options) is expected


@pytest.mark.parametrize(
    ("lines", "expected"),
    [
        (["Pragma: no-cache"], ASK),
        (["Pragma: No-Cache, x"], ASK),
        (["Pragma: x"], FRESH),
        (["Pragma: no-cache", "Cache-Control: x"], FRESH),
        (["Cookie: a=b"], FRESH),
        (['If-None-Match: "a"'], FRESH),
        (['If-Match: "a"'], PASS),
        (["If-Unmodified-Since: @0"], PASS),
        (['If-Match: "a"', "Cache-Control: only-if-cached"], REFUSE),
    ],
)
def test_other_request_fields(lines: list[str], expected: Decision) -> None:
    """RFC 9111 5.4, 4.3.2: Pragma where no Cache-Control is; the origin's conditions go to it."""
    stored = head("Cache-Control: max-age=60", "Pragma: no-cache")
    assert decide(head(*lines), stored, 5, 60, PLAIN) is expected


HELD = Options(stale_if_error=60)

ERRORS = [
    ("", "max-age=60", 90, HELD, True),
    ("", "max-age=60", 119, HELD, True),
    ("", "max-age=60", 120, HELD, False),
    ("", "max-age=60", 61, PLAIN, False),
    # RFC 5861 4
    ("", "max-age=60, stale-if-error=5", 64, PLAIN, True),
    ("", "max-age=60, stale-if-error=5", 65, HELD, False),
    ("stale-if-error=5", "max-age=60", 64, HELD, True),
    ("stale-if-error=5", "max-age=60", 65, HELD, False),
    ("stale-if-error=500", "max-age=60, stale-if-error=5", 65, HELD, False),
    # RFC 9111 4.2.4: what forbids to be stale outweighs the rest
    ("", "max-age=60, must-revalidate", 61, HELD, False),
    ("", "max-age=60, must-revalidate, stale-if-error=5", 61, HELD, False),
    ("", "max-age=60, proxy-revalidate", 61, HELD, False),
    ("", "max-age=60, no-cache", 5, HELD, False),
    ("", "s-maxage=60", 61, HELD, False),
    ("no-cache", "max-age=60", 5, HELD, False),
    ("no-store", "max-age=60", 5, HELD, False),
    # asked again although fresh
    ("max-age=0", "max-age=60", 5, PLAIN, True),
]


@pytest.mark.parametrize(("wants", "control", "age", "options", "expected"), ERRORS)
def test_after_error(
    wants: str, control: str, age: float, options: Options, expected: bool
) -> None:
    """A failed upstream is covered for as long as somebody allows, and never against the origin."""
    request = head(f"Cache-Control: {wants}") if wants else []
    assert after_error(request, head(f"Cache-Control: {control}"), age, 60, options) is expected


def test_nothing_stored() -> None:
    """RFC 9111 5.2.1.7: only-if-cached is refused where nothing is stored, if it is heard."""
    request = head("Cache-Control: only-if-cached")
    assert only_if_cached(request, PLAIN)
    assert not only_if_cached(request, DEAF)
    assert not only_if_cached([], PLAIN)


BARE = Options(retain=0)

KEPT = [
    (["Cache-Control: max-age=60"], 0, 60, BARE, 60),
    (["Cache-Control: max-age=60"], 20, 60, BARE, 40),
    (["Cache-Control: max-age=60"], 90, 60, BARE, 0),
    (["Cache-Control: max-age=60, stale-while-revalidate=30"], 0, 60, BARE, 90),
    (["Cache-Control: max-age=60, stale-if-error=50"], 0, 60, BARE, 110),
    (["Cache-Control: max-age=60, stale-if-error=50"], 90, 60, BARE, 20),
    (["Cache-Control: max-age=60, stale-if-error=50, must-revalidate"], 0, 60, BARE, 60),
    (["Cache-Control: max-age=60"], 0, 60, Options(grace=5, stale_if_error=7, retain=0), 67),
    (["Cache-Control: no-cache"], 0, 60, Options(grace=5), 0),
    (["Cache-Control: no-cache", 'ETag: "x"'], 0, 0, Options(retain=100), 100),
    (["Cache-Control: max-age=60", "Last-Modified: @-9"], 0, 60, Options(retain=100), 160),
    (["Cache-Control: max-age=60", "Last-Modified: @-9"], 90, 60, Options(retain=100), 100),
    ([], 0, 0, PLAIN, 0),
]


@pytest.mark.parametrize(("lines", "age", "lifetime", "options", "expected"), KEPT)
def test_keep(
    lines: list[str], age: float, lifetime: float, options: Options, expected: float
) -> None:
    """An answer is kept while it is fresh, within a window, or good to be validated."""
    assert keep(head(*lines), age, lifetime, options) == expected


_DIRECTIVES = st.lists(
    st.sampled_from(
        [
            "max-age=9", "no-cache", "must-revalidate", "s-maxage=9", "proxy-revalidate", "public",
            "stale-while-revalidate=20", "stale-if-error=20", "max-stale", "max-stale=7",
            "min-fresh=3", "only-if-cached", "no-store", "max-age=0", "max-age=x", 'no-cache="a"',
        ]
    ).map(lambda one: f"Cache-Control: {one}"),
    max_size=4,
)  # fmt: skip


@given(_DIRECTIVES, _DIRECTIVES, st.integers(0, 50), st.integers(0, 50), st.booleans())
def test_never_against_the_origin(
    wants: list[str], rules: list[str], age: int, lifetime: int, shared: bool
) -> None:
    """Whatever is combined: nothing unfit is served, and what is served was still kept."""
    options = Options(shared=shared, grace=10, stale_if_error=10, retain=0)
    request, stored = head(*wants), head(*rules)
    decision = decide(request, stored, age, lifetime, options)
    covered = after_error(request, stored, age, lifetime, options)
    served = decision in (FRESH, STALE, BACKGROUND)
    text = " ".join(rules)
    if "no-cache" in text.replace('no-cache="a"', ""):
        assert not served and not covered
    if age >= lifetime and "must-revalidate" in text:
        assert not served and not covered
    if decision is FRESH:
        assert age < lifetime
    if decision is STALE:
        assert "max-stale" in " ".join(wants) and age >= lifetime
    if decision in (FRESH, BACKGROUND) or covered:
        assert age < keep(stored, 0, lifetime, options)
    if "only-if-cached" in " ".join(wants):
        assert served or decision is REFUSE
    else:
        assert decision is not REFUSE


@given(
    st.lists(st.tuples(st.sampled_from([b"cache-control", b"pragma"]), st.binary(max_size=40))),
    st.lists(st.tuples(st.just(b"cache-control"), st.binary(max_size=40))),
)
def test_any_bytes(
    request_headers: list[tuple[bytes, bytes]], stored: list[tuple[bytes, bytes]]
) -> None:
    """Any bytes on either side: a decision, no error."""
    assert decide(request_headers, stored, 5, 9, GRACE) in Decision
    assert after_error(request_headers, stored, 5, 9, GRACE) in (True, False)
    assert keep(stored, 5, 9, GRACE) >= 0
