"""What the layer does with each request, and with its permit."""

from __future__ import annotations

import asyncio
import re
from pathlib import Path
from typing import Any

import pytest
import yaml
from pydantic import ValidationError

from middleware.concurrency import Concurrency
from middleware.concurrency.config import MAX_PRIORITIES
from middleware.core.gradient import START
from proxy.assembly import RouteInfo
from proxy.chain import ChainOrder, check_order
from proxy.errors import ProxyError, UpstreamClosed, UpstreamTimeout
from proxy.exchange import Identity, Request, Response, Stream

from .rig import Rig, fine, request

KINDS = pytest.mark.parametrize(
    "kind", [{"limit": 1}, {"limit": "adaptive", "max_limit": 1}], ids=["fixed", "adaptive"]
)
"""Both kinds of limit, with one permit."""


@KINDS
async def test_a_permit_is_held_until_the_exchange_has_ended(kind: dict[str, Any]) -> None:
    """Not until the head: the body is still to come then."""
    rig = Rig(**kind)
    one = request()
    task = rig.ask(one)
    await rig.settle()
    rig.answer(one, Response(200, [], Stream()))
    await task
    assert rig.permits.in_flight == 1
    one.finish()
    assert rig.permits.in_flight == 0
    one.finish()
    assert rig.permits.in_flight == 0


@KINDS
@pytest.mark.parametrize("error", [UpstreamClosed("gone"), ZeroDivisionError()], ids=repr)
async def test_a_failed_call_gives_its_permit_back_at_once_and_once(
    error: Exception, kind: dict[str, Any]
) -> None:
    """A layer outside may go on with the request, even ask again; its end gives nothing twice."""
    rig = Rig(**kind)
    one = request()
    task = rig.ask(one)
    await rig.settle()
    rig.answer(one, error)
    with pytest.raises(type(error)):
        await task
    assert rig.permits.in_flight == 0
    one.finish()
    assert rig.permits.in_flight == 0
    assert rig.permits._held == {}


@KINDS
async def test_a_client_that_leaves_gives_its_permit_back(kind: dict[str, Any]) -> None:
    """While the server computes: the next one is sent."""
    rig = Rig(**kind)
    first, second = request(), request()
    leaving, waiting = rig.ask(first), rig.ask(second)
    await rig.settle()
    assert [one for one, _ in rig.sent] == [first]
    leaving.cancel()
    await rig.settle()
    first.finish()
    assert [one for one, _ in rig.sent] == [first, second]
    rig.answer(second, fine())
    await waiting
    second.finish()
    assert rig.permits.in_flight == 0


async def test_where_a_permit_is_free_nothing_is_awaited() -> None:
    """The request is with the next layer before the caller's first await."""
    for limit in (3, "adaptive"):
        rig = Rig(limit=limit)
        one = request()
        step = rig.handler(one).__await__()
        step.send(None)
        assert [sent for sent, _ in rig.sent] == [one]
        step.close()


@KINDS
async def test_the_client_is_the_tenant_where_nobody_is_known(kind: dict[str, Any]) -> None:
    """A flood from one address goes behind the request of another; a key's requests are one
    tenant's wherever they come from.
    """
    rig = Rig(**kind)
    flood = [request(client="10.0.0.1") for _ in range(3)]
    keyed = [request(client=f"10.0.0.{number}") for number in (7, 8)]
    for one in keyed:
        one.tenant = "team"
    light = request(client="10.0.0.9")
    tasks = []
    for one in (*flood, *keyed, light):
        tasks.append(rig.ask(one))
        await rig.settle()
    for _ in tasks:
        one, answer = rig.sent[-1]
        answer.set_result(fine())
        await rig.settle()
        one.finish()
        await rig.settle()
    order = [one for one, _ in rig.sent]
    assert order == [flood[0], flood[1], keyed[0], light, flood[2], keyed[1]]
    await asyncio.gather(*tasks)


ROOT = Path(__file__).parents[2]
HEADER = {"header": "X-Priority", "highest": 5, "default": 1}


