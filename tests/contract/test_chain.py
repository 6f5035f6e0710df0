"""How layers become one handler, and what they may ask of their order."""

from __future__ import annotations

from typing import Any

import pytest

from proxy.assembly import RouteInfo
from proxy.chain import BodyFilter, ChainOrder, Middleware, build, check_order
from proxy.env import Env
from proxy.exchange import Request, Response
from proxy.loader import ConfigError, load_text
from proxy.upstream.pool import Pool

from .filters import KINDS
from .layers import Inside, Keys, Layer, Once, Outside, Probe
from .road import ModelServer, remora

FILE = "upstreams: {default: {endpoints: ['http://127.0.0.1:1']}}\n"
PROBE = "tests.contract.layers:Probe"


# -- build


class Tells(Layer):
    """Writes down when a request goes in and out."""

    def __init__(self, name: str, told: list[str]) -> None:
        self.name = name
        self.told = told

    async def handle(self, request: Request, next: Any) -> Response:
        self.told.append(f"{self.name} in")
        response: Response = await next(request)
        self.told.append(f"{self.name} out")
        return response


async def test_the_first_layer_of_a_chain_is_the_outermost() -> None:
    """A request meets them in the order of the file, its answer in the reverse."""
    told: list[str] = []

    async def upstream(request: Request) -> Response:
        told.append("upstream")
        return Response(200, [])

    handler = build([Tells("a", told), Tells("b", told)], RouteInfo("r", "u"), upstream)
    await handler(Request(b"GET", b"/", []))
    assert told == ["a in", "b in", "upstream", "b out", "a out"]


async def test_an_empty_chain_is_the_pools_own_send(model: ModelServer) -> None:
    """Nothing stands between the router and the pool, not even a function."""
    async with remora(model.url, []) as server:
        assert server._assembly is not None
        handler: Any = server._assembly.router.routes[0].handler
        assert handler.__self__ is server._assembly.pools["default"][0]
        assert handler.__func__ is Pool.send


async def test_a_layer_is_made_once_for_a_chain_and_bound_once_for_a_route(
    model: ModelServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Routes without a chain of their own share the layers above; `[]` is none at all."""
    made: list[Layer] = []
    bound: list[tuple[Layer, str]] = []
    make, bind = Probe.__init__, Probe.bind

    def counted_make(self: Probe, config: Keys, env: Env) -> None:
        made.append(self)
        make(self, config, env)

    def counted_bind(self: Probe, route: Any, next: Any) -> Any:
        bound.append((self, route.name))
        return bind(self, route, next)

    monkeypatch.setattr(Probe, "__init__", counted_make)
    monkeypatch.setattr(Probe, "bind", counted_bind)
    routes = [
        {"name": "own", "match": {"path": "/own"}, "chain": [PROBE]},
        {"name": "none", "match": {"path": "/none"}, "chain": []},
        {"name": "one", "match": {"path": "/one"}},
        {"name": "rest"},
    ]
    async with remora(model.url, [PROBE], routes=routes):
        shared, own = made
        assert sorted(bound, key=lambda one: one[1]) == [
            (shared, "one"), (own, "own"), (shared, "rest"),
        ]  # fmt: skip


def test_the_layers_of_the_tests_are_layers() -> None:
    """What the suite runs with meets the protocols that it is about."""
    assert isinstance(Layer(Keys(), None), Middleware)  # type: ignore[arg-type]
    assert all(isinstance(kind(), BodyFilter) for kind in KINDS.values())


# -- order


class A:
    before = ("b",)


class B:
    pass


class C:
    after = ("b",)
    unique = False


CLASSES: dict[str, type[Any]] = {"a": A, "b": B, "c": C}


@pytest.mark.parametrize(
    ("chain", "index", "message"),
    [
        ("ba", 1, "`a` must come before `b`"),
        ("cb", 0, "`c` must come after `b`"),
        ("bb", 1, "`b` may stand only once in a chain"),
        ("aa", 1, "`a` may stand only once in a chain"),
        ("ccb", 0, "`c` must come after `b`"),
    ],
)
def test_a_chain_out_of_order_is_refused(chain: str, index: int, message: str) -> None:
    """The index is that of the layer to move."""
    with pytest.raises(ChainOrder) as caught:
        check_order(list(chain), [CLASSES[name] for name in chain])
    assert (caught.value.index, str(caught.value)) == (index, message)


@pytest.mark.parametrize("chain", ["", "a", "b", "c", "ab", "abc", "abcc", "ac", "ca", "bcc"])
def test_a_chain_in_order_is_taken(chain: str) -> None:
    """A constraint binds only where both are in the chain."""
    check_order(list(chain), [CLASSES[name] for name in chain])


@pytest.mark.parametrize(
    ("chain", "place", "message"),
    [
        ([Probe, Outside], "3:5: chain[1]", f"must come before `{PROBE}`"),
        ([Inside, Probe], "2:5: chain[0]", f"must come after `{PROBE}`"),
        ([Once, Probe, Once], "4:5: chain[2]", "may stand only once in a chain"),
    ],
    ids=["before", "after", "unique"],
)
def test_a_file_out_of_order_is_refused_with_its_place(
    chain: list[type[Layer]], place: str, message: str
) -> None:
    """Line and column of the layer to move, in a route's chain as in the one above."""
    lines = "".join(f"  - {one.__module__}:{one.__name__}: {{}}\n" for one in chain)
    with pytest.raises(ConfigError) as caught:
        load_text("chain:\n" + lines + FILE, "x.yaml", {})
    (mistake,) = caught.value.mistakes
    assert str(mistake).startswith(f"x.yaml:{place}: `") and str(mistake).endswith(message)
    below = "".join("    " + line + "\n" for line in lines.splitlines())
    with pytest.raises(ConfigError) as caught:
        load_text(f"routes:\n  - chain:\n{below}{FILE}", "x.yaml", {})
    (mistake,) = caught.value.mistakes
    assert mistake.path.startswith("routes[0].chain[") and mistake.message.endswith(message)
