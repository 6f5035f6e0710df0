"""The table of bounds in docs/threat-model.md is that of the code."""

from __future__ import annotations

import importlib
import inspect
import pkgutil
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any, get_args, get_origin

import pytest
from pydantic import BaseModel

import middleware
import proxy
from proxy.config import Config
from proxy.units import format_duration, format_size

ROOT = Path(__file__).parents[2]
DOC = ROOT / "docs" / "threat-model.md"

NO_BOUNDS = {
    "proxy.apis.dialect.to_openai.TGI_TOKENS",
    "proxy.apis.dialect.to_tgi.COMPLETION_TOKENS",
    "middleware.compress.codings.GZIP_LEVEL",
    "middleware.compress.codings.BR_QUALITY",
    "middleware.compress.codings.ZSTD_LEVEL",
    "middleware.compress.codings._GZIP",
    "middleware.core.documents._PIECE",
    "middleware.auth.config.MIN_KEY",
    "middleware.circuit_breaker.shared.POLL",
    "middleware.core.circuit.SOON",
    "middleware.core.outcomes.BUCKETS",
    "proxy.apis.prompt.BYTES_PER_TOKEN",
    "proxy.cli.MISTAKES",
    "proxy.deadline.CHECKS",
    "proxy.file.mistakes._FEW",
    "proxy.supervisor.FIRST_BACKOFF",
    "proxy.supervisor.STABLE_AFTER",
    "proxy.supervisor.TICK",
    "proxy.tls.WATCH_INTERVAL",
    "proxy.units._LONGEST",
    "proxy.upstream.affinity.ENOUGH",
    "proxy.upstream.affinity.SPLIT",
    "proxy.upstream.group.JITTER",
    "proxy.upstream.ramp.LEAST",
    "proxy.upstream.ring.POINTS",
    "proxy.stores.zstd.LEVEL",
    "middleware.aggregate.lane.MIN_TIMER",
    "middleware.core.batch.holds.EVERY",
    "middleware.core.batch.pace.FIRST_PATIENCE",
    "middleware.core.batch.pace.FIRST_TRIAL",
    "middleware.core.batch.pace.GAIN",
    "middleware.core.batch.pace.LAST_TRIAL",
    "middleware.core.batch.pace.SAMPLES",
    "middleware.core.batch.pace.STUCK",
    "middleware.core.batch.padding.SHORT",
    "middleware.cache.variants.INDEX",
    "middleware.cache.lease.FIRST_LOOK",
    "middleware.cache.lease.LAST_LOOK",
    "middleware.cache.lease.NOTHING_FOR",
    "middleware.cache.purges.KEEP",
    "middleware.cache.purges.POLL",
    "middleware.core.documents._INTEGERS",
    "middleware.core.number_arrays.ARRAY",
    "middleware.core.number_arrays.FEW",
    "middleware.core.object_stream.EVENT",
    "middleware.core.budget.SLOTS",
    "middleware.core.envelope.COMPRESSED",
    "middleware.core.envelope.VERSION",
    "middleware.core.envelope._FIELDS",
    "middleware.core.http.cache_control.MAX_SECONDS",
    "middleware.core.http.cache_control._REMEMBERED_BYTES",
    "middleware.core.http.dates._YEAR",
    "middleware.core.http.freshness.CLOCK_SKEW",
    "middleware.core.http.freshness.HEURISTIC_MAX",
    "middleware.core.http.freshness.HEURISTIC_SHARE",
    "middleware.concurrency.permits.LEAST_RETRY",
    "middleware.core.drain.REMEMBERED",
    "middleware.core.gradient.BACKOFF",
    "middleware.core.gradient.HEADROOM",
    "middleware.core.gradient.PROBE_EVERY",
    "middleware.core.gradient.PROBE_SHARE",
    "middleware.core.gradient.SATURATED",
    "middleware.core.gradient.START",
    "middleware.core.gradient.WINDOW",
    "middleware.core.queue._WHOLE",
    "middleware.core.key.KEY_BYTES",
    "middleware.core.lru.OVERHEAD",
    "middleware.core.quota._EXACT",
    "middleware.core.memo.OVERHEAD",
    "middleware.core.successors.CEILING",
    "middleware.core.successors.SUPPORT",
    "middleware.core.successors.SWEPT",
}
"""Numbers in the code that bound nothing: a status, a pace, a sum that no computer overflows."""

