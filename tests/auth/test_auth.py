"""Who passes, who does not, and what the server sees of it."""

from __future__ import annotations

from typing import Any

import orjson
import pytest
from pydantic import ValidationError

from middleware.auth import Auth
from middleware.auth.config import MAX_NAME, MIN_KEY, AuthConfig
from proxy.chain import Handler, RouteInfo
from proxy.exchange import Identity, Request, Response
from tests.auth.rig import AUTH, BEARER_ONE, KEYS, ONE, TWO, Server, ask
from tests.conftest import Serve, UpstreamMaker
from tests.road.wire import Message


class Seen:
    """A layer behind `auth` that keeps the requests that come to it."""

    Config = AuthConfig
    requests: list[Request] = []  # noqa: RUF012

    def __init__(self, config: Any, env: Any) -> None:
        self.requests.clear()

    async def start(self) -> None: ...
    async def stop(self) -> None: ...

    def bind(self, route: RouteInfo, next: Handler) -> Handler:
        async def handle(request: Request) -> Response:
            self.requests.append(request)
            return await next(request)

        return handle


def chain(**keys: Any) -> list[dict[str, Any]]:
    return [{AUTH: {"keys": KEYS, **keys}}, {"tests.auth.test_auth:Seen": {}}]


def everything(asked: Message) -> str:
    """All fields that the server got."""
    return repr(asked.__dict__)


@pytest.mark.parametrize(
    "field",
    [
        BEARER_ONE, f"AUTHORIZATION: bearer  {ONE} ", f"Authorization: {ONE}", f"x-api-key: {ONE}",
        f"Api-Key:{ONE}",
    ],
)  # fmt: skip
async def test_a_key_passes(serve: Serve, upstream: UpstreamMaker, field: str) -> None:
    """Wherever a client may put a key it is found; layers know the holder, the server no key."""
    server = Server()
    running = await serve(await upstream(server), chain=chain())
    answer = await ask(running, field, "x-other: kept")
    assert answer.status == 200
    (asked,) = server.asked
    assert ONE not in everything(asked)
    assert asked["x-other"] == "kept"
    (request,) = Seen.requests
    assert (request.tenant, request.identity) == ("one", Identity("one"))


async def test_the_holders_own_limits_and_priority_go_with_the_request(
    serve: Serve, upstream: UpstreamMaker
) -> None:
    """`rate_limit` and `concurrency` read them there."""
    keys = [{"name": "one", "key": ONE, "limits": ["5/second"], "priority": 3}]
    running = await serve(await upstream(Server()), chain=chain(keys=keys))
    assert (await ask(running, BEARER_ONE)).status == 200
    assert Seen.requests[0].identity == Identity("one", ("5/second",), 3)


REFUSED = [
    ((), "missing_key"),
    (("authorization: Bearer",), "missing_key"),
    (("authorization:", "x-api-key: "), "missing_key"),
    (("authorization: Bearer key-of-nobody-0123456789",), "invalid_key"),
    ((f"authorization: Basic {ONE}",), "invalid_key"),
    ((f"authorization: Bearer {ONE}x",), "invalid_key"),
    ((f"authorization: Bearer {ONE[:-1]}",), "invalid_key"),
    ((f"authorization: Bearer {ONE} {ONE}",), "invalid_key"),
    ((BEARER_ONE, f"authorization: Bearer {TWO}"), "invalid_key"),
    ((BEARER_ONE, f"x-api-key: {TWO}"), "invalid_key"),
    ((BEARER_ONE, "x-api-key: key-of-nobody-0123456789"), "invalid_key"),
    ((f"x-forwarded-authorization: Bearer {ONE}",), "missing_key"),
    ((f"authorization : Bearer {ONE}",), None),
    ((f"cookie: authorization={ONE}",), "missing_key"),
]