@pytest.mark.parametrize(
    ("value", "priority"),
    [(b"0", 0), (b"3", 3), (b"5", 5), (b"6", 5), (b"999999999", 5), (b"9" * 5000, 5), (b"-1", 1),
     (b"+2", 1), (b"2.5", 1), (b"high", 1), (b"", 1), (b"1_0", 1), (b"\xb2", 1), (None, 1)],
)  # fmt: skip
async def test_a_header_may_ask_for_a_priority_within_its_bound(
    value: bytes | None, priority: int
) -> None:
    """A whole number from 0; a larger one is the highest there is, anything else the default."""
    rig = Rig(limit=1, priority=HEADER)
    fields = [] if value is None else [(b"x-PRIORITY", value)]
    tasks = [rig.ask(request()), rig.ask(request(*fields))]
    await rig.settle()
    queue = rig.permits._queue
    assert queue.pop({}).priority == priority
    for task in tasks:
        task.cancel()
    await rig.settle()


async def test_a_key_has_its_priority() -> None:
    """What `auth` found, unless a header is to be asked; 0 where nobody is known."""
    keyed = request((b"x-priority", b"2"))
    keyed.identity = Identity("gold", priority=7)
    for keys, expected in (({}, 7), ({"priority": "key"}, 7), ({"priority": HEADER}, 2)):
        rig = Rig(limit=1, **keys)
        tasks = [rig.ask(request()), rig.ask(keyed)]
        await rig.settle()
        assert rig.permits._queue.pop({}).priority == expected
        for task in tasks:
            task.cancel()
        await rig.settle()


@pytest.mark.parametrize(
    ("scope", "names"),
    [("upstream", {"one", "two"}), ("route", {"a", "b", "c"}), ("chain", {"chain"})],
)
async def test_the_scope_says_who_shares_a_limit(scope: str, names: set[str]) -> None:
    """Of three routes with one layer, two go to the same upstream."""
    rig = Rig(limit=1, scope=scope)
    rig.layer.permits.clear()
    handlers = [rig.bind("a", "one"), rig.bind("b", "one"), rig.bind("c", "two")]
    assert set(rig.layer.permits) == names
    tasks = [rig.ask(request(), handler) for handler in handlers]
    await rig.settle()
    assert len(rig.sent) == len(names)
    for task in tasks:
        task.cancel()
    await rig.settle()


async def test_what_is_counted() -> None:
    """Limit, in flight and waiting as they are; who waited, how long, and who was refused why."""
    rig = Rig(limit=1, queue=1, queue_timeout=0.01)
    await rig.layer.start()
    first, second, third = request(), request(), request()
    tasks = [rig.ask(first), rig.ask(second), rig.ask(third)]
    await rig.settle()
    gauges = [rig.count(name, scope="default") for name in ("limit", "in_flight", "waiting")]
    assert gauges == [1, 1, 1]
    with pytest.raises(ProxyError, match="as many") as full:
        await tasks[2]
    assert (full.value.status, full.value.code) == (503, "queue_full")
    rig.now += 2.0
    with pytest.raises(ProxyError, match="no permit") as late:
        await tasks[1]
    assert (late.value.status, late.value.code) == (504, "queue_timeout")
    assert rig.count("refused_total", scope="default", reason="queue_full") == 1
    assert rig.count("refused_total", scope="default", reason="queue_timeout") == 1
    assert rig.count("waited_total", scope="default") == 1
    assert rig.count("waited_seconds_total", scope="default") == 2.0
    leaving = rig.ask(request())
    await rig.settle()
    leaving.cancel()
    await rig.settle()
    assert rig.count("left_total", scope="default") == 1
    tasks[0].cancel()
    await rig.settle()


async def told(rig: Rig, response: Response | Exception, took: float = 0.5) -> Request:
    """One exchange up to its head."""
    one = request()
    task = rig.ask(one)
    await rig.settle()
    rig.now += took
    rig.answer(one, response)
    await asyncio.wait([task])
    if isinstance(response, Exception):
        assert task.exception() is response
    else:
        assert task.exception() is None
    return one


