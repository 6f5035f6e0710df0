"""Which endpoint of several gets a request."""

from __future__ import annotations

import asyncio

from tests.conftest import Serve, UpstreamMaker
from tests.road.gate import Gate, ask
from tests.road.wire import soon, until


async def test_least_outstanding(serve: Serve, upstream: UpstreamMaker) -> None:
    """Of two endpoints the one with fewer requests under way gets the next; equals take turns."""
    first, second = Gate(), Gate()
    one, two = await upstream(first.script), await upstream(second.script)
    running = await serve(one, upstreams={"default": {"endpoints": [one.url, two.url]}})
    tasks = []
    for number in range(6):
        tasks.append((await ask(running, f"/{number}"))[1])
        await until(lambda n=number: len(first.targets) + len(second.targets) == n + 1)
    assert len(first.targets) == len(second.targets) == 3
    for target in list(first.targets):
        first.answer(target)
    await until(lambda: sum(task.done() for task in tasks) == 3)
    tasks += [(await ask(running, f"/more{number}"))[1] for number in range(3)]
    await until(lambda: len(first.targets) == 6)
    assert len(second.targets) == 3
    for gate in (first, second):
        for target in list(gate.targets):
            gate.answer(target)
    await soon(asyncio.gather(*tasks))
