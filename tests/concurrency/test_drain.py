"""When it pays to come again."""

from __future__ import annotations

import pytest

from middleware.core.drain import REMEMBERED, Drain


def test_the_pace_is_what_left_while_something_waited() -> None:
    """Ten a second: a hundred more take ten seconds."""
    drain = Drain()
    drain.filled(100.0)
    for turn in range(1, 21):
        drain.served(100.0 + turn / 10, waiting=5)
    assert drain.seconds(100, 102.0) == pytest.approx(10.0)


def test_idle_time_does_not_count() -> None:
    """An hour between two rushes changes nothing, nor does a client that gave up waiting."""
    drain = Drain()
    drain.filled(0.0)
    drain.served(1.0, waiting=1)
    drain.served(2.0, waiting=0)
    assert drain.seconds(4, 3600.0) == pytest.approx(4.0)
    drain.filled(3600.0)
    drain.emptied()
    assert drain.seconds(4, 7200.0) == pytest.approx(4.0)


def test_a_new_pace_is_learned() -> None:
    """What was long ago counts less and less."""
    drain = Drain()
    drain.filled(0.0)
    now = 0.0
    for _ in range(10 * REMEMBERED):
        now += 0.001
        drain.served(now, waiting=1)
    for _ in range(3 * REMEMBERED):
        now += 1.0
        drain.served(now, waiting=1)
    assert drain.seconds(1, now) == pytest.approx(1.0, rel=0.05)


def test_a_server_that_answers_nothing_is_not_fast() -> None:
    """The longer none has left, the longer it takes."""
    drain = Drain()
    assert drain.seconds(5, 10.0) == 0.0
    drain.filled(10.0)
    assert drain.seconds(5, 13.0) == pytest.approx(15.0)
