"""Calls to a store, so that a bad one costs at most one timeout and then nothing."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable
from typing import Any, TypeVar

from ..chain import Env
from ..errors import StoreDown
from .breaker import Breaker, State

log = logging.getLogger("remora")

T = TypeVar("T")

CONNECT = 1.0
"""Seconds that a trial may take to connect; calls of clients never wait for it."""


class Guard:
    """Bounds each call, counts how it ended, and keeps calls from a store that fails.

    Two breakers: a store that is down is left alone; one that is only full is still read, and not
    written to. Down is tried again in the background: `renew` connects anew, `trial` must raise
    where the store is of no use. Full is tried again by a write, whose refusal costs no time.
    """

    def __init__(
        self,
        name: str,
        env: Env,
        *,
        timeout: float,
        slots: int,
        renew: Callable[[], Awaitable[None]],
        trial: Callable[[], Awaitable[None]],
        full: Callable[[Exception], bool],
    ) -> None:
        self._name = name
        self._env = env
        self._timeout = timeout
        self._slots = asyncio.Semaphore(slots)
        self._renew = renew
        self._trial = trial
        self._full = full
        self._reach = Breaker()
        self._room = Breaker(failures=1)
        self._trying: asyncio.Task[None] | None = None
        self._closed = False
        self._calls = env.counter(
            "store_calls", "Calls to a store, by how they ended.", ("store", "call", "outcome")
        )
        self._counts: dict[tuple[str, str], Any] = {}

    @property
    def up(self) -> bool:
        """Whether calls pass; they may still fail."""
        return self._reach.state is State.CLOSED

    def count(self, call: str, outcome: str) -> None:
        """Count one call."""
        child = self._counts.get((call, outcome))
        if child is None:
            child = self._calls.labels(self._name, call, outcome)
            self._counts[call, outcome] = child
        child.inc()

    async def call(self, call: str, work: Callable[[], Awaitable[T]], *, write: bool = False) -> T:
        """The value of `work`; the caller counts it. Raises StoreDown within `timeout` seconds.

        Cancelled work must leave nothing behind that a later call could read as its own answer.
        """
        turn = self._reach.turn
        if not self._passes(write):
            self.count(call, "skipped")
            raise StoreDown(f"{self._name} is not asked for now")
        write_turn = self._room.turn
        begun = False
        try:
            async with asyncio.timeout(self._timeout), self._slots:
                # Whoever waited for its slot while the store went down need not pay for it again.
                begun = turn == self._reach.turn
                if not begun:
                    raise StoreDown(f"{self._name} went down")
                value = await work()
        except Exception as error:
            if not begun:
                self.count(call, "skipped")
            elif isinstance(error, TimeoutError):
                self.count(call, "timeout")
                self._failed(turn, f"no answer within {self._timeout:g} s", at_once=True)
            else:
                self.count(call, "error")
                if self._full(error):
                    self._refused(write_turn, error)
                else:
                    self._failed(turn, str(error) or type(error).__name__)
            raise StoreDown(f"{self._name}: {error}") from error
        else:
            self._reach.succeeded(turn, self._env.clock())
            if write and self._room.succeeded(write_turn, self._env.clock()):
                log.warning("store %s: takes writes again", self._name)
            return value
        finally:
            if write:
                self._room.abandoned(write_turn)

    async def close(self) -> None:
        """No call passes any more; a trial under way is ended."""
        self._closed = True
        if self._trying is not None and not self._trying.done():
            self._trying.cancel()
            await asyncio.wait((self._trying,))

    def _passes(self, write: bool) -> bool:
        if self._closed:
            return False
        if self._reach.state is not State.CLOSED:
            if self._reach.due(self._env.clock()):
                self._trying = self._env.spawn(self._try(), f"trial of store {self._name}")
            return False
        if not write or self._room.state is State.CLOSED:
            return True
        return self._room.due(self._env.clock())

    async def _try(self) -> None:
        turn = self._reach.turn
        try:
            async with asyncio.timeout(max(CONNECT, self._timeout)):
                await self._renew()
                await self._trial()
            # Connected now: a store that is too slow for its callers is not back.
            async with asyncio.timeout(self._timeout):
                await self._trial()
        except Exception:
            self._reach.failed(turn, self._env.clock())
        else:
            now = self._env.clock()
            if self._reach.succeeded(turn, now):
                away = now - self._reach.opened_at
                log.warning("store %s: back after %.1f s", self._name, away)
        finally:
            self._reach.abandoned(turn)

    def _failed(self, turn: int, why: str, *, at_once: bool = False) -> None:
        if self._reach.failed(turn, self._env.clock(), at_once):
            log.warning("store %s: down, going on without it: %s", self._name, why)

    def _refused(self, turn: int, error: Exception) -> None:
        if self._room.failed(turn, self._env.clock()):
            log.warning("store %s: refuses writes, only read now: %s", self._name, error)
