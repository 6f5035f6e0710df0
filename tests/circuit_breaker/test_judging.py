"""What counts as a failure, as a success, and as neither."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from middleware.circuit_breaker.layer import CircuitOpen
from proxy.errors import (
    BodyTooLarge,
    ClientGone,
    ConnectFailed,
    InternalError,
    Unavailable,
    UpstreamClosed,
    UpstreamError,
    UpstreamProtocolError,
    UpstreamTimeout,
)
from proxy.exchange import Request, Stream

from .stage import QUICK, A, Stage, raises, says, streams

SCOPES = pytest.mark.parametrize(("scope", "endpoint"), [("endpoint", A), ("route", "")])


@SCOPES
@pytest.mark.parametrize(
    ("answer", "counted"),
    [
        *((says(status), (1, 1)) for status in (500, 501, 502, 504, 507)),
        *((says(status), (1, 0)) for status in (200, 101, 304, 400, 401, 404, 408, 422, 499)),
        *((says(status), (0, 0)) for status in (429, 503)),
        *((raises(kind("x")), (1, 1)) for kind in (
            UpstreamError, ConnectFailed, UpstreamClosed, UpstreamProtocolError, UpstreamTimeout,
        )),
        *((raises(error), (0, 0)) for error in (
            ClientGone(), asyncio.CancelledError(), Unavailable("x", code="upstream_pool_full"),
            BodyTooLarge("x"), InternalError("x"), ZeroDivisionError(),
        )),
    ],
)  # fmt: skip
async def test_a_head_or_an_error(
    answer: Any, counted: tuple[int, int], scope: str, endpoint: str
) -> None:
    """(calls, failures) that the window then holds; what was raised is raised on."""
    stage = Stage(scope=scope)
    stage.answers[A] = answer
    try:
        await stage.ask()
    except BaseException as error:
        if counted == (1, 0):
            raise
        assert "x" in str(error) or isinstance(error, (ClientGone, asyncio.CancelledError,
                                                       ZeroDivisionError))  # fmt: skip
    window = stage.circuit(endpoint).window
    assert (window.calls, window.failures) == counted


@SCOPES
@pytest.mark.parametrize(
    ("status", "counted"),
    [(200, (1, 0)), (422, (1, 0)), (429, (0, 0)), (500, (0, 0)), (502, (1, 1)), (504, (1, 1))],
)
async def test_a_call_on_trial(
    status: int, counted: tuple[int, int], scope: str, endpoint: str
) -> None:
    """That it fails tells of an item, and that the server is not reached tells of the server."""
    stage = Stage(scope=scope)
    stage.answers[A] = says(status)
    request = Request(b"POST", b"/v1/embeddings", [])
    request.on_trial = True
    await stage.handler(request.fork())
    window = stage.circuit(endpoint).window
    assert (window.calls, window.failures) == counted


@pytest.mark.parametrize("kind", [*range(7)])
async def test_a_probe_always_gives_its_permit_back(kind: int) -> None:
    """Whatever ends it without a verdict: afterwards as many are let through as before."""
    stage = Stage(probes=1, consecutive=1)
    await stage.fail()
    stage.now += 5
    stage.answers[A] = [
        raises(ClientGone()), raises(asyncio.CancelledError()), raises(Unavailable("x")),
        raises(ZeroDivisionError()), says(503), streams(Stream()), says(500),
    ][kind]  # fmt: skip
    request = Request(b"POST", b"/", [])
    request.on_trial = kind == 6
    try:
        await stage.handler(request)
    except BaseException as error:
        assert not isinstance(error, AssertionError)
    request.outcome.cancelled = True
    request.finish()
    circuit = stage.circuit()
    assert circuit.state == "half-open"
    stage.answers[A] = says(200)
    await stage.ask()
    assert circuit.state == "closed"


async def test_which_statuses_are_neutral_is_a_key() -> None:
    """Those, and only those."""
    stage = Stage(neutral=[529, 404])
    for status, counted in ((529, (0, 0)), (404, (0, 0)), (503, (1, 1)), (429, (2, 1))):
        stage.answers[A] = says(status)
        await stage.ask()
        window = stage.circuit().window
        assert (window.calls, window.failures) == counted


@pytest.mark.parametrize("declared", [True, False], ids=["length", "no length"])
async def test_when_an_answer_has_begun(declared: bool) -> None:
    """With its head where that tells the length; else with the first byte of its body."""
    stage = Stage()
    body = Stream()
    stage.answers[A] = streams(body, declared)
    request = Request(b"POST", b"/", [])
    await stage.handler(request)
    window = stage.circuit().window
    assert window.calls == declared
    stage.now += 2
    body.feed(b"data: 1\n\n")
    assert (window.calls, window.slow) == (1, not declared)
    stage.now += 2
    body.feed(b"data: 2\n\n")
    body.end()
    request.finish()
    assert (window.calls, window.slow, window.failures) == (1, not declared, 0)


@SCOPES
@pytest.mark.parametrize(("whole", "then"), [(True, 0), (False, 1), (False, 1.5)])
async def test_a_body_that_streams_in(scope: str, endpoint: str, whole: bool, then: float) -> None:
    """A client that sends it slowly makes no server slow: time counts from its end."""
    stage = Stage(scope=scope)
    body, answer = Stream(), Stream()
    stage.answers[A] = streams(answer)
    if whole:
        body.end()
    await stage.handler(Request(b"POST", b"/", [], body))
    stage.now += 10
    if not whole:
        body.end()
        stage.now += then
    answer.feed(b"x")
    window = stage.circuit(endpoint).window
    assert (window.calls, window.slow) == (1, whole or then > 1)


async def test_the_first_byte_may_come_with_the_head() -> None:
    """What is in the stream already has come."""
    stage = Stage()
    body = Stream()
    body.feed(b"data: 1\n\n")
    stage.answers[A] = streams(body)
    await stage.handler(Request(b"POST", b"/", []))
    assert stage.circuit().window.calls == 1
    assert await body.read() == b"data: 1\n\n"


@pytest.mark.parametrize("begun", [True, False])
@pytest.mark.parametrize("declared", [True, False])
@pytest.mark.parametrize(
    ("error", "cancelled", "failures"),
    [
        (UpstreamClosed("x"), False, 1),
        (UpstreamTimeout("x"), True, 1),  # the client left when it saw its answer break off
        (InternalError("a filter"), False, 0),
        (None, True, 0),
        (None, False, 0),
    ],
)
async def test_how_a_stream_ends(
    error: Any, cancelled: bool, failures: int, declared: bool, begun: bool
) -> None:
    """Broken off by the upstream it is a failure, counted once; by the client it is none, and
    counts as a success only if it had begun.
    """
    stage = Stage()
    body = Stream()
    stage.answers[A] = streams(body, declared)
    request = Request(b"POST", b"/", [])
    await stage.handler(request)
    if begun:
        body.feed(b"x")
    request.outcome.error, request.outcome.cancelled = error, cancelled
    request.finish()
    window = stage.circuit().window
    whole = error is None and not cancelled
    assert window.calls == (begun or declared or whole or failures)
    assert window.failures == failures
    body.feed(b"late")
    assert window.calls == (begun or declared or whole or failures)


async def test_a_client_that_sends_slowly_keeps_no_probe_from_others() -> None:
    """Its place goes to the next request after a second; it is sent on all the same, and what
    becomes of it is not judged. One whose request is here keeps its place.
    """
    stage = Stage(**QUICK, slow_ratio="off")
    await stage.fail()
    stage.now += 5
    slow = Request(b"POST", b"/", [], Stream())
    stage.answers[A] = streams(Stream())
    await stage.handler(slow)
    with pytest.raises(CircuitOpen) as caught:
        await stage.ask()
    assert caught.value.retry_after == 1.0
    stage.now += 1.0
    probe, body = Request(b"POST", b"/", []), Stream()
    stage.answers[A] = streams(body)
    await stage.handler(probe)
    assert len(stage.chosen) == 3
    stage.now += 60.0
    with pytest.raises(CircuitOpen):
        await stage.ask()
    slow.outcome.error = UpstreamClosed("x")
    slow.finish()
    assert stage.circuit().state == "half-open" and not stage.circuit().admits(stage.now)
    body.feed(b"x")
    assert stage.circuit().state == "closed"
    probe.finish()


async def test_streams_that_all_break_off_are_failures_in_a_row() -> None:
    """A first byte is no success of a call that then fails: the fifth such call opens it. One that
    went well between them ends the row.
    """

    async def stream(stage: Stage, error: Any) -> None:
        body = Stream()
        stage.answers[A] = streams(body)
        request = Request(b"POST", b"/", [])
        await stage.handler(request)
        body.feed(b"x")
        request.outcome.error = error
        request.finish()

    stage = Stage(error_ratio="off")
    broke = UpstreamClosed("x")
    for error in (broke, broke, broke, broke, None, broke, broke, broke, broke):
        await stream(stage, error)
    assert stage.circuit().state == "closed"
    await stream(stage, broke)
    assert stage.circuit().state == "open"


async def test_the_end_of_a_stream_is_no_second_success() -> None:
    """Failures in a row that came while it went on are still in a row."""
    stage = Stage(error_ratio="off")
    body = Stream()
    stage.answers[A] = streams(body)
    request = Request(b"POST", b"/", [])
    await stage.handler(request)
    body.feed(b"x")
    await stage.fail(4)
    body.end()
    request.finish()
    await stage.fail()
    assert stage.circuit().state == "open"


async def test_a_stream_tells_of_its_first_byte_once() -> None:
    """Neither an empty piece nor its end is one; later ones are not the first. Of its end too, at
    once where that has been.
    """
    told = []
    stream = Stream()
    stream.on_first(lambda: told.append(1))
    stream.feed(b"")
    assert not told
    stream.feed(b"a")
    stream.feed(b"b")
    assert told == [1]
    for done in (stream.end, lambda: stream.fail(UpstreamClosed("x")), stream.end):
        stream.on_done(lambda: told.append(3))
        done()
    assert told == [1, 3, 3, 3]
    del told[1:]
    empty = Stream()
    empty.on_first(lambda: told.append(2))
    empty.end()
    assert told == [1]


async def test_a_failure_with_a_body_under_way_is_counted_once() -> None:
    """Its end says nothing new."""
    stage = Stage()
    stage.answers[A] = streams(Stream(), status=500)
    request = Request(b"POST", b"/", [])
    await stage.handler(request)
    request.outcome.error = UpstreamClosed("x")
    request.finish()
    window = stage.circuit().window
    assert (window.calls, window.failures) == (1, 1)


@pytest.mark.parametrize(
    ("status", "value", "wait"),
    [(500, b"20", 20.0), (500, b"2", 5.0), (500, b"900", 60.0), (500, b"soon", 5.0),
     (500, b"Fri, 31 Dec 1999 23:59:59 GMT", 5.0)],
)  # fmt: skip
async def test_retry_after_is_honoured(status: int, value: bytes, wait: float) -> None:
    """Of the failure that opens it: at least that long, at most `max_open_for`."""
    stage = Stage(consecutive=1)
    stage.answers[A] = says(status, (b"Retry-After", value))
    await stage.ask()
    assert stage.circuit().until - stage.now == wait


async def test_a_probe_told_to_come_back() -> None:
    """503 with Retry-After, half-open: nothing is sent until then."""
    stage = Stage(consecutive=1)
    await stage.fail()
    stage.now += 5
    stage.answers[A] = says(503, (b"Retry-After", b"30"))
    await stage.ask()
    assert (stage.circuit().state, stage.circuit().until - stage.now) == ("open", 30)