@pytest.mark.parametrize(("fields", "code"), REFUSED)
async def test_nobody_else_passes(
    serve: Serve, upstream: UpstreamMaker, fields: tuple[str, ...], code: str | None
) -> None:
    """401 with a challenge, told in the API's dialect; the server hears nothing of it."""
    server = Server()
    running = await serve(await upstream(server), chain=chain())
    answer = await ask(running, *fields)
    if code is None:  # no HTTP at all
        assert answer.status == 400
    else:
        assert (answer.status, answer["x-remora-error"]) == (401, code)
        challenge = answer["www-authenticate"] or ""
        assert challenge.startswith('Bearer realm="remora"')
        assert ("invalid_token" in challenge) == (code == "invalid_key")
        assert orjson.loads(answer.body)["error"]["type"] == "authentication_error"
        assert ONE.encode() not in answer.body
    assert not server.asked


async def test_an_empty_field_is_no_key(serve: Serve, upstream: UpstreamMaker) -> None:
    """Some clients send the field that they have no key for, too."""
    running = await serve(await upstream(Server()), chain=chain())
    assert (await ask(running, BEARER_ONE, "x-api-key:")).status == 200


async def test_the_same_key_twice_is_one(serve: Serve, upstream: UpstreamMaker) -> None:
    """A client that sends one key in two fields means one, and the server gets neither."""
    server = Server()
    running = await serve(await upstream(server), chain=chain())
    assert (await ask(running, BEARER_ONE, f"x-api-key: {ONE}")).status == 200
    assert ONE not in everything(server.asked[0])


async def test_a_refusal_costs_no_connection(serve: Serve, upstream: UpstreamMaker) -> None:
    """The next request on it is served."""
    running = await serve(await upstream(Server()), chain=chain())
    client = await running.connect()
    assert (await client.exchange("POST", "/v1/completions", body=b"{}")).status == 401
    assert (await client.exchange("GET", "/v1/models", BEARER_ONE)).status == 200


async def test_no_target_or_host_gets_round_it(serve: Serve, upstream: UpstreamMaker) -> None:
    """An open route beside a guarded one is no way into the guarded one."""
    server = Server()
    routes = [{"match": {"path": "/metrics*"}, "chain": []}, {"chain": chain()}]
    running = await serve(await upstream(server), routes=routes)
    assert (await ask(running, target="/metrics", method="GET")).status == 200
    for target in (
        "/metrics/../v1/completions", "/metrics/%2e%2e/v1/completions", "/metrics/..;/v1/x",
        "/metrics//../v1/x", "http://metrics/v1/completions", "/v1/completions?/metrics",
        "/v1/completions#/metrics", "/%6detrics",
    ):  # fmt: skip
        assert (await ask(running, target=target)).status in (400, 401, 404)
    assert len(server.asked) == 1


async def test_the_servers_own_credential(serve: Serve, upstream: UpstreamMaker) -> None:
    """`keep` leaves the client's field, and a replacement takes the place of every one."""
    server = Server()
    kept = await serve(await upstream(server), chain=chain(upstream="keep"))
    await ask(kept, BEARER_ONE)
    assert server.asked[-1]["authorization"] == f"Bearer {ONE}"
    other = {"header": "x-server-key", "value": "of-the-server"}
    replaced = await serve(await upstream(server), chain=chain(upstream=other))
    await ask(replaced, BEARER_ONE, "X-Server-Key: of-the-client")
    fields = server.asked[-1].names
    assert "authorization" not in [name.lower() for name in fields]
    assert [name for name in fields if name.lower() == "x-server-key"] == ["x-server-key"]
    assert server.asked[-1]["x-server-key"] == "of-the-server"


async def test_strangers_may_pass_as_strangers(serve: Serve, upstream: UpstreamMaker) -> None:
    """`unknown: pass`: what they send is the server's to judge, and none of ours goes with it."""
    server = Server()
    other = {"value": "Bearer of-the-server"}
    running = await serve(await upstream(server), chain=chain(unknown="pass", upstream=other))
    assert (await ask(running, "authorization: Bearer theirs")).status == 200
    assert server.asked[-1]["authorization"] == "Bearer theirs"
    assert (Seen.requests[-1].tenant, Seen.requests[-1].identity) == (None, None)
    assert (await ask(running, BEARER_ONE)).status == 200
    assert server.asked[-1]["authorization"] == "Bearer of-the-server"
    asked = len(server.asked)
    for other in ("authorization: Bearer theirs", f"authorization: Bearer {TWO}"):
        refused = await ask(running, other, f"x-api-key: {ONE}")
        assert (refused.status, refused["x-remora-error"]) == (401, "invalid_key")
    assert len(server.asked) == asked
    assert (await ask(running, "authorization: Bearer theirs", "x-api-key: too")).status == 200