class Told:
    """In the place of the Gradient: keeps what it was told."""

    limit = START

    def __init__(self) -> None:
        self.completions: list[tuple[int, float, float]] = []
        self.drops = 0
        self.lefts: list[tuple[int, float, float]] = []

    def completed(self, in_flight: int, took: float, now: float) -> None:
        self.completions.append((in_flight, took, now))

    def dropped(self) -> None:
        self.drops += 1

    def left(self, in_flight: int, waited: float, now: float) -> None:
        self.lefts.append((in_flight, waited, now))


def watched(monkeypatch: pytest.MonkeyPatch) -> tuple[Rig, Told]:
    """An adaptive layer, and what it tells of its exchanges."""
    gradient = Told()
    monkeypatch.setattr("middleware.concurrency.layer.Gradient", lambda *bounds: gradient)
    return Rig(limit="adaptive"), gradient


async def test_latency_is_that_of_the_head(monkeypatch: pytest.MonkeyPatch) -> None:
    """With what was in flight when the request went out; client errors count like answers."""
    rig, gradient = watched(monkeypatch)
    held = await told(rig, fine())
    missing = await told(rig, Response(404, [], b""), took=0.25)
    assert gradient.completions == [(1, 0.5, 100.5), (2, 0.25, 100.75)]
    assert not gradient.drops
    held.finish()
    missing.finish()


