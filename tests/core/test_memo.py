"""A table that forgets all rather than grow."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from middleware.core.memo import OVERHEAD, Memo


def test_it_remembers() -> None:
    """What was put is found under an equal key, and nothing under another."""
    memo: Memo[str] = Memo(10 * OVERHEAD)
    memo.put((b"a", b"b"), "ab", 2)
    assert memo.get((b"a", b"b")) == "ab"
    assert memo.get((b"ab",)) is None


def test_one_more_than_fits_and_all_is_forgotten_but_that_one() -> None:
    """The bound counts each item's overhead."""
    memo: Memo[int] = Memo(3 * (OVERHEAD + 1))
    for number in range(3):
        memo.put(number, number, 1)
    assert len(memo) == 3 and memo.bytes == memo.max_bytes
    memo.put(3, 3, 1)
    assert (len(memo), memo.get(3), memo.get(0)) == (1, 3, None)


def test_what_is_too_large_by_itself_costs_nobody_his_place() -> None:
    """It is not remembered, and what is stays."""
    memo: Memo[int] = Memo(2 * OVERHEAD)
    memo.put("small", 1, 1)
    memo.put("large", 2, OVERHEAD + 1)
    assert (memo.get("small"), memo.get("large")) == (1, None)


@given(st.lists(st.tuples(st.integers(0, 9), st.integers(0, 3 * OVERHEAD))))
def test_the_sum_never_exceeds_the_bound(puts: list[tuple[int, int]]) -> None:
    """Whatever is put in whatever order, again and again too."""
    memo: Memo[int] = Memo(4 * OVERHEAD)
    for key, size in puts:
        memo.put(key, size, size)
        assert memo.bytes <= memo.max_bytes
        assert len(memo) * OVERHEAD <= memo.bytes