SECONDS = {
    "middleware.circuit_breaker.circuits.FORGET_AFTER", "middleware.core.circuit.PATIENCE",
    "middleware.circuit_breaker.shared.LEASE",
    "proxy.edge.connection.LINGER", "proxy.server.HANDSHAKE_TIMEOUT", "proxy.server.SETTLE",
    "proxy.admin.PEER_TIMEOUT", "proxy.supervisor.MAX_BACKOFF", "proxy.stores.guard.CONNECT",
    "middleware.concurrency.permits.MOST_RETRY",
    "middleware.cache.lease.LEASE", "middleware.cache.replay.MAX_PAUSE",
    "middleware.cache.tiers.MAX_SKEW",
    "middleware.core.batch.sizes.CEILING_FOR", "middleware.core.batch.trial.SUSPECT_FOR",
}  # fmt: skip
COUNTS = {
    "middleware.aggregate.layer.MAX_PASSING",
    "middleware.cache.item_calls.ODD_ANSWERS", "middleware.cache.item_calls.MAX_ODD",
    "middleware.core.http.accept.MAX_RANGES", "middleware.core.documents.MAX_DEPTH",
    "middleware.core.documents.MAX_CONTAINERS", "middleware.core.documents.MAX_MEMBERS",
    "middleware.core.number_arrays.MAX_DIMENSIONS",
    "middleware.transcode.plan.MEMO_ENTRIES",
    "middleware.core.http.codings.MAX_CODINGS", "middleware.compress.codings.MAX_MEMBERS",
    "middleware.circuit_breaker.circuits.MAX_CIRCUITS",
    "middleware.core.window.MARKS", "middleware.rate_limit.layer.MAX_QUOTAS",
    "middleware.rate_limit.tokens.LAST_EVENTS",
    "middleware.concurrency.config.MAX_PRIORITIES", "middleware.concurrency.permits.QUEUE_FACTOR",
    "middleware.core.gradient.WINDOW_MOST",
    "middleware.core.latencies.KEPT",
    "middleware.auth.config.MAX_NAME",
    "proxy.stores.line.MAX_LEFT",
    "proxy.server.BACKLOG", "proxy.upstream.answer.MAX_INTERIM", "proxy.router.MEMO_ENTRIES",
    "proxy.edge.repeat.TRIES", "proxy.router.MAX_READINGS",
    "proxy.upstream.answer.MAX_TRAILERS", "proxy.file.document.MAX_NODES",
    "proxy.upstream.affinity.MAX_STEPS", "proxy.upstream.affinity.MAX_POPULAR",
    "proxy.upstream.affinity.FADES", "proxy.upstream.ring.LOWEST_BOUND",
    "proxy.file.document._MAX_DEPTH",
    "proxy.logs.MAX_LINE", "proxy.control.MAX_LISTED", "proxy.apis.base.MAX_MODEL",
    "proxy.apis.MAX_PATHS",
    "proxy.apis.prompt.MAX_DEPTH",
    "proxy.apis.batch.asked.MAX_ITEMS", "proxy.apis.batch.openai.MAX_CHOICES",
    "proxy.apis.batch.instances.MAX_LEVELS", "proxy.apis.batch.tensor.MAX_RANK",
    "proxy.apis.batch.tensor.MAX_STRINGS", "proxy.apis.batch.pad.MAX_LENGTH",
    "proxy.apis.batch.scan.MAX_DEPTH", "proxy.apis.batch.rest.MAX_KINDS",
    "proxy.apis.batch.pointer.MAX_STEPS", "proxy.apis.batch.plan.MAX_PLANS",
    "proxy.apis.batch.around.MAX_KNOWN",
    "middleware.aggregate.fields.MAX_NAMES", "middleware.core.batch.fair.MAX_TENANTS",
    "middleware.core.batch.padding.LOOKAHEAD", "middleware.core.batch.pace.MOST_LEVELS",
    "middleware.core.batch.groups.MAX_GROUPS", "middleware.core.batch.ranking.SLACK",
    "middleware.core.batch.trial.SICK",
    "middleware.core.batch.trial.MAX_SUSPECTS",
    "middleware.core.http.vary.MAX_FIELDS", "middleware.cache.tiers.MAX_SHARING",
    "middleware.cache.stats.MAX_USES", "middleware.cache.offered.MAX_TOP",
    "middleware.cache.purges.MAX_LABELS", "middleware.cache.purges.MAX_LABEL",
    "middleware.cache.purges.MAX_TAGS", "middleware.cache.warm.MAX_WARM",
    "middleware.cache.warm.AT_ONCE", "middleware.prefetch.BURST", "middleware.prefetch.MAX_SENT",
    "middleware.prefetch.MAX_BACKOFF",
}  # fmt: skip


