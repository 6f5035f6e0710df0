"""Any bytes at all from an upstream: a right answer, 502, or one that visibly breaks off."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from .answers import CASES
from .anything import damaged
from .harness import Stage
from .upstreams import Received, Reply, echo
from .wire import Answer, Malformed, Wire, parse_answers

SMALL = [case.raw for case in CASES if len(case.raw) <= 512]


class Upstream:
    """Answers /any with `raw`, then closes; everything else cleanly."""

    raw = b""

    def __call__(self, request: Received) -> Reply:
        return Reply(self.raw, close=True) if request.target == b"/any" else echo(request)


@pytest.fixture(scope="module")
def stage_and_upstream() -> Iterator[tuple[Stage, Upstream]]:
    upstream = Upstream()
    stage = Stage(upstream)
    yield stage, upstream
    stage.close()


def _strictly(raw: bytes) -> Answer | None:
    """The first answer in `raw`, or None where its framing is not what remora writes itself."""
    try:
        answers, _ = parse_answers(raw, [], True)
    except (Malformed, ValueError):
        return None
    return answers[0] if answers and answers[0].whole else None


@settings(max_examples=600, deadline=None)
@given(raw=damaged(st.sampled_from(SMALL)) | st.binary(max_size=200))
def test_any_answer(stage_and_upstream: tuple[Stage, Upstream], raw: bytes) -> None:
    """A whole answer is 502 or has the status and the body that the upstream framed; then all is
    well again."""
    stage, upstream = stage_and_upstream
    upstream.raw = raw
    stage.forget()
    with Wire(stage.address) as wire:
        wire.send(b"GET /any HTTP/1.1\r\nHost: h\r\n\r\n")
        answers, rest = wire.read(1, [])
        assert not rest
        if not answers or not answers[0].whole:
            assert wire.ended
        elif answers[0].status != 502 and (strict := _strictly(raw)) is not None:
            assert (answers[0].status, answers[0].body) == (strict.status, strict.body)
    stage.ping()
    assert not stage.upstream.violations
