"""With a circuit breaker inside of it, as the order of a chain has it: over real sockets."""

from __future__ import annotations

from tests.retry.conftest import MakeRig
from tests.retry.rig import ANSWER, Endpoint, status

BREAKER = {"circuit_breaker": {"consecutive": 3, "min_calls": 1000, "open_for": 60}}


async def test_each_attempt_passes_the_breaker(rig: MakeRig) -> None:
    """The sick endpoint's circuit opens by the attempts that it failed, and then nothing is
    retried: the healthy one gets every request, and no client saw a failure.
    """
    sick, well = Endpoint(status(502)), Endpoint(ANSWER)
    one = await rig(sick, well, inside=[BREAKER], upstream_keys={"eject": "off"})
    answers = [await one.ask() for _ in range(30)]
    assert [answer.status for answer in answers] == [200] * 30
    assert sick.count == 3
    assert all(answer["x-remora-attempts"] is None for answer in answers[-15:])


async def test_an_open_circuit_is_not_retried(rig: MakeRig) -> None:
    """Where every circuit is open the breaker's refusal is final: it has asked all endpoints."""
    one = await rig(
        *[Endpoint(status(502)) for _ in range(2)], inside=[BREAKER],
        upstream_keys={"eject": "off"}, budget={"ratio": 10},
    )  # fmt: skip
    answers = [await one.ask() for _ in range(10)]
    assert one.total == 6
    last = answers[-1]
    assert (last.status, last["x-remora-error"]) == (503, "circuit_open")
    assert last["x-remora-attempts"] is None
    assert int(last["retry-after"] or 0) > 0
