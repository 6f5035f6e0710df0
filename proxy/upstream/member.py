"""One endpoint among several: its connections, and how it stands."""

from __future__ import annotations

import asyncio
from typing import Any, Literal

from .. import config
from .ejection import Ejection
from .health import Health
from .pool import Pool
from .ramp import Ramp

State = Literal["up", "slow_start", "ejected", "unhealthy"]
STATES: tuple[State, ...] = ("up", "slow_start", "ejected", "unhealthy")


class Member:
    """health, ejection, ramp: None where the file wants none of it.

    picks: requests it was chosen for. ejections, failed_checks: how often so far. check: the task
    that checks it. due: the timer that ends its ejection.
    """

    # fmt: off
    __slots__ = (
        "check", "due", "ejection", "ejections", "failed_checks", "health", "name", "picks", "pool",
        "ramp",
    )
    # fmt: on

    def __init__(self, pool: Pool, upstream: config.Upstream) -> None:
        self.pool = pool
        self.name = pool.endpoint.name
        checks, eject = upstream.health, upstream.eject
        self.health = Health(checks.unhealthy_after, checks.healthy_after) if checks else None
        self.ejection = Ejection(eject.consecutive, eject.time, eject.max_time) if eject else None
        self.ramp = Ramp(upstream.slow_start) if upstream.slow_start else None
        self.picks = self.ejections = self.failed_checks = 0
        self.check: asyncio.Task[Any] | None = None
        self.due: asyncio.TimerHandle | None = None

    @property
    def busy(self) -> int:
        """Requests in flight, and those that wait for a connection."""
        return self.pool.busy

    @property
    def ejected(self) -> bool:
        return self.ejection is not None and self.ejection.out

    @property
    def unhealthy(self) -> bool:
        return self.health is not None and not self.health.good

    def state(self, now: float) -> State:
        """The worst that is true of it."""
        if self.unhealthy:
            return "unhealthy"
        if self.ejected:
            return "ejected"
        return "slow_start" if self.ramp is not None and self.ramp.share(now) < 1 else "up"

    def back(self, now: float) -> None:
        """It is in again, with a small share at first."""
        if self.ramp is not None:
            self.ramp.begin(now)

    def stop(self) -> None:
        """Lets go of its task and its timer."""
        if self.check is not None:
            self.check.cancel()
            self.check = None
        if self.due is not None:
            self.due.cancel()
            self.due = None
