"""A plan that is remembered is the plan that would be made."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from middleware.cache.config import CacheConfig
from middleware.cache.rules import MEMO_BODY, MEMO_BYTES, ModelRules, Plan
from proxy.exchange import Headers, Request

ROUTE: Any = SimpleNamespace(name="r", upstream="default")
PLAIN: Headers = [(b"Host", b"h"), (b"Authorization", b"Bearer a")]
BODY = b'{"input":"a"}'


def rules(**keys: Any) -> ModelRules:
    return ModelRules(CacheConfig(**{"secret": "s", **keys}), ROUTE)


def request(
    headers: Headers = PLAIN, body: bytes = BODY, target: bytes = b"/v1/embeddings"
) -> Request:
    return Request(b"POST", target, list(headers), body)


DIFFERENT = {
    "body": request(body=b'{"input":"b"}'),
    "target": request(target=b"/v1/embeddings?b"),
    "tenant": request([(b"Host", b"h"), (b"Authorization", b"Bearer b")]),
    "kind of credential": request([(b"Host", b"h"), (b"X-Api-Key", b"Bearer a")]),
    "one credential more": request([*PLAIN, (b"Cookie", b"c")]),
    "form": request([*PLAIN, (b"Accept", b"text/event-stream")]),
    "vary": request([*PLAIN, (b"X-Lora", b"b")]),
    "wish": request([*PLAIN, (b"Cache-Control", b"no-cache")]),
    "old wish": request([*PLAIN, (b"Pragma", b"no-cache")]),
    "switch": request([*PLAIN, (b"X-Remora-Cache", b"read-only")]),
    "tensors": request([*PLAIN, (b"Inference-Header-Content-Length", b"13")]),
}


@pytest.mark.parametrize("other", DIFFERENT.values(), ids=DIFFERENT)
async def test_what_makes_a_difference_is_looked_at(other: Request) -> None:
    """After another request was planned, a request has the plan that it has by itself."""
    alone = await rules(vary=["x-lora"]).plan(request(other.headers, other.body, other.target))  # type: ignore[arg-type]
    used = rules(vary=["x-lora"])
    plain = await used.plan(request())
    assert plain is not None and alone is not None and plain != alone
    for _ in range(2):
        assert await used.plan(request(other.headers, other.body, other.target)) == alone  # type: ignore[arg-type]
        assert await used.plan(request()) == plain


async def test_what_makes_no_difference_is_not() -> None:
    """A trace id, or another order of the members, has the same key."""
    used = rules()
    keys = set()
    for number, body in enumerate((b'{"input":"a","model":"m"}', b'{"model":"m", "input":"a"}')):
        plan = await used.plan(request([*PLAIN, (b"Traceparent", b"%d" % number)], body))
        assert plan is not None
        keys.add(plan.key)
    assert len(keys) == 1


@pytest.mark.parametrize("field", [(b"X-Remora-Cache", b"off"), (b"Content-Encoding", b"gzip")])
async def test_what_is_left_alone_stays_so(field: tuple[bytes, bytes]) -> None:
    """A request that looks like a remembered one but for this has no plan, now and later."""
    used = rules()
    assert await used.plan(request()) is not None
    for _ in range(2):
        assert await used.plan(request([*PLAIN, field])) is None
    assert await used.plan(request()) is not None


async def test_the_switch_goes_no_further() -> None:
    """Each time: a remembered plan would leave it in the headers that the upstream gets."""
    used = rules()
    for _ in range(3):
        asked = request([*PLAIN, (b"X-Remora-Cache", b"on")])
        assert await used.plan(asked) is not None
        assert asked.headers == PLAIN


async def test_a_large_body_is_planned_anew() -> None:
    """Up to MEMO_BODY the very same plan comes back; over it an equal one."""

    async def twice(size: int) -> tuple[Plan | None, Plan | None]:
        used = rules()
        body = b'{"input":"%b"}' % (b"a" * (size - len(b'{"input":""}')))
        return await used.plan(request(body=body)), await used.plan(request(body=body))

    first, second = await twice(MEMO_BODY)
    assert first is not None and first is second
    first, second = await twice(MEMO_BODY + 1)
    assert first is not None and first is not second and first == second


async def test_many_plans_take_no_more_than_their_bound() -> None:
    """MEMO_BYTES, whatever comes; what was forgotten is planned anew, and alike."""
    used = rules()
    first = await used.plan(request())
    for number in range(2 * MEMO_BYTES // 1024):
        await used.plan(request(body=b'{"input":%d}' % number))
        assert used._plans.bytes <= MEMO_BYTES
    again = await used.plan(request())
    assert again is not first and again == first
