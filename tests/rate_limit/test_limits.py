"""Who is counted together, and what is refused."""

from __future__ import annotations

from typing import Any

import pytest
from pydantic import ValidationError

from middleware.rate_limit import RateLimit
from middleware.rate_limit.layer import MAX_QUOTAS
from middleware.rate_limit.who import digest
from proxy.errors import ProxyError
from proxy.exchange import Request, Response, Stream

from .stage import Stage, call, get, header, known
from .test_windows import kinds


def with_fields(**fields: str) -> Request:
    pairs = [(name.replace("_", "-").encode(), value.encode()) for name, value in fields.items()]
    return get("10.0.0.1", *pairs)


async def alike(stage: Stage, one: Request, other: Request) -> bool:
    """Whether the two are counted together: one request is allowed."""
    assert await stage.passes(one)
    return not await stage.passes(other)


AUTH = "Bearer sk-1"


@pytest.mark.parametrize(
    ("key", "one", "other", "together"),
    [
        ("client_ip", get("10.0.0.1"), get("10.0.0.1"), True),
        ("client_ip", get("10.0.0.1"), get("10.0.0.2"), False),
        ("client_ip", get("2001:db8::1"), get("2001:db8::ffff:1"), True),
        ("client_ip", get("2001:db8::1"), get("2001:db8:0:1::1"), False),
        ("client_ip", get("::ffff:10.0.0.1"), get("::ffff:10.0.0.2"), False),
        ("client_ip", get("::ffff:10.0.0.1"), get("10.0.0.1"), True),
        ("client_ip", get("fe80::1%eth0"), get("fe80::2%eth0"), False),
        ("client_ip", get(""), get(""), True),
        ("api_key", with_fields(Authorization=AUTH), with_fields(authorization=AUTH), True),
        ("api_key", with_fields(authorization=AUTH), with_fields(authorization="Bearer 2"), False),
        ("api_key", with_fields(authorization=AUTH), with_fields(x_api_key=AUTH), False),
        ("api_key", with_fields(x_api_key="1"), with_fields(x_api_key="1", cookie="a=b"), True),
        ("api_key", with_fields(authorization=AUTH), get(), False),
        ("api_key", get("10.0.0.1"), get("10.0.0.2"), True),
        ("api_key", known(with_fields(authorization=AUTH), "a"), known(get(), "a"), True),
        ("api_key", known(get(), "a"), known(get(), "b"), False),
        ("header:X-Team", with_fields(x_team="a"), with_fields(X_TEAM="a"), True),
        ("header:x-team", with_fields(x_team="a"), with_fields(x_team="b"), False),
        ("header:x-team", with_fields(x_team="a"), get(), False),
        ("model", call({"model": "a"}), call({"model": "a", "n": 1}), True),
        ("model", call({"model": "a"}), call({"model": "b"}), False),
        ("model", call({"model": "\ud800"}), call({"model": "a"}), False),
        (["client_ip", "model"], call({"model": "a"}), call({"model": "a"}), True),
        (["client_ip", "model"], call({"model": "a"}), call({"model": "b"}), False),
        (["client_ip", "model"], call({"model": "a"}), call({"model": "a"}, client="b"), False),
        (["model", "header:x-team"], call({"model": "a"}), call({"model": "a"}), True),
    ],
)  # fmt: skip
async def test_who_is_counted_together(
    key: Any, one: Request, other: Request, together: bool
) -> None:
    """Two requests whose parts of `key` are the same share a limit, others do not."""
    stage = Stage(limits="1/hour", key=key)
    assert await alike(stage, one, other) is together


async def test_a_model_in_a_body_on_its_way() -> None:
    """The body is read for it; one over `max_request_bytes` streams past, its model unknown."""
    stage = Stage(limits="1/hour", key="model", max_request_bytes="100B")

    def streamed(model: str, padding: int = 0) -> Request:
        request = call({"model": model, "padding": "x" * padding})
        text = request.body
        assert isinstance(text, bytes)
        request.headers.append((b"content-length", b"%d" % len(text)))
        request.body = Stream()
        request.body.feed(text)
        request.body.end()
        return request

    assert await alike(stage, streamed("a"), streamed("a"))
    assert await stage.passes(streamed("b"))
    large = streamed("c", 100)
    assert await alike(stage, large, streamed("d", 100))
    assert isinstance(large.body, Stream)


def test_parts_cannot_run_into_one_another() -> None:
    """What ends one part and what begins the next are told apart."""
    assert digest(b"ab", b"c") != digest(b"a", b"bc")


async def test_a_tenant_without_an_identity_is_a_name_too() -> None:
    """A layer of somebody's own may have set it."""
    stage = Stage(limits="1/hour", key="api_key")
    one, other = get("10.0.0.1"), get("10.0.0.2")
    one.tenant = other.tenant = "t\udc80"
    assert await alike(stage, one, other)


async def test_by_route() -> None:
    """Each route has its own count, where `key` says so; else they have one together."""
    apart, together = Stage(limits="1/hour", key="route"), Stage(limits="1/hour")
    assert await apart.passes() and await together.passes()
    assert (await apart.route("other")(get())).status == 200
    with pytest.raises(ProxyError, match="1/hour"):
        await together.route("other")(get())
    assert together.count("refused", "other") == 1


async def test_a_credential_is_nowhere() -> None:
    """Neither the account's name nor the error holds what a client sent."""
    stage = Stage(limits="1/hour", key=["api_key", "header:x-team"])
    secret = get("10.0.0.1", (b"authorization", b"Bearer hunter2"), (b"x-team", b"hunter3"))
    await stage.ask(secret)
    refused = await stage.ask(secret)
    assert isinstance(refused, ProxyError) and refused.status == 429
    told = repr(stage.layer.memory._accounts) + refused.message + repr(refused.headers)
    assert "hunter" not in told


