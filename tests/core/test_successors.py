"""Which request follows which."""

from __future__ import annotations

from collections import Counter, defaultdict

from hypothesis import given
from hypothesis import strategies as st

from middleware.core.successors import CEILING, Successors

GAP = 60.0


def walk(
    successors: Successors, path: str, *, tenant: bytes = b"t", session: bytes = b"s", at: float = 0
) -> float:
    """One session asks for each letter, a second apart; when the last one was asked for."""
    for letter in path:
        successors.seen(tenant, session, letter.encode(), at)
        at += 1
    return at - 1


def likely(successors: Successors, state: str, probability: float = 0.01) -> dict[str, float]:
    found = successors.likely(b"t", state.encode(), probability)
    assert [p for _, p in found] == sorted((p for _, p in found), reverse=True)
    return {successor.decode(): p for successor, p in found}


def test_once_is_chance() -> None:
    """A successor counts from its second time on."""
    successors = Successors(GAP)
    walk(successors, "ab", session=b"1")
    assert likely(successors, "a") == {}
    walk(successors, "ab", session=b"2")
    assert likely(successors, "a") == {"b": 1.0}


def test_shares_are_of_all_departures() -> None:
    """Three of four go to b, one to c: b has 0.75, and c, seen once, is not told."""
    successors = Successors(GAP)
    for session, path in enumerate(("ab", "ab", "ac", "ab")):
        walk(successors, path, session=b"%d" % session)
    assert likely(successors, "a") == {"b": 0.75}
    assert likely(successors, "a", 0.75) == {"b": 0.75}
    assert likely(successors, "a", 0.76) == {}


def test_asking_again_is_no_step() -> None:
    """A repeat neither follows itself nor hides what comes behind it."""
    successors = Successors(GAP)
    walk(successors, "aaab", session=b"1")
    walk(successors, "aab", session=b"2")
    assert likely(successors, "a") == {"b": 1.0}


def test_a_session_that_was_left_is_a_departure_to_nothing() -> None:
    """Two of four sessions end in a: b has half. What comes behind the gap follows nothing."""
    successors = Successors(GAP)
    at = 0.0
    for session, path in enumerate(("ab", "ab", "a", "a")):
        at = walk(successors, path, session=b"%d" % session, at=at) + 1
    successors.seen(b"t", b"3", b"c", at + GAP + 1)
    assert likely(successors, "a") == {"b": 0.5}
    assert likely(successors, "b") == {}


def test_a_return_to_the_same_ends_the_old_session_too() -> None:
    """Whoever asks for a again behind the gap has left it once."""
    successors = Successors(GAP)
    at = 0.0
    for session in (b"1", b"2"):
        at = walk(successors, "ab", session=session, at=at) + 1
    successors.seen(b"t", b"3", b"a", at)
    successors.seen(b"t", b"3", b"a", at + GAP + 1)
    assert likely(successors, "a") == {"b": 2 / 3}


def test_the_gap_itself_is_within_a_session() -> None:
    """A step that takes just the gap counts."""
    successors = Successors(GAP)
    for session in (b"1", b"2"):
        successors.seen(b"t", session, b"a", 0)
    for session in (b"1", b"2"):
        successors.seen(b"t", session, b"b", GAP)
    assert likely(successors, "a") == {"b": 1.0}


def test_sessions_are_apart() -> None:
    """Two sessions that take turns are not one that goes to and fro."""
    successors = Successors(GAP)
    for turn in range(4):
        for at, letter in enumerate("ab"):
            for session in (b"1", b"2"):
                path = letter if session == b"1" else letter.upper()
                successors.seen(b"t", session, path.encode(), 2 * turn + at)
    assert likely(successors, "a") == {"b": 1.0}
    assert likely(successors, "A") == {"B": 1.0}


def test_habits_fade() -> None:
    """However long a led to b, within twice CEILING departures c has most of it."""
    successors = Successors(GAP)
    for number in range(10_000):
        walk(successors, "ab", session=b"%d" % (number % 50), at=number)
    assert likely(successors, "a")["b"] > 0.9
    for number in range(2 * CEILING):
        walk(successors, "ac", session=b"x%d" % (number % 50), at=20_000 + number)
    assert likely(successors, "a", 0.5).keys() == {"c"}


def test_the_rarest_successor_makes_room() -> None:
    """Any number of others, each seen once, do not push a frequent one out."""
    successors = Successors(GAP, max_successors=4)
    for number in range(40):
        walk(successors, "ab", session=b"1", at=10 * number)
        walk(successors, "a" + chr(200 + number), session=b"2", at=10 * number)
    assert 0.4 < likely(successors, "a")["b"] <= 0.5


