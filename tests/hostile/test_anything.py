"""Any bytes at all over real sockets: a correct exchange, or an error and a closed connection."""

from __future__ import annotations

from hypothesis import HealthCheck, given, settings

from .anything import anything
from .harness import Stage
from .test_parser import read
from .wire import Answer, Wire

REFUSED = (400, 405, 413, 414, 417, 431, 501, 505)


@settings(
    max_examples=1000, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(raw=anything())
def test_any_bytes(stage: Stage, raw: bytes) -> None:
    """The edge does with any bytes what its reader says of them, and is well afterwards.

    What the reader makes of them is held against llhttp in test_differential.
    """
    expected = read([raw])
    methods = [request[0] for request in expected.requests]
    stage.forget()
    with Wire(stage.address) as wire:
        wire.send(raw)
        if expected.error is None and not expected.closes:
            wire.read(len(methods), methods)
            stage.ping()
            # Nothing more may come; whoever ends in mid-request gets no answer to it.
            wire.end()
        answers, rest = wire.read_to_end([*methods, expected.pending or b"GET"])
    stage.ping()
    assert not stage.upstream.violations, stage.upstream.violations
    _check(expected.error is not None, len(methods), answers, rest)
    seen = [(r.method, r.target, r.seen.body) for r in stage.requests()]
    assert seen == [(method, target, body) for method, target, _, body, _ in expected.requests]


def _check(fails: bool, count: int, answers: list[Answer], rest: bytes) -> None:
    """`count` answers of 200, then one refusal if it `fails` in a head, else perhaps one."""
    assert not rest
    assert all(answer.whole for answer in answers)
    assert [answer.status for answer in answers[:count]] == [200] * count
    refusals = answers[count:]
    assert len(refusals) <= 1
    for answer in refusals:
        assert answer.status in (*REFUSED, 408)
        assert answer.get(b"connection") == b"close"
        assert fails or answer.status in (400, 408), "refused what its reader takes"