async def test_a_key_with_limits_of_its_own() -> None:
    """They take the place of the layer's, and count the key by its name, wherever it comes from."""
    stage = Stage(limits="1/hour", key="client_ip")
    mine = ("2/hour", "100/day")
    assert await stage.passes(known(get("10.0.0.1"), "big", mine))
    assert await stage.passes(known(get("10.0.0.2"), "big", mine))
    refused = await stage.ask(known(get("10.0.0.3"), "big", mine))
    assert isinstance(refused, ProxyError) and "2/hour" in refused.message
    assert header(refused, b"ratelimit-policy") == '"2/hour";q=2;w=3600, "100/day";q=100;w=86400'
    assert await stage.passes(known(get("10.0.0.3"), "other", mine))
    assert await stage.passes(known(get("10.0.0.3"), "plain"))
    assert not await stage.passes(get("10.0.0.3"))


async def test_own_limits_may_be_left_to_another_layer() -> None:
    """`own_limits: false`: of two layers, one for requests and one for tokens, only one has them;
    a key with an empty list has none.
    """
    stage = Stage(limits="1/hour", own_limits=False)
    assert await stage.passes(known(get(), "big", ("5/hour",)))
    assert not await stage.passes(known(get(), "big", ("5/hour",)))
    free = Stage(limits="1/hour")
    assert all([await free.passes(known(get(), "free", ())) for _ in range(5)])


async def test_more_sets_of_own_limits_than_are_remembered() -> None:
    """All are made anew, and accounts stay what they were."""
    stage = Stage()
    assert await stage.passes(known(get(), "a", ("1/hour",)))
    for n in range(MAX_QUOTAS):
        await stage.ask(known(get(), "b", (f"{n + 2}/hour",)))
    assert len(stage.layer._own) <= MAX_QUOTAS
    assert not await stage.passes(known(get(), "a", ("1/hour",)))


@kinds
async def test_a_refused_request_uses_up_nothing(kind: str) -> None:
    """Of 3/second and 5/minute: whoever is refused by the first still has all five."""
    stage = Stage(limits=["3/second", "5/minute"], strategy=kind)
    stage.now = 5_000_040.0  # a minute of the clock begins
    passed = [await stage.passes() for _ in range(50)]
    assert sum(passed) == 3
    stage.now += 2
    assert sum([await stage.passes() for _ in range(50)]) == 2
    refused = await stage.ask()
    assert isinstance(refused, ProxyError) and "5/minute" in refused.message
    assert stage.asked == stage.count("admitted") == 5
    assert stage.count("refused") == 96


async def test_a_table_of_clients_is_bounded() -> None:
    """Beyond `max_keys` the one that asked longest ago begins anew, and it is counted."""
    stage = Stage(limits="1/hour", max_keys=3)
    for client in ("a", "b", "c"):
        assert await stage.passes(get(client))
    assert not await stage.passes(get("a"))
    assert await stage.passes(get("d"))
    assert len(stage.layer.memory) == 3
    assert not await stage.passes(get("a"))
    assert await stage.passes(get("b")), "it was the one that had asked longest ago"
    samples = stage.telemetry.registry.get_sample_value
    assert samples("remora_rate_limit_keys", {"name": "default"}) == 3
    assert samples("remora_rate_limit_forgotten_total", {"name": "default"}) == 2


async def test_clients_that_are_long_gone_do_not_stay() -> None:
    """What is over makes room before its turn, without a task that looks for it."""
    stage = Stage(limits="1/second")
    for n in range(100):
        await stage.ask(get(f"old {n}"))
    stage.now += 10
    for n in range(100):
        await stage.ask(get(f"new {n}"))
    assert len(stage.layer.memory) == 100
    assert stage.layer.memory.forgotten == 0
    assert stage.env.spawned == 0


async def test_in_the_shadow() -> None:
    """Counted and reported, refused to nobody, and answers are as they came."""
    stage = Stage(limits="2/hour", shadow=True)
    for _ in range(5):
        answer = await stage.ask()
        assert isinstance(answer, Response)
        assert [name for name, _ in answer.headers] == [b"content-type"]
    assert (stage.count("admitted"), stage.count("shadowed"), stage.count("refused")) == (2, 3, 0)


async def test_switched_off() -> None:
    """Nothing is counted and nothing offered."""
    stage = Stage(enabled=False)
    assert stage.handle == stage._next
    assert stage.telemetry.registry.get_sample_value("remora_rate_limit_keys") is None


def test_redis_must_be_in_the_file() -> None:
    """A layer that is to count in a store that is not there says what to write."""

    class NoStores:
        clock = float

        def store(self, name: str) -> None:
            return None

    with pytest.raises(ValueError, match="stores"):
        RateLimit(RateLimit.Config(store="redis"), NoStores())  # type: ignore[arg-type]


@pytest.mark.parametrize(
    "keys",
    [
        {"limits": []}, {"limits": "often"}, {"limits": ["0/second"]}, {"key": []},
        {"key": "nobody"}, {"key": "header:"}, {"key": "header:a b"}, {"cost": "money"},
        {"name": "a b"}, {"max_keys": 0}, {"strategy": "leaky"}, {"limit": "1/second"},
    ],
)  # fmt: skip
def test_what_no_file_may_say(keys: dict[str, Any]) -> None:
    """Keys and values that mean nothing are refused at load."""
    with pytest.raises(ValidationError):
        RateLimit.Config(**keys)