def test_the_tenant_that_was_away_longest_makes_room() -> None:
    """A tenant with many states takes them from itself first, then from the idle."""
    successors = Successors(GAP, max_states=6, max_per_tenant=3)
    for tenant, count in ((b"idle", 3), (b"active", 3), (b"scanner", 50)):
        for number in range(count):
            for _ in range(2):
                for state in (b"a%d" % number, b"b"):
                    successors.seen(tenant, b"%d" % number, state, 0.0)
    assert successors.states == 6
    assert not any(successors.likely(b"idle", b"a%d" % number, 0.1) for number in range(3))
    assert successors.likely(b"scanner", b"a49", 0.1)


def test_what_was_used_longest_ago_makes_room() -> None:
    """Of a tenant's states, and of the tenants: not the one that was first, but first left."""
    successors = Successors(GAP, max_states=100, max_per_tenant=3)
    for path in ("ab", "ab", "cd", "cd", "ab", "ef", "gh"):
        walk(successors, path, session=path.encode())
        walk(successors, path, session=path.encode() + b"2")
    kept = {state for state in "abcdefgh" if successors._tenants[b"t"].get(state.encode())}
    assert len(kept) == 3 and "a" in kept and "c" not in kept

    successors = Successors(GAP, max_states=2)
    for tenant, path in ((b"t", "ab"), (b"u", "ab"), (b"t", "ab"), (b"v", "ab")):
        for session in (b"1", b"2"):
            walk(successors, path, tenant=tenant, session=session + path.encode())
            successors._sessions.clear()
    assert likely(successors, "a") and not successors.likely(b"u", b"a", 0.1)


steps = st.lists(
    st.tuples(
        st.sampled_from([b"t", b"u", b"v"]),
        st.sampled_from([b"1", b"2", b"3"]),
        st.integers(0, 5),
        st.sampled_from([0.0, 1.0, GAP, GAP + 1]),
    ),
    max_size=300,
)


@given(steps, st.integers(1, 6), st.integers(1, 4), st.integers(1, 3), st.integers(1, 4))
def test_memory_is_bounded_and_tenants_are_apart(
    steps: list[tuple[bytes, bytes, int, float]],
    max_states: int,
    max_per_tenant: int,
    max_successors: int,
    max_sessions: int,
) -> None:
    """After every step of any sequence: each table within its bound, each probability in (0, 1]
    and all of a state's at most 1 together, and nobody is told what another tenant asked for.
    """
    successors = Successors(GAP, max_states, max_per_tenant, max_successors, max_sessions)
    now = 0.0
    asked: dict[bytes, set[bytes]] = defaultdict(set)
    for tenant, session, number, later in steps:
        now += later
        state = tenant + b"%d" % number
        asked[tenant].add(state)
        successors.seen(tenant, session, state, now)
        assert successors.sessions <= max_sessions
        tables = successors._tenants
        assert successors.states == sum(map(len, tables.values())) <= max_states
        assert all(0 < len(table) <= max_per_tenant for table in tables.values())
        for table in tables.values():
            for departures in table.values():
                assert len(departures.links) <= max_successors
                assert sum(departures.links.values()) <= departures.total <= CEILING
        for one in asked:
            for other in (state for states in asked.values() for state in states):
                told = successors.likely(one, other, 0.001)
                assert {successor for successor, _ in told} <= asked[one]
                assert all(0 < p <= 1 for _, p in told) and sum(p for _, p in told) <= 1 + 1e-9


@given(st.lists(st.tuples(st.integers(0, 2), st.integers(0, 3)), max_size=60))
def test_it_counts_as_a_plain_count_does(steps: list[tuple[int, int]]) -> None:
    """Below every bound the probabilities are those of all the steps, counted by hand."""
    successors = Successors(GAP)
    last: dict[int, int] = {}
    counts: dict[int, Counter[int]] = defaultdict(Counter)
    for session, state in steps:
        successors.seen(b"t", b"%d" % session, b"%d" % state, 0.0)
        if session in last and last[session] != state:
            counts[last[session]][state] += 1
        last[session] = state
    for state in range(4):
        links = counts[state]
        expected = {
            b"%d" % link: n / links.total()
            for link, n in links.items()
            if n >= 2 and n >= 0.4 * links.total()
        }
        assert dict(successors.likely(b"t", b"%d" % state, 0.4)) == expected
