"""Whether a stored answer may serve a request (RFC 9111 sections 4 and 5.2, RFC 5861)."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum

from proxy.exchange import Headers

from .cache_control import NONE, Directives, parse
from .fields import members, values


class Decision(Enum):
    """What to do with a stored answer that was found for a request."""

    FRESH = "fresh"
    """Serve it."""
    STALE = "stale"
    """Serve it: the client takes one that is as stale as this (`max-stale`)."""
    STALE_WHILE_REVALIDATE = "stale-while-revalidate"
    """Serve it, and revalidate it in the background."""
    REVALIDATE = "revalidate"
    """Ask upstream before anything is served."""
    PASS = "pass"
    """Send the request upstream as it came; leave what is stored alone."""
    REFUSE = "refuse"
    """Answer 504: the client wants nothing from upstream (`only-if-cached`)."""


@dataclass(frozen=True, slots=True)
class Options:
    """How a cache is set up. Times in seconds.

    shared: several clients are served from it. client: obey the request's directives. grace: serve
    stale this long while revalidating, where the answer has no `stale-while-revalidate`.
    stale_if_error: the same for an upstream that fails. retain: keep an answer that has a
    validator this long after its freshness.
    """

    shared: bool = True
    client: bool = True
    grace: float = 0.0
    stale_if_error: float = 0.0
    retain: float = 3600.0


ERRORS = frozenset({500, 502, 503, 504})
"""Statuses that count as a failed upstream (RFC 5861 section 4)."""


def decide(
    request_headers: Headers,
    stored_headers: Headers,
    age: float,
    lifetime: float,
    options: Options,
) -> Decision:
    """age: `freshness.current_age` now. lifetime: as computed when the answer was stored.

    The stored answer's Vary must have been found to match.
    """
    wants, conditional = _asked(request_headers, options)
    ask, forward = Decision.REVALIDATE, Decision.PASS
    if b"only-if-cached" in wants:
        ask = forward = Decision.REFUSE
    if b"no-store" in wants or conditional:
        return forward
    rules = parse(stored_headers)
    if b"no-cache" in wants or rules.unqualified(b"no-cache"):
        return ask
    if b"max-age" in wants:
        limit = wants.seconds(b"max-age")
        if limit == 0 or age > limit:
            return ask
    if age < lifetime:
        return ask if lifetime - age < wants.seconds(b"min-fresh") else Decision.FRESH
    stale = age - lifetime
    if _never_stale(rules, options):
        return ask
    if b"max-stale" in wants:
        limitless = wants.argument(b"max-stale") is None
        if limitless or stale <= wants.seconds(b"max-stale"):
            return Decision.STALE
    if b"max-age" in wants or b"min-fresh" in wants or b"max-stale" in wants:
        return ask
    if stale < _while_revalidating(rules, options):
        return Decision.STALE_WHILE_REVALIDATE
    return ask


def after_error(
    request_headers: Headers,
    stored_headers: Headers,
    age: float,
    lifetime: float,
    options: Options,
) -> bool:
    """Whether the stored answer may be served because upstream failed, or answered one of ERRORS.

    Where it may not and `must-revalidate` is why, the client gets 504 (section 5.2.2.2).
    """
    wants, conditional = _asked(request_headers, options)
    rules = parse(stored_headers)
    if b"no-cache" in wants or b"no-store" in wants or conditional:
        return False
    if rules.unqualified(b"no-cache"):
        return False
    if age < lifetime:
        return True
    if _never_stale(rules, options):
        return False
    return age - lifetime < _if_error(rules, wants, options)


def only_if_cached(request_headers: Headers, options: Options) -> bool:
    """Whether a request for which nothing is stored gets 504 at once (section 5.2.1.7)."""
    wants, _ = _asked(request_headers, options)
    return b"only-if-cached" in wants


def keep(stored_headers: Headers, age: float, lifetime: float, options: Options) -> float:
    """Seconds from its coming during which an answer is of any use; 0: do not store it.

    age: `freshness.initial_age`.
    """
    rules = parse(stored_headers)
    fresh = stale = 0.0
    if not rules.unqualified(b"no-cache"):
        fresh = max(0.0, lifetime - age)
        if not _never_stale(rules, options):
            window = max(_while_revalidating(rules, options), _if_error(rules, NONE, options))
            stale = max(0.0, lifetime + window - age)
    validated = values(stored_headers, b"etag") or values(stored_headers, b"last-modified")
    return max(stale, fresh + (options.retain if validated else 0.0))


_NO_CACHE = Directives({b"no-cache": [None]})
_FOR_THE_ORIGIN = frozenset({b"if-match", b"if-unmodified-since"})
_READ = _FOR_THE_ORIGIN | {b"cache-control", b"pragma"}


def _asked(request_headers: Headers, options: Options) -> tuple[Directives, bool]:
    """The client's directives, and whether it has a condition that only the origin can judge."""
    found = _READ.intersection([name.lower() for name, _ in request_headers])
    if not found:
        # Most requests: one look at each name, not four (tests/bench: hit).
        return NONE, False
    return _wants(request_headers, options), not found.isdisjoint(_FOR_THE_ORIGIN)


def _wants(request_headers: Headers, options: Options) -> Directives:
    if not options.client:
        return NONE
    if values(request_headers, b"cache-control"):
        return parse(request_headers)
    # Pragma counts only where there is no Cache-Control (section 5.4).
    if any(value.lower() == b"no-cache" for value in members(request_headers, b"pragma")):
        return _NO_CACHE
    return NONE


def _never_stale(rules: Directives, options: Options) -> bool:
    """Whether the origin forbids to serve the answer stale (section 4.2.4)."""
    if b"must-revalidate" in rules:
        return True
    return options.shared and (b"proxy-revalidate" in rules or b"s-maxage" in rules)


def _while_revalidating(rules: Directives, options: Options) -> float:
    if b"stale-while-revalidate" in rules:
        return rules.seconds(b"stale-while-revalidate")
    return options.grace


def _if_error(rules: Directives, wants: Directives, options: Options) -> float:
    """The origin's window, else the configured one; where the client names one, not more."""
    window = options.stale_if_error
    if b"stale-if-error" in rules:
        window = rules.seconds(b"stale-if-error")
    if b"stale-if-error" in wants:
        window = min(window, wants.seconds(b"stale-if-error"))
    return window
