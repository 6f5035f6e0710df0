"""Which route a request takes."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxy.errors import NoRoute
from proxy.exchange import Request, Response
from proxy.router import MAX_DOUBTFUL, MAX_READINGS, MEMO_ENTRIES, Route, Router, readings


async def handler(request: Request) -> Response:
    return Response(200, [])


def route(name: str, path: bytes = b"/", prefix: bool = True, *methods: bytes,
          host: bytes | None = None) -> Route:  # fmt: skip
    return Route(name, handler, path, prefix, frozenset(methods) or None, host)


def ask(
    router: Router, target: bytes, method: bytes = b"GET", host: bytes | None = b"h"
) -> str | None:
    """Name of the route that takes it, or None."""
    headers = [] if host is None else [(b"hOST", host)]
    try:
        return router.find(Request(method, target, headers)).name
    except NoRoute:
        return None


def test_first_match() -> None:
    """The first route that matches has the request, however well a later one would fit."""
    router = Router([route("v1", b"/v1/"), route("exact", b"/v1/x", False), route("rest", b"/")])
    assert [ask(router, target) for target in (b"/v1/x", b"/v1/", b"/v1", b"/")] == [
        "v1", "v1", "rest", "rest",
    ]  # fmt: skip


def test_whole_path() -> None:
    """Without a star the whole path must be the same; the query is none of it."""
    router = Router([route("exact", b"/v1/x", False)])
    assert ask(router, b"/v1/x") == ask(router, b"/v1/x?y=/z") == "exact"
    for target in (b"/v1/x/", b"/v1/xx", b"/v1/", b"/V1/x", b"/v1/%78", b"//v1/x", b"/v1/./x"):
        assert ask(router, target) is None


def test_bytes_are_matched_as_they_came() -> None:
    """Nothing is decoded or normalised: a route must not take what its server would not get."""
    router = Router([route("prefix", b"/a/")])
    assert ask(router, b"/a/../a/b") == ask(router, b"/a/%2e%2e/a//b;c") == "prefix"
    for target in (b"/%61/x", b"/b/../a/x", b"/./a/x"):
        assert ask(router, target) is None


WAYS_ROUND = [
    b"/open/../v1/x", b"/open/%2e%2e/v1/x", b"/open/.%2E/v1/x", b"/open/..%2fv1/x",
    b"/open\\..\\v1/x", b"/open/..%5cv1/x", b"/open/..;/v1/x", b"/open/..;a=b/v1/x",
    b"//v1/x", b"/./v1/x", b"/%2fv1/x", b"/%76%31/x", b"/v1;a/x", b"/open//../../v1/x",
    b"/v1/../open", b"/V1/..//v1/x", b"/a%2fb/../%76%31/x", b"/%252e%252e/v1/x", b"/%2576%31/x",
    b"/a/..;%2fb/..%2f%76%31/x",
]  # fmt: skip


@pytest.mark.parametrize("target", WAYS_ROUND)
def test_no_path_leads_round_a_route(target: bytes) -> None:
    """Where a server may read a path that another route has, no route takes it: what guards that
    route would not have seen the request.
    """
    routes = [route("guarded", b"/v1/"), route("open")]
    assert ask(Router(routes), target) is None
    assert ask(Router(routes[1:]), target) == "open"


@given(st.binary(max_size=40))
def test_every_path_has_readings(path: bytes) -> None:
    """No bytes fail, and a path that nobody reads otherwise has no other reading."""
    path = b"/" + path
    found = readings(path)
    assert path in found
    if not any(mark in path for mark in (b"//", b"/.", b"%", b"\\", b";")):
        assert found == {path}


def test_how_many_readings_a_path_may_have() -> None:
    """Over MAX_READINGS it has no route, unless every path has the same one."""
    routes = [route("guarded", b"/v1/"), route("open")]

    def nested(levels: int) -> bytes:
        return b"/a%" + b"25" * (levels - 2) + b"41"

    assert len(readings(nested(MAX_READINGS))) == MAX_READINGS
    for levels, name in ((MAX_READINGS, "open"), (MAX_READINGS + 1, None)):
        assert ask(Router(routes), nested(levels)) == name
        assert ask(Router(routes[1:]), nested(levels)) == "open"
    assert len(readings(nested(1000))) == MAX_READINGS + 1


def test_how_long_a_path_of_several_readings_may_be() -> None:
    """Over MAX_DOUBTFUL bytes it has no route, unless every path has the same one."""
    routes = [route("guarded", b"/v1/"), route("open")]
    within = b"/open/" + b"%41" * ((MAX_DOUBTFUL - 6) // 3)
    plain = b"/open/" + b"A" * MAX_DOUBTFUL
    for target, name in ((within, "open"), (plain, "open"), (within + b"%41", None)):
        assert ask(Router(routes), target) == name
        assert ask(Router(routes[1:]), target) == "open"


def test_methods() -> None:
    """Methods are matched by case; the same path may go elsewhere for another."""
    router = Router([route("post", b"/x", False, b"POST", b"PUT"), route("rest")])
    names = [ask(router, b"/x", method) for method in (b"POST", b"PUT", b"GET", b"post")]
    assert names == ["post", "post", "rest", "rest"]


def test_host() -> None:
    """Host is matched without case and port; a request without one only where none is asked for."""
    router = Router([route("named", host=b"model.test"), route("six", host=b"[::1]")])
    for host in (b"model.test", b"MODEL.test", b"Model.Test:8080", b"model.test:"):
        assert ask(router, b"/", host=host) == "named"
    for host in (b"[::1]", b"[::1]:8080"):
        assert ask(router, b"/", host=host) == "six"
    for other in (b"model.test.evil", b"evil-model.test", b"[::2]", b"", None):
        assert ask(router, b"/", host=other) is None
    assert ask(Router([route("any")]), b"/", host=None) == "any"


def test_host_is_not_remembered_with_the_path() -> None:
    """Two hosts on one path keep going to their own routes, in any order."""
    router = Router([route("a", host=b"a"), route("b", host=b"b"), route("rest")])
    for host in (b"a", b"b", b"c", b"b", b"a", b"c"):
        assert ask(router, b"/x", host=host) == {b"a": "a", b"b": "b", b"c": "rest"}[host]


def test_asterisk() -> None:
    """`OPTIONS *` goes to whoever has every path, or names it."""
    assert ask(Router([route("rest")]), b"*", b"OPTIONS") == "rest"
    assert ask(Router([route("v1", b"/v1/")]), b"*", b"OPTIONS") is None
    named = Router([route("star", b"*", False), route("rest")])
    assert ask(named, b"*", b"OPTIONS") == "star"


def test_the_memo_is_bounded() -> None:
    """Paths come from strangers: what is remembered of them does not grow without end."""
    router = Router([route("rest")])
    for number in range(3 * MEMO_ENTRIES):
        assert ask(router, b"/%d" % number) == "rest"
        assert len(router._memo) <= MEMO_ENTRIES


def test_no_route() -> None:
    """What nobody takes is 404 no_route."""
    with pytest.raises(NoRoute) as caught:
        Router([]).find(Request(b"GET", b"/", []))
    assert (caught.value.status, caught.value.code) == (404, "no_route")
