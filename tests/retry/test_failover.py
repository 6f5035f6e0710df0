"""What fails before the first byte is tried again elsewhere, over real sockets."""

from __future__ import annotations

import asyncio
from email.utils import formatdate
from time import monotonic, time

import pytest

from tests.retry.conftest import MakeRig
from tests.retry.rig import ANSWER, QUESTION, Endpoint, Rig, closes, resets, status
from tests.road.wire import until

PAY = ("/pay", b"{}")


async def all_get_200(one: Rig, count: int = 8) -> list[str | None]:
    """The attempts that each answer tells of."""
    told = []
    for _ in range(count):
        answer = await one.ask()
        assert (answer.status, answer.body) == (200, b'{"data":[]}')
        told.append(answer["x-remora-attempts"])
    return told


async def test_an_endpoint_that_refuses(rig: MakeRig) -> None:
    """Whoever is sent there first gets the answer of another endpoint, and is told so."""
    one = await rig(None, Endpoint(ANSWER))
    told = await all_get_200(one)
    assert set(told) == {None, "2"}
    assert one.total == 8
    (retried,) = one.numbers("remora_retries_total").items()
    assert retried == (("/*", "connect"), told.count("2"))
    assert one.numbers("remora_retry_attempts_total") == {("/*",): 8 + told.count("2")}


@pytest.mark.parametrize("behaviour", [resets, closes])
async def test_an_endpoint_that_closes_behind_the_request(rig: MakeRig, behaviour: object) -> None:
    """A call of a model is sent to another one."""
    bad = Endpoint(behaviour)  # type: ignore[arg-type]
    one = await rig(bad, Endpoint(ANSWER))
    told = await all_get_200(one)
    assert told.count("2") == bad.count > 0
    assert one.numbers("remora_retries_total") == {("/*", "reset"): bad.count}


@pytest.mark.parametrize("code", [502, 503, 504])
async def test_an_endpoint_that_answers_badly(rig: MakeRig, code: int) -> None:
    """502, 503 and 504 are tried again elsewhere."""
    bad = Endpoint(status(code))
    one = await rig(bad, Endpoint(ANSWER))
    told = await all_get_200(one)
    assert told.count("2") == bad.count > 0
    assert one.numbers("remora_retries_total") == {("/*", str(code)): bad.count}


@pytest.mark.parametrize("code", [400, 404, 429, 500, 501])
async def test_what_is_final(rig: MakeRig, code: int) -> None:
    """Every other status is passed on as it came, in one attempt."""
    one = await rig(Endpoint(status(code)), Endpoint(status(code)))
    answer = await one.ask()
    assert (answer.status, answer.body, answer["x-remora-attempts"]) == (code, b"busy", None)
    assert one.total == 1


async def test_attempts_are_all_there_are(rig: MakeRig) -> None:
    """Three by default, and the last failure is the client's answer, as it came."""
    one = await rig(*[Endpoint(status(503, "X-Endpoint: a", body=b"sorry")) for _ in range(4)])
    answer = await one.ask()
    assert (answer.status, answer.body) == (503, b"sorry")
    assert (answer["x-endpoint"], answer["x-remora-attempts"]) == ("a", "3")
    assert one.counts == [1, 1, 1, 0], "another endpoint first"
    assert one.numbers("remora_retry_given_up_total") == {("/*", "attempts"): 1}


async def test_a_failure_is_told_as_what_it_is(rig: MakeRig) -> None:
    """Where nobody can be reached the client gets the last error, in the API's dialect."""
    one = await rig(None, None)
    answer = await one.ask()
    assert answer.status == 502
    assert b'"code":"upstream_connect_failed"' in answer.body
    assert answer["x-remora-attempts"] == "3"
    assert answer["x-remora-error"] == "upstream_connect_failed"


async def test_one_endpoint_is_tried_again(rig: MakeRig) -> None:
    """Where there is no other, the same one may be better by now."""
    one = await rig(Endpoint(resets, status(503), ANSWER))
    assert await all_get_200(one, 1) == ["3"]