async def test_without_keys_nobody_passes(
    serve: Serve, upstream: UpstreamMaker, caplog: pytest.LogCaptureFixture
) -> None:
    """The layer's defaults are closed, and the log says so."""
    running = await serve(await upstream(Server()), chain=[{AUTH: {}}])
    assert (await ask(running, BEARER_ONE)).status == 401
    assert "refuses everybody" in caplog.text


async def test_counts_name_holders_and_no_keys(serve: Serve, upstream: UpstreamMaker) -> None:
    """Labels come from the file; a stranger makes none."""
    running = await serve(await upstream(Server()), chain=chain())
    await ask(running, BEARER_ONE)
    await ask(running, "x-api-key: stranger-0123456789")
    layer = running.layer(Auth)
    assert layer._counts == {("/*", "one", "passed"): 1, ("/*", "", "refused"): 1}


async def test_tenants_have_caches_of_their_own(serve: Serve, upstream: UpstreamMaker) -> None:
    """With the credential gone from the request, the cache still tells its holders apart."""
    server = Server()
    cache = {"middleware.cache:Cache": {"ttl": 60}}
    running = await serve(await upstream(server), chain=[{AUTH: {"keys": KEYS}}, cache])
    body = {"prompt": "x", "temperature": 0}
    answers = [(await ask(running, f"x-api-key: {key}", body=body)).body for key in (ONE, TWO, ONE)]
    assert answers == [b'{"n":1}', b'{"n":2}', b'{"n":1}']


WRONG: list[tuple[dict[str, Any], str]] = [
    ({"keys": [{"name": "a"}]}, "one of `key`, `sha256` and `file`"),
    ({"keys": [{"name": "a", "key": ONE, "sha256": "0" * 64}]}, "one of"),
    ({"keys": [{"name": "a", "key": "x" * (MIN_KEY - 1)}]}, "can be guessed"),
    ({"keys": [{"name": "a" * (MAX_NAME + 1), "key": ONE}]}, "pattern"),
    ({"keys": [{"name": "a b", "key": ONE}]}, "pattern"),
    ({"keys": [{"name": "a", "sha256": "xyz"}]}, "hexadecimal"),
    ({"keys": [{"name": "a", "key": ONE}, {"name": "a", "key": TWO}]}, "two keys have the name"),
    ({"keys": [{"name": "a", "key": ONE, "limits": ["many"]}]}, "not a limit"),
    ({"keys": [{"name": "a", "key": ONE, "limits": ["0/second"]}]}, "lets nothing through"),
    ({"keys": [{"name": "a", "key": ONE, "priority": 101}]}, "100"),
    ({"headers": ["a b"]}, "a header's name"),
    ({"headers": []}, "at least 1"),
    ({"headers": ["Host"]}, "`host` is for the connection itself"),
    ({"upstream": {"header": "Content-Length", "value": "1"}}, "is for the connection itself"),
    ({"upstream": {"value": f"Bearer {ONE}\n"}}, "white space around it"),
    ({"upstream": {"value": f"a\r\nx: {ONE}"}}, "a control character"),
    ({"keys": [{"name": "a", "key": f" {ONE}"}]}, "no header has that"),
    ({"upstream": "leak"}, "drop"),
]


@pytest.mark.parametrize(("keys", "told"), WRONG)
def test_a_wrong_file_is_refused(keys: dict[str, Any], told: str) -> None:
    """Each mistake is told, and no key with it."""
    with pytest.raises(ValidationError) as caught:
        AuthConfig.model_validate(keys)
    messages = "; ".join(one["msg"] for one in caught.value.errors())
    assert told in messages
    assert ONE not in messages


def test_a_key_is_in_no_representation() -> None:
    """Neither the configuration nor its dump shows it."""
    config = AuthConfig.model_validate({"keys": KEYS, "upstream": {"value": ONE}})
    assert ONE not in repr(config) + str(config.model_dump())
