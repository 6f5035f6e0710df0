"""What a client may ask of the cache: Cache-Control, Pragma, x-remora-cache."""

from __future__ import annotations

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from middleware.cache.control import NONE, Wishes, wishes, without_switch
from tests.cache.conftest import MakeRig
from tests.cache.rig import hit, status


@pytest.mark.parametrize(
    ("field", "expected"),
    [
        ("no-cache", Wishes(read=False)),
        ("No-Store", Wishes(read=False, write=False)),
        ("max-age=10", Wishes(max_age=10.0)),
        ('max-age="10"', Wishes(max_age=10.0)),
        ("max-age=x", Wishes(max_age=0.0)),
        ("max-age=99999999999999999999", Wishes(max_age=2.0**31)),
        ("min-fresh=5, max-stale=7", Wishes(min_fresh=5.0, max_stale=7.0)),
        ("max-stale", Wishes(max_stale=float("inf"))),
        ("only-if-cached", Wishes(only_if_cached=True)),
        ('ext="no-store, no-cache"', Wishes()),
        ("no-storex, xno-cache", Wishes()),
        (",,", Wishes()),
    ],
)
def test_cache_control_is_read_as_its_grammar_says(field: str, expected: Wishes) -> None:
    """Directives are told apart by name, quoted commas divide nothing, nonsense reuses least."""
    assert wishes([(b"Cache-Control", field.encode())]) == expected


def test_pragma_counts_only_alone() -> None:
    """`Pragma: no-cache` is minded where there is no Cache-Control (RFC 9111 section 5.4)."""
    assert wishes([(b"pragma", b"no-cache")]) == Wishes(read=False)
    assert wishes([(b"pragma", b"no-cache"), (b"cache-control", b"max-age=5")]) == Wishes(max_age=5)


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ("on", Wishes()),
        ("ON", Wishes()),
        ("read-only", Wishes(write=False)),
        ("write-only", Wishes(read=False)),
        ("off", None),
        ("sideways", Wishes()),
    ],
)
def test_the_switch_has_four_places(value: str, expected: Wishes | None) -> None:
    """x-remora-cache is on, off, read-only or write-only; what it is not is on."""
    assert wishes([(b"X-Remora-Cache", value.encode())]) == expected


@given(st.lists(st.tuples(st.sampled_from([b"cache-control", b"pragma", b"x"]), st.binary())))
def test_no_field_breaks_it(headers: list[tuple[bytes, bytes]]) -> None:
    """Whatever a client writes, it has some wish, and the fields stay as they are."""
    assert wishes(headers) is not None
    assert without_switch(headers) is headers
    assert not any(name == b"cache-control" for name, _ in headers) or wishes(headers) is not NONE


async def test_no_cache_asks_anew_and_renews(rig: MakeRig) -> None:
    """`no-cache` gets a new answer, and everybody gets that one from then on."""
    one = await rig()
    await one.ask()
    fresh = await one.ask(None, "Cache-Control: no-cache")
    assert fresh.body == b'{"answer":2}'
    assert status(fresh)["fwd"] == "request"
    assert (await one.ask()).body == fresh.body


async def test_no_store_leaves_no_trace(rig: MakeRig) -> None:
    """`no-store` neither reads nor writes."""
    one = await rig()
    await one.ask()
    assert (await one.ask(None, "Cache-Control: no-store")).body == b'{"answer":2}'
    assert (await one.ask()).body == b'{"answer":1}'


async def test_max_age_bounds_how_old_an_answer_may_be(rig: MakeRig) -> None:
    """Older than `max-age` seconds is not good enough; younger is."""
    one = await rig(ttl=300)
    await one.ask()
    one.clock.advance(100)
    assert hit(await one.ask(None, "Cache-Control: max-age=101"))
    assert not hit(await one.ask(None, "Cache-Control: max-age=99"))
    assert not hit(await one.ask(None, "Cache-Control: max-age=0"))


async def test_min_fresh_bounds_how_soon_it_may_be_stale(rig: MakeRig) -> None:
    """An answer must stay fresh for `min-fresh` seconds more."""
    one = await rig(ttl=300)
    await one.ask()
    one.clock.advance(100)
    assert hit(await one.ask(None, "Cache-Control: min-fresh=199"))
    assert not hit(await one.ask(None, "Cache-Control: min-fresh=201"))
    one.clock.advance(299)
    assert not hit(await one.ask(None, "Cache-Control: min-fresh=2, max-stale=100"))


async def test_max_stale_takes_an_old_one(rig: MakeRig) -> None:
    """An answer stale for no longer than `max-stale` will do, with its age told."""
    one = await rig(ttl=300)
    await one.ask()
    one.clock.advance(400)
    old = await one.ask(None, "Cache-Control: max-stale=101")
    assert hit(old) and old["age"] == "400"
    assert int(status(old)["ttl"]) == -100
    assert not hit(await one.ask(None, "Cache-Control: max-stale=99"))
    one.clock.advance(10_000)
    assert hit(await one.ask(None, "Cache-Control: max-stale"))


async def test_only_if_cached_never_asks(rig: MakeRig) -> None:
    """With nothing stored it gets 504 in the dialect of the API, and the upstream nothing."""
    one = await rig()
    refused = await one.ask(None, "Cache-Control: only-if-cached")
    assert refused.status == 504
    error = orjson.loads(refused.body)["error"]
    assert error["code"] == "not_cached" and error["message"]
    assert one.origin.count == 0
    await one.ask()
    assert hit(await one.ask(None, "Cache-Control: only-if-cached"))
    one.clock.advance(301)
    assert (await one.ask(None, "Cache-Control: only-if-cached")).status == 504
    assert one.origin.count == 1


async def test_off_leaves_the_cache_out(rig: MakeRig) -> None:
    """`off` passes by, and nothing of remora is in the answer."""
    one = await rig()
    await one.ask()
    passed = await one.ask(None, "X-Remora-Cache: off")
    assert passed.body == b'{"answer":2}'
    assert passed["cache-status"] is None
    assert (await one.ask()).body == b'{"answer":1}'


async def test_read_only_stores_nothing(rig: MakeRig) -> None:
    """`read-only` uses what is stored and adds nothing."""
    one = await rig()
    assert (await one.ask(None, "X-Remora-Cache: read-only")).body == b'{"answer":1}'
    assert (await one.ask()).body == b'{"answer":2}'
    assert hit(await one.ask(None, "X-Remora-Cache: read-only"))


async def test_write_only_uses_nothing(rig: MakeRig) -> None:
    """`write-only` asks anew and stores what came."""
    one = await rig()
    await one.ask()
    assert (await one.ask(None, "X-Remora-Cache: write-only")).body == b'{"answer":2}'
    assert (await one.ask()).body == b'{"answer":2}'


@pytest.mark.parametrize("value", ["on", "off", "read-only", "write-only", "nonsense"])
async def test_the_switch_stays_with_remora(rig: MakeRig, value: str) -> None:
    """The upstream never sees x-remora-cache."""
    one = await rig()
    await one.ask(None, f"X-Remora-Cache: {value}")
    await one.ask({"messages": [], "temperature": 1}, f"X-Remora-Cache: {value}",
                  target="/v1/chat/completions")  # fmt: skip
    assert one.origin.count == 2
    for seen in one.origin.seen:
        assert seen["x-remora-cache"] is None