async def test_only_what_the_file_names(rig: MakeRig) -> None:
    """`on` says what is tried again, and nothing else is."""
    one = await rig(Endpoint(resets, status(503), status(500), ANSWER), on=[500])
    assert [(await one.ask()).status for _ in range(3)] == [502, 503, 200]
    assert one.numbers("remora_retries_total") == {("/*", "500"): 1}


async def test_headers_can_be_left_out(rig: MakeRig) -> None:
    """With `headers: false` an answer is what the server sent."""
    one = await rig(Endpoint(status(503), ANSWER), headers=False)
    assert await all_get_200(one, 1) == [None]
    one = await rig(None, headers=False)
    assert (await one.ask())["x-remora-attempts"] is None


async def test_a_slow_head_can_be_tried_again(rig: MakeRig) -> None:
    """With `timeout` among the reasons another endpoint is asked."""

    async def silent(peer, message):  # type: ignore[no-untyped-def]
        await peer.exactly(1, 30)

    bad = Endpoint(silent)
    one = await rig(
        bad, Endpoint(ANSWER), on=["timeout"],
        upstream_keys={"timeouts": {"first_byte": 0.05}},
    )  # fmt: skip
    told = await all_get_200(one, 3)
    assert told.count("2") == bad.count > 0


# -- when to come back


async def test_a_retry_after_is_waited_for(rig: MakeRig) -> None:
    """The next attempt is not made before the time that the server names."""
    one = await rig(Endpoint(status(503, "Retry-After: 1"), ANSWER))
    began = monotonic()
    assert await all_get_200(one, 1) == ["2"]
    assert monotonic() - began >= 1


async def test_a_date_is_waited_for(rig: MakeRig) -> None:
    """A Retry-After may be a date; one that has passed means at once."""
    one = await rig(Endpoint(status(503, "Retry-After: " + formatdate(1, usegmt=True)), ANSWER))
    assert await all_get_200(one, 1) == ["2"]
    far = formatdate(time() + 3600, usegmt=True)
    one = await rig(Endpoint(status(503, f"Retry-After: {far}"), ANSWER))
    assert (await one.ask())["retry-after"] == far


@pytest.mark.parametrize("code", [429, 503, 504])
async def test_a_long_retry_after_is_passed_on(rig: MakeRig, code: int) -> None:
    """Over `max_retry_after` the answer goes to the client at once, the field with it."""
    one = await rig(Endpoint(status(code, "Retry-After: 3"), ANSWER), on=[429, 503, 504])
    answer = await one.ask()
    assert (answer.status, answer["retry-after"]) == (code, "3")
    assert one.total == 1
    assert one.numbers("remora_retry_given_up_total") == {("/*", "retry_after"): 1}


async def test_429_is_tried_again_only_when_told_to_come_back(rig: MakeRig) -> None:
    """Even where `on` names it: without a Retry-After the client hears of it."""
    one = await rig(Endpoint(status(429), status(429, "Retry-After: 0"), ANSWER), on=[429])
    assert (await one.ask()).status == 429
    assert await all_get_200(one, 1) == ["2"]


async def test_a_502_has_no_retry_after(rig: MakeRig) -> None:
    """The field means something with 429, 503 and 504 alone (RFC 9110 section 10.2.3)."""
    one = await rig(Endpoint(status(502, "Retry-After: 3000"), ANSWER))
    assert await all_get_200(one, 1) == ["2"]


async def test_the_time_for_it_all(rig: MakeRig) -> None:
    """A retry that could not begin within `timeout` is not waited for."""
    one = await rig(Endpoint(status(503, "Retry-After: 9"), ANSWER), timeout=8, max_retry_after=60)
    began = monotonic()
    answer = await one.ask()
    assert (answer.status, answer["retry-after"]) == (503, "9")
    assert monotonic() - began < 8
    assert one.numbers("remora_retry_given_up_total") == {("/*", "timeout"): 1}