def rows() -> list[list[str]]:
    _, _, table = DOC.read_text().partition("| bound | default |")
    lines = table.partition("\n\n")[0].splitlines()[2:]
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in lines]


NAMES = [row[0].strip("`") for row in rows()]


def default_of(name: str) -> str:
    """The default of a key or constant as the table writes it. Fails where there is none."""
    if not name.startswith(("proxy.", "middleware.")):
        return _default_of_key(name)
    if "(" in name:
        path, _, parameter = name.rstrip(")").partition("(")
        module, cls, method = path.rsplit(".", 2)
        function = getattr(getattr(importlib.import_module(module), cls), method)
        return format_size(inspect.signature(function).parameters[parameter].default)
    module, _, constant = name.rpartition(".")
    value = getattr(importlib.import_module(module), constant)
    if name in SECONDS:
        return format_duration(value)
    return f"{value:,g}" if name in COUNTS else format_size(value)


def _default_of_key(name: str) -> str:
    field: Any = None
    model: Any = Config
    for part in name.split("."):
        if part != "*":
            field = model.model_fields[part]
            model = _model(field.annotation)
    default = field.default
    if isinstance(default, int):
        return f"{default:,}"
    return "null" if default is None else str(default)


def _model(annotation: Any) -> Any:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return annotation
    return next((found for arm in get_args(annotation) if (found := _model(arm))), None)


def _keys(model: type[BaseModel], path: str) -> Iterator[str]:
    for name, field in model.model_fields.items():
        inner = _model(field.annotation)
        here = f"{path}{name}"
        if inner is None:
            yield here
        else:
            many = get_origin(field.annotation) in (dict, list)
            yield from _keys(inner, f"{here}.*." if many else f"{here}.")


def _constants() -> Iterator[str]:
    for package in (proxy, middleware):
        for found in pkgutil.walk_packages(package.__path__, package.__name__ + "."):
            if found.name.startswith("proxy.demo") or found.name.endswith("__main__"):
                continue
            module = importlib.import_module(found.name)
            source = Path(str(module.__file__)).read_text()
            for name, value in vars(module).items():
                written = re.search(rf"^{name} = [0-9]", source, re.MULTILINE)
                if name.isupper() and type(value) in (int, float) and written:
                    yield f"{found.name}.{name}"


@pytest.mark.parametrize("row", rows(), ids=NAMES)
def test_a_row_is_true(row: list[str]) -> None:
    """The key or constant exists, its default is this, and the test that crosses it is there."""
    bound, default, what, then, test = row
    assert default == default_of(bound.strip("`"))
    assert what and then
    assert test == "the kernel's own" or (ROOT / test.strip("`")).is_file(), f"no {test}"


def test_every_constant_is_told() -> None:
    """A number at the top of a module stands in the table, or bounds nothing."""
    constants = set(_constants())
    assert constants >= NO_BOUNDS
    assert constants - NO_BOUNDS == {
        name for name in NAMES if name.startswith(("proxy.", "middleware.")) and "(" not in name
    }
    assert len(NAMES) == len(set(NAMES))


def test_every_key_with_a_bound_is_told() -> None:
    """Each key that is a duration, a size or a count of something that others can make."""
    bounds = {
        key
        for key in _keys(Config, "")
        if re.match(r"(limits|drain|upstreams\.\*\.(pool|timeouts|limits))\.|.*max_", key)
    }
    assert bounds == {name for name in NAMES if not name.startswith(("proxy.", "middleware."))}
