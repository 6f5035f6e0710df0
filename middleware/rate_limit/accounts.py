"""Where accounts are: in this worker's memory, or in a store that replicas share."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Sequence

from proxy.chain import Store

from ..core.quota import Quota, Verdict
from ..core.window import State
from .script import SCRIPT


class Memory:
    """At most `max_keys` accounts; whoever asked longest ago is forgotten first.

    clock: seconds, monotonic. Nothing waits, so each call is one step, and no task cleans up: a
    few accounts that are over go with each new one.
    """

    def __init__(self, clock: Callable[[], float], max_keys: int) -> None:
        self._clock = clock
        self._max_keys = max_keys
        self._accounts: OrderedDict[bytes, tuple[int, list[State]]] = OrderedDict()
        self.forgotten = 0
        """Accounts that had something on them still when room was needed."""

    def __len__(self) -> int:
        return len(self._accounts)

    def take(self, account: bytes, quota: Quota, cost: int) -> Verdict:
        now = int(self._clock() * 1000)
        return quota.take(self._states(account, quota, now), cost, now)

    def settle(self, account: bytes, quota: Quota, marks: Sequence[int], delta: int) -> None:
        now = int(self._clock() * 1000)
        quota.settle(self._states(account, quota, now), marks, delta, now)

    def _states(self, account: bytes, quota: Quota, now: int) -> list[State]:
        known = self._accounts.pop(account, None)
        if known is None:
            states = quota.fresh()
            self._make_room(now)
        else:
            states = known[1]
        self._accounts[account] = (now + quota.keep, states)
        return states

    def _make_room(self, now: int) -> None:
        accounts = self._accounts
        for _ in range(2):  # one in, up to two out: what is over does not pile up
            if not accounts or accounts[next(iter(accounts))][0] > now:
                break
            accounts.popitem(last=False)
        if len(accounts) >= self._max_keys:
            accounts.popitem(last=False)
            self.forgotten += 1


class Shared:
    """In a store, by the store's clock; each call is one script, so one step for all replicas."""

    def __init__(self, store: Store) -> None:
        self._store = store

    async def take(self, account: bytes, quota: Quota, cost: int) -> Verdict:
        """Raises StoreDown."""
        told = await self._run(b"take", account, quota, cost, ())
        return Verdict(told[0] == 1, told[1::4], told[2::4], told[3::4], told[4::4])

    async def settle(self, account: bytes, quota: Quota, marks: Sequence[int], delta: int) -> None:
        """Raises StoreDown."""
        await self._run(b"settle", account, quota, delta, marks)

    async def _run(
        self, asked: bytes, account: bytes, quota: Quota, cost: int, marks: Sequence[int]
    ) -> list[int]:
        args: list[bytes | int] = [asked, quota.strategy.encode(), quota.keep, cost]
        for at, window in enumerate(quota.windows):
            args += (window.amount, window.span, marks[at] if marks else 0)
        told: list[int] = await self._store.run(SCRIPT, [b"rate:" + account], args)
        return told
