"""A map bounded by bytes."""

from __future__ import annotations

from collections.abc import Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from middleware.core.lru import LRU, OVERHEAD

KEYS = st.sampled_from([b"a", b"bb", b"ccc", b"d"])
OPERATIONS = st.lists(
    st.one_of(
        st.tuples(
            st.just("put"), st.sampled_from([b"a", b"bb", b"ccc", b"d"]), st.integers(0, 4000)
        ),
        st.tuples(st.just("get"), st.sampled_from([b"a", b"bb", b"ccc", b"d"]), st.just(0)),
        st.tuples(st.just("pop"), st.sampled_from([b"a", b"bb", b"ccc", b"d"]), st.just(0)),
        st.tuples(st.just("clear"), st.just(b""), st.just(0)),
    ),
    max_size=60,
)


class Naive:
    """The same, in the plainest way: a list, the least recently used first."""

    def __init__(self, max_bytes: int) -> None:
        self.max_bytes = max_bytes
        self.items: list[tuple[bytes, bytes]] = []

    def cost(self, items: Sequence[tuple[bytes, bytes]]) -> int:
        return sum(len(key) + len(value) + OVERHEAD for key, value in items)

    def get(self, key: bytes) -> bytes | None:
        for item in self.items:
            if item[0] == key:
                self.items.remove(item)
                self.items.append(item)
                return item[1]
        return None

    def pop(self, key: bytes) -> None:
        self.items = [item for item in self.items if item[0] != key]

    def put(self, key: bytes, value: bytes) -> bool:
        self.pop(key)
        if self.cost([(key, value)]) > self.max_bytes:
            return False
        self.items.append((key, value))
        while self.cost(self.items) > self.max_bytes:
            del self.items[0]
        return True


@given(st.integers(0, 8000), OPERATIONS)
def test_it_does_what_the_plain_one_does(
    max_bytes: int, operations: list[tuple[str, bytes, int]]
) -> None:
    """After any operations it holds what a plain list would, counts the same bytes, and is
    never over its bound.
    """
    lru: LRU[bytes] = LRU(max_bytes, len)
    naive = Naive(max_bytes)
    for what, key, size in operations:
        if what == "put":
            assert lru.put(key, bytes(size)) == naive.put(key, bytes(size))
        elif what == "get":
            assert lru.get(key) == naive.get(key)
        elif what == "pop":
            lru.pop(key)
            naive.pop(key)
        else:
            lru.clear()
            naive.items.clear()
        assert [(key, value) for key, value, _ in lru.items()] == naive.items[::-1]
        assert lru.bytes == naive.cost(naive.items) == sum(size for _, _, size in lru.items())
        assert lru.bytes <= max_bytes
        assert len(lru) == len(naive.items)


def test_the_bound_holds_between_two_steps_of_one_call() -> None:
    """Room is made before the new value is counted: nobody ever sees more than the bound."""
    seen: list[int] = []
    lru: LRU[bytes] = LRU(10 * (OVERHEAD + 101), len)

    def size_of(value: bytes) -> int:
        seen.append(lru.bytes)
        return len(value)

    lru._size_of = size_of
    for one in range(100):
        lru.put(b"%d" % (one % 10), bytes(99 + one % 3))
    assert max(seen) <= lru.max_bytes


def test_ten_thousand_huge_bodies_stay_within_the_bound() -> None:
    """However many distinct large values come, the sum of what is held stays under the bound."""
    lru: LRU[bytes] = LRU(1 << 20, len)
    body = bytes(200_000)
    for one in range(10_000):
        assert lru.put(b"%032d" % one, body)
        assert lru.bytes <= lru.max_bytes
    assert len(lru) == 5
    assert lru.evicted == 9_995


def test_what_was_used_goes_last() -> None:
    """A `get` saves its item from being the next to go."""
    lru: LRU[bytes] = LRU(3 * (OVERHEAD + 11), len)
    for key in (b"a", b"b", b"c"):
        lru.put(key, bytes(10))
    lru.get(b"a")
    lru.put(b"d", bytes(10))
    assert [key for key, _, _ in lru.items()] == [b"d", b"a", b"c"]


def test_what_cannot_fit_evicts_nothing_else() -> None:
    """A value over the bound is refused, ends what its key held, and evicts no other."""
    lru: LRU[bytes] = LRU(2 * (OVERHEAD + 11), len)
    lru.put(b"a", bytes(10))
    lru.put(b"b", bytes(10))
    assert not lru.put(b"a", bytes(5000))
    assert lru.get(b"a") is None, "the old value is no longer what the key means"
    assert lru.get(b"b") is not None
    assert lru.evicted == 0


def test_items_may_be_changed_while_they_are_walked() -> None:
    """`items` walks a copy: a purge may take out what it sees."""
    lru: LRU[bytes] = LRU(1 << 16, len)
    for one in range(10):
        lru.put(b"%d" % one, b"")
    for key, _, _ in lru.items():
        lru.pop(key)
    assert len(lru) == 0 and lru.bytes == 0


@pytest.mark.parametrize("max_bytes", [0, 1, OVERHEAD])
def test_a_bound_too_small_for_anything_holds_nothing(max_bytes: int) -> None:
    """Such a cache is legal, and empty."""
    lru: LRU[bytes] = LRU(max_bytes, len)
    assert not lru.put(b"k", b"")
    assert len(lru) == 0
