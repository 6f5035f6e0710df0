"""`retry`: what failed before the client saw a byte is tried again, within a budget."""

from __future__ import annotations

from typing import ClassVar

from proxy.chain import Env, Handler, RouteInfo

from ..core.budget import RetryBudget
from .config import RetryConfig
from .retrying import Retrying
from .stats import Stats


class Retry:
    """One budget for each upstream, shared by the routes of the chain that lead there."""

    Config: ClassVar[type] = RetryConfig
    before = ("circuit_breaker",)
    after = ("auth", "rate_limit", "compress", "transcode", "cache", "prefetch", "aggregate",
             "concurrency")  # fmt: skip

    def __init__(self, config: RetryConfig, env: Env) -> None:
        self.config = config
        self.env = env
        self._budgets: dict[str, RetryBudget] = {}
        self._stats: Stats | None = None

    async def start(self) -> None:
        pass

    async def stop(self) -> None:
        pass

    def bind(self, route: RouteInfo, next: Handler) -> Handler:
        if not self.config.enabled or self.config.attempts == 1:
            return next
        if self._stats is None:
            self._stats = Stats(self.env)
        budget = self._budgets.get(route.upstream)
        if budget is None:
            keys = self.config.budget
            budget = RetryBudget(keys.ratio, keys.window, keys.floor)
            self._budgets[route.upstream] = budget
        tally = self._stats.route(route.name)
        return Retrying(self.config, self.env, next, budget, tally).handle
