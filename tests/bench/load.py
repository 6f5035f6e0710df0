"""The load of the bench, closed loop, raw bytes on uvloop: one round over all its proxies.

`python -m tests.bench.load KIND PORT:PID:REQUEST:HELPER ...` prints a JSON list, an object for each
proxy. REQUEST is a name of wire.REQUESTS, HELPER the process of a server that works for the proxy.
Every answer's status and length are verified; a wrong one makes that proxy's result an error. The
proxy's CPU time is read at both ends of each measured window, by this process.
"""

from __future__ import annotations

import argparse
import asyncio
import functools
import itertools
import json
import time
from array import array
from collections.abc import Callable, Coroutine
from typing import Any, NamedTuple

import uvloop

from . import cpu, wire
from .connections import Calls, Connection, Stream, WrongAnswerError

Result = dict[str, Any]
Results = list[Result]
SLICE = 0.2
"""Seconds that one proxy has before the next: shorter than what a busy machine drifts in."""


class Target(NamedTuple):
    """One proxy. pid, helper: 0 for none."""

    port: int
    pid: int = 0
    request: str = "chat"
    helper: int = 0


class Tally:
    """One proxy's sums over the windows of a round: from `open` to `close`."""

    def __init__(self, target: Target, backend: int) -> None:
        self.port = target.port
        self.request = wire.REQUESTS[target.request]
        self.pids = (target.pid, target.helper, backend)
        self.failed: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self.latencies: array[float] = array("d")
        self.spent = self.helped = self.others = self.wall = 0.0
        self.done = self.reads = 0

    def _now(self) -> tuple[float, float, float, float]:
        proxy, helper, backend = (cpu.used(pid) if pid else 0.0 for pid in self.pids)
        others = cpu.machine() - proxy - helper - backend - time.process_time() * 1e6
        return proxy, helper, others, time.perf_counter()

    def open(self) -> None:
        del self.latencies[self.reads :]  # those of a warm-up
        self.began = self._now()

    def close(self, done: int | None = None) -> None:
        """done: requests or events of this window; one for each latency where not given."""
        spent, helped, others, wall = (
            now - then for now, then in zip(self._now(), self.began, strict=True)
        )
        self.spent += spent
        self.helped += helped
        self.others += others
        self.wall += wall
        reads = len(self.latencies)
        self.done += reads - self.reads if done is None else done
        self.reads = reads

    def figures(self) -> dict[str, float]:
        """cpu, helper, p50, p99: microseconds. rate: a second. busy, others: % of a core. rss: MiB.

        helper: only of a proxy that has one.
        """
        ordered = sorted(self.latencies)
        if not ordered or not self.done:
            raise WrongAnswerError("nothing was answered in the measured time")
        helped = {"helper": self.helped / self.done} if self.pids[1] else {}
        return {
            "cpu": self.spent / self.done,
            **helped,
            "p50": ordered[len(ordered) // 2],
            "p99": ordered[len(ordered) * 99 // 100],
            "rate": self.done / self.wall,
            "busy": self.spent / self.wall / 10_000,
            "others": max(0.0, self.others / self.wall / 10_000),
            "rss": cpu.rss(self.pids[0]) if self.pids[0] else 0.0,
            "merged": self.done / self.reads,
        }


async def connect(port: int, number: int, make: Callable[[], Connection]) -> list[Any]:
    loop = asyncio.get_running_loop()
    made: list[Any] = []
    while len(made) < number:  # within the accept queue that every server has
        some = min(64, number - len(made))
        pairs = (loop.create_connection(make, "127.0.0.1", port) for _ in range(some))
        made += [protocol for _, protocol in await asyncio.gather(*pairs)]
    return made


class Worker:
    """The closed loop over one proxy's connections, run in slices."""

    def __init__(self, tally: Tally) -> None:
        self.tally = tally
        self.stopping = False
        self.busy = 0
        self.idle = asyncio.Event()
        self.calls: list[Calls] = []

    def answered(self, call: Calls) -> None:
        self.tally.latencies.append((time.perf_counter() - call.sent_at) * 1e6)
        if not self.stopping:
            call.send()
            return
        self.busy -= 1
        if not self.busy:
            self.idle.set()

    def close(self) -> None:
        self.stopping = True
        for call in self.calls:
            call.close()

    async def slice(self, seconds: float) -> None:
        self.stopping = False
        self.busy = len(self.calls)
        self.idle.clear()
        for call in self.calls:
            call.send()
        await asyncio.sleep(seconds)
        self.stopping = True
        await self.idle.wait()


async def pass_through(args: argparse.Namespace, tallies: list[Tally]) -> Results:
    """Slice by slice, each proxy in turn: what the machine does for a second meets them all."""
    workers = [Worker(tally) for tally in tallies]
    results: Results = [{} for _ in tallies]

    async def prepare(worker: Worker) -> None:
        port, failed = worker.tally.port, worker.tally.failed
        numbers = itertools.count()

        def make() -> Calls:
            return Calls(failed, worker.answered, worker.tally.request(next(numbers)))

        worker.calls = await connect(port, args.connections, make)
        await worker.slice(args.warmup)

    async def measure(worker: Worker) -> None:
        before = await asked(args.counter) if args.kind == "hits" else 0
        worker.tally.open()
        await worker.slice(SLICE)
        worker.tally.close()
        if args.kind == "hits" and (misses := await asked(args.counter) - before):
            raise WrongAnswerError(f"the backend got {misses} requests: these were no hits")

    for turn in range(1 + max(1, round(args.seconds / SLICE))):
        for index, worker in enumerate(workers):
            if not results[index]:
                step = measure(worker) if turn else prepare(worker)
                results[index] = await guarded(worker.tally, step, 10)
                if results[index]:
                    worker.close()
    for worker in workers:
        worker.close()
    return [
        result or worker.tally.figures() for result, worker in zip(results, workers, strict=True)
    ]


async def asked(port: int) -> int:
    """How many requests the backend has got."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(wire.COUNT)
    head = await reader.readuntil(b"\r\n\r\n")
    body = await reader.readexactly(int(head.rpartition(b": ")[2]))
    writer.close()
    return int(body)


async def sse(args: argparse.Namespace, tallies: list[Tally]) -> Results:
    events = int(wire.EVENTS_PER_SECOND * (args.warmup + args.seconds + 0.1))

    async def measure(tally: Tally) -> None:
        make = functools.partial(Stream, tally.failed, tally.latencies)
        streams = await connect(tally.port, args.connections, make)
        for stream in streams:
            stream.send(events)
        await asyncio.gather(*(stream.started for stream in streams))
        await asyncio.sleep(args.warmup)
        before = sum(stream.events for stream in streams)
        tally.open()
        await asyncio.sleep(args.seconds)
        tally.close(sum(stream.events for stream in streams) - before)
        await asyncio.gather(*(stream.ended for stream in streams))
        del tally.latencies[tally.reads :]
        for stream in streams:
            stream.close()

    return [
        await guarded(tally, measure(tally), args.seconds + 15) or tally.figures()
        for tally in tallies
    ]


async def idle(args: argparse.Namespace, tallies: list[Tally]) -> Results:
    async def measure(tally: Tally) -> Result:
        free: asyncio.Queue[None] = asyncio.Queue()
        make = functools.partial(Calls, tally.failed, lambda _: free.put_nowait(None))
        # What the first requests load (code, buffers, the upstream's pool) is no connection's own.
        (first,) = await connect(tally.port, 1, make)
        for _ in range(200):
            first.send()
            await free.get()
        first.close()
        before = cpu.rss(tally.pids[0])
        calls = await connect(tally.port, args.connections, make)
        for call in calls[:32]:
            call.send()
        for call in calls[32:]:
            await free.get()
            call.send()
        for _ in calls[:32]:
            await free.get()
        after = cpu.rss(tally.pids[0])
        for call in calls:
            call.close()
        kept = (after - before) * 1024 / args.connections
        return {"kept": kept, "before": before, "after": after}

    return [await guarded(tally, measure(tally), 30) or {} for tally in tallies]


async def guarded(tally: Tally, step: Coroutine[Any, Any, Result | None], limit: float) -> Result:
    """What `step` gives, or {"error": why}: one proxy that fails does not end the others' run."""
    work = asyncio.ensure_future(step)
    both: list[asyncio.Future[Any]] = [work, tally.failed]
    await asyncio.wait(both, timeout=limit, return_when=asyncio.FIRST_COMPLETED)
    try:
        if tally.failed.done():
            tally.failed.result()
        if not work.done():
            raise WrongAnswerError(f"no end within {limit:.0f} s")
        return work.result() or {}
    except (WrongAnswerError, OSError) as error:
        work.cancel()
        return {"error": f"{type(error).__name__}: {error}"}


async def main(args: argparse.Namespace) -> Results:
    tallies = [Tally(target, args.backend) for target in args.target]
    kinds = {"pass": pass_through, "hits": pass_through, "sse": sse, "idle": idle}
    return await kinds[args.kind](args, tallies)


def _target(text: str) -> Target:
    port, pid, request, helper, *_ = [*text.split(":"), "", "", ""]
    return Target(int(port), int(pid or 0), request or "chat", int(helper or 0))


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("kind", choices=["pass", "hits", "sse", "idle"])
    parser.add_argument("target", type=_target, nargs="+", help="PORT[:PID[:REQUEST[:HELPER]]]")
    parser.add_argument("--backend", type=int, default=0, help="the backend's process")
    parser.add_argument("--counter", type=int, help="the backend's port: for `hits`, to count")
    parser.add_argument("--connections", type=int, required=True)
    parser.add_argument("--seconds", type=float, default=0.0, help="measured, for each proxy")
    parser.add_argument("--warmup", type=float, default=0.0)
    print(json.dumps(uvloop.run(main(parser.parse_args()))))
