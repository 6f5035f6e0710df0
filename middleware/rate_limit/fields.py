"""What a client is told of its limits, in header fields and in words."""

from __future__ import annotations

from proxy.errors import ProxyError
from proxy.exchange import Headers

from ..core.quota import Quota, Verdict


def duration(milliseconds: int) -> bytes:
    """As OpenAI writes it: 120ms, 1.5s, 6m0s, 1h0m0s."""
    if milliseconds < 1000:
        return b"%dms" % milliseconds
    minutes, rest = divmod(milliseconds, 60_000)
    hours, minutes = divmod(minutes, 60)
    seconds = b"%d" % (rest // 1000)
    if rest % 1000:
        seconds += b".%03d" % (rest % 1000)
        seconds = seconds.rstrip(b"0")
    head = b"%dh%dm" % (hours, minutes) if hours else b"%dm" % minutes if minutes else b""
    return head + seconds + b"s"


def _up(milliseconds: int) -> int:
    return -(-milliseconds // 1000)


class Fields:
    """Of one quota: `ratelimit` and `ratelimit-policy` (draft-ietf-httpapi-ratelimit-headers-10)
    for each limit, and OpenAI's `x-ratelimit-*` for the one with the least left.
    """

    def __init__(self, quota: Quota, name: str, cost: str) -> None:
        self._quota = quota
        prefix = "" if name == "default" else f"{name} "
        self._names = [f'"{prefix}{limit.text}"'.encode() for limit in quota.limits]
        unit = b"" if cost == "requests" else b';qu="%b"' % cost.encode()
        self._policy = b", ".join(
            b"%b;q=%d;w=%d%b" % (quoted, limit.amount, limit.seconds, unit)
            for quoted, limit in zip(self._names, quota.limits, strict=True)
        )
        ours = [f"x-ratelimit-{what}-{cost}".encode() for what in ("limit", "remaining", "reset")]
        self._limit, self._remaining, self._reset = ours
        self._cost = cost

    def told(self, verdict: Verdict) -> Headers:
        """The fields. `t` and `reset` are the time until all of the limit may be used again."""
        left, reset = verdict.left, verdict.reset
        tightest = 0
        if len(left) > 1:
            tightest = min(range(len(left)), key=lambda n: (left[n], -reset[n]))
        service = b", ".join(
            [
                b"%b;r=%d;t=%d" % (name, some, _up(until))
                for name, some, until in zip(self._names, left, reset, strict=True)
            ]
        )
        return [
            (b"ratelimit-policy", self._policy),
            (b"ratelimit", service),
            (self._limit, b"%d" % self._quota.limits[tightest].amount),
            (self._remaining, b"%d" % left[tightest]),
            (self._reset, duration(reset[tightest])),
        ]

    def put(self, headers: Headers, verdict: Verdict) -> Headers:
        """An answer's headers with these. Those of OpenAI that the upstream counts by the same
        unit give way: it counts all clients as one, or another client's key.
        """
        ours = (self._limit, self._remaining, self._reset)
        size = {len(name) for name in ours}
        kept = [pair for pair in headers if len(pair[0]) not in size or pair[0].lower() not in ours]
        return kept + self.told(verdict)

    def refusal(self, verdict: Verdict, cost: int, headers: bool) -> ProxyError:
        """429, and when to come back."""
        worst = max(range(len(verdict.wait)), key=verdict.wait.__getitem__)
        limit = self._quota.limits[worst].text
        after = _up(verdict.wait[worst])
        if self._cost == "requests":
            message = f"over the limit of {limit} requests"
        else:
            message = (
                f"over the limit of {limit} tokens: {cost} are needed for the prompt and the "
                f"longest answer asked for, {verdict.left[worst]} are left"
            )
        return ProxyError(
            f"{message}; try again in {after} s",
            status=429,
            code="rate_limited",
            retry_after=after,
            headers=self.told(verdict) if headers else (),
        )

    def never(self, cost: int) -> ProxyError:
        """429 for what no waiting helps against; OpenAI's clients do not try it again."""
        limit = min(self._quota.limits, key=lambda one: one.amount).text
        return ProxyError(
            f"this takes {cost} tokens, the prompt and the longest answer asked for; the limit of "
            f"{limit} tokens never lets it in: shorten the prompt, or lower max_tokens",
            status=429,
            code="rate_limited",
            headers=[(b"x-should-retry", b"false")],
        )
