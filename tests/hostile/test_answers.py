"""Each row of the table of answers, from an upstream that writes exactly those bytes."""

from __future__ import annotations

import re
from collections.abc import Iterator

import pytest

from .answers import CASES, AnswerCase
from .harness import Stage
from .upstreams import Received, Reply, echo
from .wire import Answer, Wire

_FRAMING = (b"content-length", b"transfer-encoding", b"connection")


def _script(request: Received) -> Reply:
    number = re.fullmatch(rb"/case/(\d+)(/dribble)?", request.target)
    if number is None:
        return echo(request)
    case = CASES[int(number[1])]
    return Reply(case.raw, close=case.closes, dribble=number[2] is not None)


@pytest.fixture(scope="module")
def theatre() -> Iterator[Stage]:
    stage = Stage(_script)
    yield stage
    stage.close()


def _plays() -> Iterator[tuple[int, str]]:
    for number, case in enumerate(CASES):
        yield number, ""
        if len(case.raw) <= 512:
            yield number, "/dribble"


@pytest.mark.parametrize(
    ("number", "manner"),
    [pytest.param(n, m, id=f"{CASES[n].name}{m}") for n, m in _plays()],
)
def test_answer(theatre: Stage, number: int, manner: str) -> None:
    """A hostile answer is 502 or visibly broken off, its connection dropped; a right one passes."""
    case = CASES[number]
    theatre.forget()
    with Wire(theatre.address) as wire:
        wire.send(
            b"%s /case/%d%s HTTP/1.1\r\nHost: h\r\n\r\n" % (case.method, number, manner.encode())
        )
        answers, rest = wire.read(1, [case.method])
        used = [r.connection for r in theatre.upstream.requests if r.target.startswith(b"/case")]
        passes = case.kind == "passed" or (
            case.kind == "mended" and [a.status for a in answers if a.whole] == [case.status]
        )
        if passes:
            assert len(answers) == 1 and not rest
            _check_passed(case, answers[0])
        else:
            _check_refused(case, answers, wire)
        # One that died without a byte on a kept connection was tried once more; no other is.
        assert len(used) == 1 or (not case.raw and len(used) == 2)
        if case.dropped or not passes:
            for connection in used:
                theatre.upstream.wait_closed(connection)
        if not wire.ended:
            wire.received = b""
            wire.send(b"GET /clean HTTP/1.1\r\nHost: h\r\n\r\n")
            after, rest = wire.read(1, [])
            assert [(a.status, a.body, rest) for a in after] == [(200, b"/clean", b"")]
    theatre.ping()
    assert not theatre.upstream.violations


def _check_passed(case: AnswerCase, answer: Answer) -> None:
    reason = re.findall(rb"HTTP/1\.[01] %d ([^\r]*)\r" % case.status, case.raw)[0]
    assert answer.whole and answer.reason == (reason or b"OK")
    lines = tuple(n + b": " + v for n, v in answer.fields if n.lower() not in _FRAMING)
    trailers = tuple(n + b": " + v for n, v in answer.trailers)
    assert (answer.status, lines, answer.body) == (case.status, case.fields, case.body)
    assert trailers == case.trailers


def _check_refused(case: AnswerCase, answers: list[Answer], wire: Wire) -> None:
    assert len(answers) == 1 or (case.kind != "502" and wire.ended)
    for answer in answers:
        if answer.whole:
            assert answer.status == 502, answer
        else:
            assert case.kind != "502", answer
            assert wire.ended, "an answer that broke off needs a closed connection"


def test_table_of_answers() -> None:
    """The table has the size that was promised, and each row a name and an RFC section."""
    assert sum(case.kind in ("502", "cut") for case in CASES) >= 40
    assert len({case.name for case in CASES}) == len(CASES)
    for case in CASES:
        assert re.fullmatch(r"9(110|112) \d+(\.\d+)*", case.section), case.name