async def test_latency_of_an_event_stream_is_that_of_its_first_event(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Servers send the head of a stream before they begin. No byte of it is changed."""
    rig, gradient = watched(monkeypatch)
    response = Response(200, [(b"Content-Type", b"text/event-stream")], Stream())
    one = await told(rig, response)
    assert not gradient.completions
    (body_filter,) = response.filters
    assert body_filter.feed(b"") == b""
    assert not gradient.completions
    rig.now += 3.0
    assert body_filter.feed(b"data: 1\n\n") == b"data: 1\n\n"
    rig.now += 3.0
    assert body_filter.feed(b"data: 2\n\n") + body_filter.end() == b"data: 2\n\n"
    assert gradient.completions == [(1, 3.5, 103.5)]
    one.finish()


@pytest.mark.parametrize("amid", ["before the head", "before its first event", "amid its events"])
async def test_a_client_that_leaves_before_it_has_anything(
    amid: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """How long it has waited is told; of one that has something already only that it came."""
    rig, gradient = watched(monkeypatch)
    one = request()
    task = rig.ask(one)
    await rig.settle()
    rig.now += 0.5
    response = Response(200, [(b"Content-Type", b"text/event-stream")], Stream())
    if amid == "before the head":
        task.cancel()
        await asyncio.wait([task])
    else:
        rig.answer(one, response)
        await task
    if amid == "amid its events":
        response.filters[0].feed(b"data: 1\n\n")
    rig.now += 0.5
    one.outcome.cancelled = True
    one.finish()
    waited = {"before the head": (1, 0.5, 100.5), "before its first event": (1, 1.0, 101.0)}
    assert gradient.lefts == ([waited[amid]] if amid in waited else [])
    assert gradient.completions == ([] if amid in waited else [(1, 0.5, 100.5)])
    assert not gradient.drops and not rig.permits.in_flight


async def test_a_stream_that_ends_without_a_byte(monkeypatch: pytest.MonkeyPatch) -> None:
    """It has no first byte, and no client has left for want of it."""
    rig, gradient = watched(monkeypatch)
    response = Response(200, [(b"Content-Type", b"text/event-stream")], Stream())
    (await told(rig, response)).finish()
    assert not gradient.lefts and not gradient.completions


@pytest.mark.parametrize(
    ("answer", "drops"),
    [(Response(429, [], b""), 1), (Response(503, [], b""), 1), (UpstreamTimeout("late"), 1),
     (Response(500, [], b""), 0), (Response(101, [], b""), 0), (UpstreamClosed("gone"), 0)],
    ids=lambda value: str(getattr(value, "status", value)),
)  # fmt: skip
async def test_faults_are_no_latency(
    answer: Response | Exception, drops: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A quick error is not a quick server; a refusal or a timeout says that it is too much."""
    rig, gradient = watched(monkeypatch)
    one = await told(rig, answer)
    assert not gradient.completions
    assert gradient.drops == drops
    one.finish()


async def test_a_fixed_limit_leaves_answers_alone() -> None:
    """No filter, no clock."""
    rig = Rig(limit=1)
    response = Response(200, [(b"Content-Type", b"text/event-stream")], Stream())
    one = request()
    task = rig.ask(one)
    await rig.settle()
    rig.answer(one, response)
    assert (await task).filters == []
    one.finish()
    assert rig.reads == 0


async def test_a_limit_that_moves_admits_and_holds_back(monkeypatch: pytest.MonkeyPatch) -> None:
    """What is found from latency holds for the very next request."""
    rig, gradient = watched(monkeypatch)
    tasks = [rig.ask(request()) for _ in range(START + 5)]
    await rig.settle()
    assert len(rig.sent) == START
    gradient.limit = START + 3
    rig.answer(rig.sent[0][0], fine())
    await rig.settle()
    assert len(rig.sent) == START + 3
    for task in tasks:
        task.cancel()
    await rig.settle()


@pytest.mark.parametrize(
    ("keys", "message"),
    [
        ({"limit": 0}, "limit"),
        ({"limit": "auto"}, "limit"),
        ({"queue": -1}, "queue"),
        ({"queue_timeout": 0}, "queue_timeout"),
        ({"priority": "header"}, "priority"),
        ({"priority": {"header": "x y"}}, "a header's name"),
        ({"priority": {"header": "x", "highest": MAX_PRIORITIES + 1}}, "highest"),
        ({"priority": {"header": "x", "highest": 3, "default": 4}}, "`default` is above `highest`"),
        ({"lower_share": 0.6}, "lower_share"),
        ({"min_limit": 9, "max_limit": 8}, "`min_limit` is above `max_limit`"),
        ({"limit": 8, "min_limit": 9}, "`limit` is below `min_limit`"),
        ({"limit": 8, "max_limit": 7}, "`limit` is above `max_limit`"),
        ({"tolerance": 1}, "tolerance"),
        ({"scope": "server"}, "scope"),
    ],
    ids=str,
)
def test_a_mistake_in_the_keys_is_refused(keys: dict[str, Any], message: str) -> None:
    """When the file is read."""
    with pytest.raises(ValidationError, match=message):
        Concurrency.Config(**keys)


def test_a_fixed_limit_may_be_over_what_adaptive_comes_to_unless_told() -> None:
    """The default bounds of `adaptive` say nothing of a number that somebody has written."""
    Concurrency.Config(limit=5000)
    Concurrency.Config(limit=8, min_limit=8, max_limit=8)


@pytest.mark.parametrize("first", ["retry", "circuit_breaker"])
def test_a_chain_that_would_count_wrongly_is_refused(first: str) -> None:
    """A permit is for all tries of a request; an answer without the server needs none."""

    class Other:
        pass

    with pytest.raises(ChainOrder):
        check_order([first, "concurrency"], [Other, Concurrency])
    check_order(["concurrency", first], [Concurrency, Other])
    for outer in ("auth", "rate_limit", "cache", "prefetch", "aggregate"):
        check_order([outer, "concurrency"], [Other, Concurrency])
        with pytest.raises(ChainOrder):
            check_order(["concurrency", outer], [Concurrency, Other])


def test_the_reference_tells_the_defaults() -> None:
    """The comment in conf/reference.yaml has each key, with its default; so has the page."""
    text = (ROOT / "conf" / "reference.yaml").read_text()
    _, _, block = text.partition("# - concurrency:")
    lines = []
    for line in block.splitlines()[1:]:
        if not line.startswith("#     "):
            break
        lines.append(line.removeprefix("#     "))
    written = yaml.safe_load("\n".join(lines))
    assert list(written) == list(Concurrency.Config.model_fields)
    assert Concurrency.Config(**written) == Concurrency.Config()
    page = (ROOT / "docs" / "concurrency.md").read_text()
    assert re.findall(r"^\| `(\w+)` \| ", page, re.MULTILINE)[: len(written)] == list(written)


async def test_off_is_not_there() -> None:
    """The handler is the next one itself, and no number is offered."""
    rig = Rig(enabled=False)

    async def next(request: Request) -> Response:
        return fine()

    await rig.layer.start()
    assert rig.layer.bind(RouteInfo("r", "u"), next) is next
    assert not list(rig.telemetry._offered)
