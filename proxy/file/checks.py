"""Mistakes between the parts of a file: each part is well formed, but they do not fit together.

They are looked for in the data, not in a Config, so that a file with other mistakes hears of
these in the same run. A part that is no good by itself is passed over here.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterator, Sequence
from typing import Any, Literal, NamedTuple, cast, get_args, get_origin

from .. import registry
from ..address import Address, parse_address
from ..chain import ChainOrder, check_order
from ..config import DEFAULT_ADMIN, DEFAULT_LISTEN, Match
from .document import Path

Told = Iterator[tuple[Path, str]]


def check(data: dict[str, Any]) -> Told:
    """Yields (path, message). `data`: the whole file."""
    yield from _addresses(data)
    yield from _upstreams(data)
    yield from _matches(_list(data, "routes"))
    chains: list[tuple[Any, Path]] = [(data.get("chain"), ("chain",))]
    for index, route in enumerate(_list(data, "routes")):
        if isinstance(route, dict):
            chains.append((route.get("chain"), ("routes", index, "chain")))
    defined = data.get("stores")
    stores = (
        [name for name, one in defined.items() if one is not None]
        if isinstance(defined, dict)
        else []
    )
    upstreams = data.get("upstreams")
    for chain, path in chains:
        layers = list(_layers(chain))
        if isinstance(upstreams, dict):
            yield from _fallbacks(layers, path, list(upstreams))
        yield from _order(layers, path)
        yield from _stores(layers, path, ["memory", *stores])


def _list(data: dict[str, Any], key: str) -> list[Any]:
    value = data.get(key)
    return value if isinstance(value, list) else []


def _listeners(data: dict[str, Any]) -> Iterator[tuple[Path, str, Address]]:
    listen = data.get("listen", DEFAULT_LISTEN)
    items: list[tuple[Path, Any]] = (
        [(("listen", index), item) for index, item in enumerate(listen)]
        if isinstance(listen, list)
        else [(("listen",), listen)]
    )
    for path, item in items:
        address = item.get("address") if isinstance(item, dict) else item
        if isinstance(address, str) and (parsed := _parsed(address)) is not None:
            yield path, address, parsed


def _parsed(text: str) -> Address | None:
    try:
        return parse_address(text)
    except ValueError:
        return None


def _addresses(data: dict[str, Any]) -> Told:
    seen: list[tuple[Path, str, Address]] = []
    for path, text, address in _listeners(data):
        for _, other_text, other in seen:
            if address.overlaps(other):
                yield path, f"`{text}` overlaps the listener `{other_text}`"
                break
        seen.append((path, text, address))
    admin = data.get("admin", DEFAULT_ADMIN)
    if not isinstance(admin, str) or (parsed := _parsed(admin)) is None:
        return
    if not parsed.loopback and data.get("admin_token") is None:
        yield (
            ("admin",),
            f"`{admin}` can be reached from outside: add `admin_token: ${{ADMIN_TOKEN}}`, or "
            "write 127.0.0.1:9901",
        )
    for path, text, address in seen:
        if not parsed.overlaps(address):
            continue
        if "admin" in data:
            yield ("admin",), f"`{admin}` overlaps the listener `{text}`"
        else:
            yield (
                path,
                f"`{text}` is where `admin` is by default; give `admin` another address or `off`",
            )
        return


def _upstreams(data: dict[str, Any]) -> Told:
    upstreams = data.get("upstreams")
    if not isinstance(upstreams, dict) or not upstreams:
        return
    known = list(upstreams)
    if "routes" not in data:
        if "default" not in known:
            yield ("upstreams",), "without `routes` everything goes to `default`: name one so"
        return
    for index, route in enumerate(_list(data, "routes")):
        if not isinstance(route, dict):
            continue
        name = route.get("upstream", "default")
        if isinstance(name, str) and name not in known:
            yield ("routes", index, "upstream"), _no_upstream(name, known)


def _no_upstream(name: str, known: list[Any]) -> str:
    near = difflib.get_close_matches(name, known, n=1)
    hint = f"did you mean `{near[0]}`?" if near else f"known: {', '.join(known)}"
    return f"there is no upstream `{name}`; {hint}"


def _matches(routes: list[Any]) -> Told:
    seen: list[tuple[int, Match]] = []
    for index, route in enumerate(routes):
        if not isinstance(route, dict):
            continue
        try:
            match = Match.model_validate(route.get("match", {}))
        except ValueError:
            continue
        for other_index, other in seen:
            if _takes_all(other, match):
                path = ("routes", index, "match")
                same = "has the same match" if other == match else "takes all of its requests"
                yield path, f"never reached: routes[{other_index}] stands before it and {same}"
                break
        seen.append((index, match))


def _takes_all(first: Match, later: Match) -> bool:
    """Routes are tried in their order, so what the first one takes never gets to the later."""
    if first.host not in (None, later.host):
        return False
    if first.methods is not None and not set(later.methods or ("*",)) <= set(first.methods):
        return False
    if first.path.endswith("*"):
        return later.path.removesuffix("*").startswith(first.path.removesuffix("*"))
    return first.path == later.path


class _Layer(NamedTuple):
    """An entry of a chain: where it stands, what it is, and its keys as they are written."""

    at: int
    name: str
    cls: type[Any]
    keys: dict[str, Any]


def _layers(chain: Any) -> Iterator[_Layer]:
    """Entries that are no layer are left out: the others still stand in their order."""
    for index, entry in enumerate(chain if isinstance(chain, list) else []):
        name, keys = entry, None
        if isinstance(entry, dict) and len(entry) == 1:
            ((name, keys),) = entry.items()
        if not isinstance(name, str):
            continue
        try:
            found = cast("type[Any]", registry.find(name))
        except registry.UnknownLayer:
            continue
        yield _Layer(index, name, found, keys if isinstance(keys, dict) else {})


def _order(layers: Sequence[_Layer], path: Path) -> Told:
    try:
        check_order([one.name for one in layers], [one.cls for one in layers])
    except ChainOrder as error:
        names = _in_order(layers) if len(layers) > 2 else []
        hint = f"; an order that would do: {', '.join(names)}" if names else ""
        yield (*path, layers[error.index].at), f"{error}{hint}"


def _in_order(layers: Sequence[_Layer]) -> list[str]:
    """The names in an order that all of them accept, moved as little as that takes; else none."""
    left, names = list(layers), list[str]()
    if len({one.name for one in left}) < len(left):
        return []
    while left:
        outermost = next((one for one in left if not any(_outside(o, one) for o in left)), None)
        if outermost is None:
            return []
        left.remove(outermost)
        names.append(outermost.name)
    return names


def _outside(one: _Layer, other: _Layer) -> bool:
    """Whether `one` must stand outside of `other`."""
    before, after = getattr(one.cls, "before", ()), getattr(other.cls, "after", ())
    return other.name in before or one.name in after


def _stores(layers: Sequence[_Layer], path: Path, known: list[str]) -> Told:
    """Names under a layer's `store` or `stores`, where its Config has that key."""
    for layer in layers:
        for key in sorted({"store", "stores"} & layer.cls.Config.model_fields.keys()):
            written = layer.keys.get(key)
            here = (*path, layer.at, layer.name, key)
            items = (
                [((*here, index), name) for index, name in enumerate(written)]
                if isinstance(written, list)
                else [(here, written)]
            )
            choices = _choices(layer.cls.Config.model_fields[key].annotation)
            for place, name in items:
                if not isinstance(name, str) or name in known or (choices and name not in choices):
                    continue  # the layer itself tells of a name that it does not know
                hint = f"known: {', '.join(known)}"
                if name == "redis":
                    hint = "add `stores: {redis: {url: …}}` to the file"
                yield place, f"there is no store `{name}`; {hint}"


def _fallbacks(layers: Sequence[_Layer], path: Path, known: list[Any]) -> Told:
    """Names under a layer's `fallback`, where its Config has that key: an upstream's."""
    for layer in layers:
        if "fallback" not in layer.cls.Config.model_fields:
            continue
        name = layer.keys.get("fallback")
        if isinstance(name, str) and name not in known:
            yield (*path, layer.at, layer.name, "fallback"), _no_upstream(name, known)


def _choices(annotation: Any) -> list[Any]:
    """What the Literals in an annotation allow."""
    if get_origin(annotation) is Literal:
        return list(get_args(annotation))
    return [one for arm in get_args(annotation) for one in _choices(arm)]