async def test_the_back_off_grows(rig: MakeRig, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each wait is longer than the one before; nothing else of the wait is left out."""
    waits = []
    sleep = asyncio.sleep

    async def noted(seconds: float) -> None:
        waits.append(seconds)
        await sleep(0)

    monkeypatch.setattr("middleware.retry.retrying.asyncio.sleep", noted)
    keys = {"first": "50ms", "factor": 1.5, "cap": "80ms", "jitter": 0}
    one = await rig(Endpoint(status(503)), attempts=4, backoff=keys)
    await one.ask()
    assert [wait for wait in waits if wait > 0.01] == pytest.approx([0.05, 0.075, 0.08])


# -- what may be sent again


@pytest.mark.parametrize("method", ["GET", "HEAD", "OPTIONS", "PUT", "DELETE"])
async def test_idempotent_methods(rig: MakeRig, method: str) -> None:
    """RFC 9110 section 9.2.2, whatever the path."""
    one = await rig(Endpoint(resets, ANSWER))
    body = b"x" if method == "PUT" else None
    if method == "HEAD":
        one = await rig(Endpoint(resets, status(200, body=b"")))
    assert (await one.ask("/x", body, method=method)).status == 200
    assert one.total == 2


@pytest.mark.parametrize("behaviour", [resets, status(503)])
async def test_an_unknown_post_is_sent_once(rig: MakeRig, behaviour: object) -> None:
    """Where the server may have seen it and nobody knows what it does, it is not sent again."""
    one = await rig(Endpoint(behaviour, ANSWER))  # type: ignore[arg-type]
    assert (await one.ask(*PAY)).status in (502, 503)
    assert one.total == 1


async def test_an_unknown_post_that_was_never_sent(rig: MakeRig) -> None:
    """Where no connection could be made nobody has seen it: it goes elsewhere."""
    one = await rig(None, Endpoint(ANSWER))
    assert [(await one.ask(*PAY)).status for _ in range(4)] == [200] * 4
    assert one.numbers("remora_retries_total")[("/*", "connect")] > 0


async def test_every_request_where_the_file_says_so(rig: MakeRig) -> None:
    """`repeat: all` sends what nobody knows again, too."""
    one = await rig(Endpoint(resets, ANSWER), repeat="all")
    assert (await one.ask(*PAY)).status == 200
    assert one.total == 2


async def test_a_call_that_the_server_keeps(rig: MakeRig) -> None:
    """Inference that starts a job or writes to a conversation is no mere computation."""
    one = await rig(Endpoint(resets, ANSWER))
    assert (await one.ask("/v1/responses", b'{"input":"a","background":true}')).status == 502
    assert one.total == 1


async def test_each_attempt_carries_the_same_request(rig: MakeRig) -> None:
    """Target, headers and body are the client's own bytes in each."""
    first, second = Endpoint(resets), Endpoint(resets)
    one = await rig(first, second, attempts=2)
    await one.ask("/v1/embeddings?a=%2e", QUESTION, "X-Odd: \tvalue ", "x-odd: two")
    (sent,), (again,) = first.seen, second.seen
    assert (sent.first_line, sent.headers, sent.body) == (
        again.first_line, again.headers, again.body
    )  # fmt: skip
    assert again.body == QUESTION


# -- the client leaves


async def test_a_client_that_left_is_not_retried_for(rig: MakeRig) -> None:
    """While it waits for the next attempt nothing more is sent, and none counts as sent."""
    one = await rig(Endpoint(status(503), ANSWER), backoff={"first": 30, "cap": 30})
    client = await one.running.connect()
    client.ask("POST", "/v1/embeddings", body=QUESTION)
    await until(lambda: one.total == 1 and not one.running.pool.busy)
    client.abort()
    await until(lambda: one.numbers("remora_requests_cancelled_total"))
    assert one.total == 1
    assert not one.numbers("remora_retries_total")


# -- the budget


async def test_the_budget_ends_retries(rig: MakeRig) -> None:
    """Beyond it failures are passed on at once, and counted."""
    one = await rig(Endpoint(status(503)), budget={"ratio": 0.2, "floor": 2, "window": 1000})
    for _ in range(20):
        assert (await one.ask()).status == 503
    assert one.total == 20 + 2 + 4
    assert one.numbers("remora_retry_given_up_total")[("/*", "budget")] > 0
