"""A call and its hedge: whoever is good first wins, and the other one is let go.

The technique is that of Dean and Barroso, The Tail at Scale (2013), hedged requests.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any

from proxy.chain import Env

from .attempt import Attempt

Making = Coroutine[Any, Any, Attempt]


class Race:
    """Runs a first try in its caller's task, and a second one in a task of its own.

    second: makes it, when the first has taken too long; None: there may be none. Whichever way
    `run` is left, by a winner, a failure or its caller being cancelled, the other try is
    cancelled, or given up where its answer has come already.
    """

    __slots__ = ("_env", "_left", "_scope", "_second", "_task", "_waiter", "_won")

    def __init__(self, env: Env, second: Callable[[], Making | None]) -> None:
        self._env = env
        self._second = second
        self._scope: asyncio.Timeout | None = None
        self._task: asyncio.Task[Attempt] | None = None
        self._waiter: asyncio.Future[None] | None = None
        self._won: Attempt | None = None
        self._left = False

    async def run(self, first: Making, after: float) -> Attempt:
        """What is to go on. `after`: seconds until the second try is made."""
        timer = asyncio.get_running_loop().call_later(after, self._send)
        try:
            attempt = await self._until_won(first)
            if attempt is None or not attempt.good:
                won = await self._other(attempt)
                if won is not None:
                    return won
            assert attempt is not None
            return attempt
        finally:
            timer.cancel()
            self._leave()

    async def _until_won(self, first: Making) -> Attempt | None:
        """The first try's end, or None where the second one has won before."""
        try:
            async with asyncio.timeout(None) as scope:
                self._scope = scope
                return await first
        except TimeoutError:
            if not scope.expired():
                raise
            return None
        finally:
            self._scope = None

    async def _other(self, attempt: Attempt | None) -> Attempt | None:
        """The second try's end, where one was made and it is good; `attempt` is then let go."""
        try:
            if self._task is not None and not self._task.done():
                self._waiter = asyncio.get_running_loop().create_future()
                await self._waiter
        except asyncio.CancelledError:
            if attempt is not None:
                attempt.give_up(cancelled=True)
            raise
        won, self._won = self._won, None
        if won is not None and attempt is not None:
            attempt.give_up()
        return won

    def _send(self) -> None:
        making = self._second()
        if making is not None:
            self._task = self._env.spawn(making, "retry hedge")
            self._task.add_done_callback(self._ended)

    def _ended(self, task: asyncio.Task[Attempt]) -> None:
        """The second try has ended: well, badly, or because it was cancelled."""
        if not task.cancelled() and task.exception() is None:
            attempt = task.result()
            if self._left or not attempt.good:
                attempt.give_up()
            else:
                self._won = attempt
                if self._scope is not None:
                    self._scope.reschedule(0)  # cancels the first try, and only that
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)

    def _leave(self) -> None:
        self._left = True
        if self._task is not None:
            self._task.cancel()
        if self._won is not None:
            self._won.give_up()
            self._won = None
