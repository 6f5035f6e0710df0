"""What `retry` counts: additions on the way of a request, read when somebody asks."""

from __future__ import annotations

from collections.abc import Iterator

from proxy.chain import Env, Numbers

WHY = ("attempts", "budget", "timeout", "retry_after")
"""Why a failure was passed on that was worth another attempt."""
HEDGES = ("sent", "won", "no_budget")


class Tally:
    """One route's numbers."""

    __slots__ = ("attempts", "given_up", "hedges", "retries")

    def __init__(self) -> None:
        self.attempts = 0
        self.retries: dict[str, int] = {}
        self.given_up = dict.fromkeys(WHY, 0)
        self.hedges = dict.fromkeys(HEDGES, 0)

    def retried(self, reason: str) -> None:
        self.retries[reason] = self.retries.get(reason, 0) + 1


class Stats:
    """All routes of one layer."""

    def __init__(self, env: Env) -> None:
        self._routes: dict[str, Tally] = {}
        env.numbers(
            "counter", "retry_attempts", "Attempts sent on, first ones included.", ["route"],
            lambda: [((name,), tally.attempts) for name, tally in self._routes.items()],
        )  # fmt: skip
        for name, documentation, label in (
            ("retries", "Retries sent, by what had failed.", "reason"),
            ("retry_given_up", "Failures passed on though worth a retry, by why.", "why"),
            ("hedges", "Second tries of calls that took long, by what became of them.", "outcome"),
        ):
            env.numbers("counter", name, documentation, ["route", label], self._reader(name))

    def route(self, name: str) -> Tally:
        return self._routes.setdefault(name, Tally())

    def _reader(self, name: str) -> Numbers:
        kind = name.removeprefix("retry_")

        def read() -> Iterator[tuple[tuple[str, str], float]]:
            for route, tally in self._routes.items():
                for label, count in getattr(tally, kind).items():
                    yield (route, label), count

        return read
