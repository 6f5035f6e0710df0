"""The main job on this machine, as `remora demo`: a model server, remora before it, a client."""

from __future__ import annotations

import asyncio
import http.client
import importlib.util
import signal
import statistics
import sys
import tempfile
import time
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

from . import llama, repeats, together
from .child import Child, ChildFailed, ModelServer, free_port, get
from .gguf import write_model
from .llama import LlamaServer
from .printer import DemoFailed, Printer
from .standin import StandIn

STEPS = 9
PAIRS = 50
SIGNALS = (signal.SIGINT, signal.SIGTERM)
PROMPT = "What does a remora do?"
# More than any step waits for: only a client that leaves ends it.
ENDLESS = 1_000_000


async def show() -> int:
    """Run the demo. Returns the exit status: 0, 1 where a step failed, 128 + n after signal n.

    Whatever it started is ended when it returns, on Ctrl-C and SIGTERM too.
    """
    loop, task = asyncio.get_running_loop(), asyncio.current_task()
    came: list[int] = []

    def stop(number: int) -> None:
        came.append(number)
        if task is not None:
            task.cancel()

    for number in SIGNALS:
        loop.add_signal_handler(number, stop, number)
    try:
        await _steps(Printer(STEPS))
    except (DemoFailed, ChildFailed) as problem:
        print(f"\nthe demo failed: {problem}", file=sys.stderr, flush=True)
        return 1
    except asyncio.CancelledError:
        if not came:
            raise
        name = signal.Signals(came[0]).name
        print(f"\n{name}: everything it started is stopped", file=sys.stderr, flush=True)
        return 128 + came[0]
    finally:
        for number in SIGNALS:
            loop.remove_signal_handler(number)
    return 0


def main() -> int:
    """The demo as a command. Returns the exit status."""
    return asyncio.run(show())


async def _steps(out: Printer) -> None:
    if importlib.util.find_spec("openai") is None:
        raise DemoFailed("the openai client is not installed: `make demo` installs it")
    import openai

    async with AsyncExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="remora-demo-")))
        server = await stack.enter_async_context(await _model_server(out, folder))
        out.line(f"{server.name}: {server.url}, pid {server.pid}, "
                 f"ready in {server.ready_after:.2f} s")  # fmt: skip
        out.step("remora in front of it, with this file:")
        remora, admin = _remora(out, folder, server)
        await stack.enter_async_context(remora)
        out.line(f"remora: {remora.url}, pid {remora.pid}, ready in {remora.ready_after:.2f} s")

        direct, through = [await _client(stack, url) for url in (server.url, remora.url)]
        try:
            await _warm(through)
            await _complete(out, through)
            await _chat(out, through)
            await _leave(out, through, server)
            await _compare(out, direct, through)
            await _cache(out, stack, folder, server)
            await _merge(out, stack, folder)
        except (openai.OpenAIError, TimeoutError, OSError) as problem:
            raise DemoFailed(
                f"{type(problem).__name__}: {problem}\n{remora.printed()}".strip()
            ) from problem
        await _counters(out, admin)
        out.line("done, stopping all")


async def _model_server(out: Printer, folder: Path) -> ModelServer:
    """Step 1: the server to start."""
    out.step("a model server")
    reason = await asyncio.to_thread(llama.why_not)
    if reason is not None:
        out.line(f"llama.cpp cannot run here: {reason}")
        out.line("a stand-in answers in its place: the same routes, words without a model")
        return StandIn(delay=0.002)
    path = folder / "demo.gguf"
    await asyncio.to_thread(write_model, path)
    out.line(f"wrote a llama model with random weights: {path.stat().st_size / 1e6:.2f} MB")
    return LlamaServer(path)


async def _client(stack: AsyncExitStack, url: str) -> Any:
    import openai

    return await stack.enter_async_context(
        openai.AsyncOpenAI(base_url=f"{url}/v1", api_key="none", max_retries=0, timeout=30.0)
    )


def _remora(out: Printer, folder: Path, server: Child, chain: str = "[]") -> tuple[Child, int]:
    """remora before the server, and its admin port."""
    port, admin = free_port(), free_port()
    text = (
        f"listen: 127.0.0.1:{port}\n"
        f"admin: 127.0.0.1:{admin}\n"
        "upstreams:\n"
        "  default:\n"
        f"    endpoints: [{server.url}]\n"
        f"chain: {chain}\n"
    )
    for line in text.splitlines():
        out.line(f"| {line}")
    path = folder / f"{port}.yaml"
    path.write_text(text)
    argv = [sys.executable, "-m", "proxy", "serve", "-c", str(path)]
    # Nothing is in flight when it is told to stop: the second SIGTERM cuts its drain short.
    return Child("remora", argv, port, ready="/readyz", ready_port=admin, grace=0.2), admin


async def _warm(client: Any) -> None:
    """One unreported call of each kind: the client's first loads code and opens connections."""
    await client.completions.create(model="demo", prompt="a", max_tokens=1)
    stream = await client.chat.completions.create(
        model="demo", messages=[{"role": "user", "content": "a"}], max_tokens=1, stream=True
    )
    async with stream:
        async for _ in stream:
            pass


async def _complete(out: Printer, client: Any) -> None:
    out.step("a completion, by the openai client through remora")
    began = time.monotonic()
    answer = await client.completions.create(
        model="demo", prompt=PROMPT, max_tokens=24, temperature=0
    )
    took = time.monotonic() - began
    text = answer.choices[0].text
    if not text.strip():
        raise DemoFailed("the completion came back without text")
    out.line(f"asked:    {PROMPT}")
    out.line(f"answered: {text.strip()}")
    out.line(f"{answer.usage.completion_tokens} tokens in {took * 1000:.1f} ms; the words mean "
             "nothing, no model was trained")  # fmt: skip


async def _chat(out: Printer, client: Any) -> None:
    out.step("a chat, streamed: each word is printed when it comes")
    out.piece("      ")
    began = time.monotonic()
    first, pieces = 0.0, 0
    stream = await client.chat.completions.create(
        model="demo",
        messages=[{"role": "user", "content": PROMPT}],
        max_tokens=40,
        temperature=0,
        stream=True,
    )
    async with stream:
        async for chunk in stream:
            text = chunk.choices[0].delta.content if chunk.choices else None
            if not text:
                continue
            first = first or time.monotonic() - began
            pieces += 1
            out.piece(text if pieces % 14 else f"{text}\n      ")
    out.piece("\n")
    if not pieces:
        raise DemoFailed("the stream came back without text")
    took = time.monotonic() - began
    out.line(f"{pieces} pieces, the first after {first * 1000:.1f} ms, the last after "
             f"{took * 1000:.1f} ms")  # fmt: skip


async def _leave(out: Printer, client: Any, server: ModelServer) -> None:
    out.step("a client that leaves in mid-stream")
    stream = await client.completions.create(
        model="demo", prompt=PROMPT, max_tokens=ENDLESS, temperature=0, stream=True
    )
    pieces = 0
    async with stream:
        async for _ in stream:
            pieces += 1
            if pieces == 30:
                break
        busy = await asyncio.to_thread(server.busy)
        out.line(f"asked for {ENDLESS:,} tokens, read {pieces}; the server is at {busy} generation")
        if busy != 1:
            raise DemoFailed(f"the server should be at 1 generation, and is at {busy}")
    took = await server.settled(0, within=5.0)
    out.line(f"closed the connection: the server stopped generating {took * 1000:.1f} ms later")


async def _compare(out: Printer, direct: Any, through: Any) -> None:
    out.step(f"what remora adds: {PAIRS} pairs of one-token requests, direct and through it")

    async def once(client: Any) -> float:
        began = time.perf_counter()
        await client.completions.create(model="demo", prompt="a", max_tokens=1, temperature=0)
        return (time.perf_counter() - began) * 1000

    for client in (direct, through) * 3:
        await once(client)
    straight, by_way = [], []
    for pair in range(PAIRS):
        # Each goes first in every second pair: neither has the warmer caches.
        if pair % 2:
            by_way.append(await once(through))
            straight.append(await once(direct))
        else:
            straight.append(await once(direct))
            by_way.append(await once(through))
    low, middle, high = statistics.quantiles(
        (slow - quick for slow, quick in zip(by_way, straight, strict=True)), n=4
    )
    out.line(
        f"median direct {statistics.median(straight):.2f} ms, "
        f"through remora {statistics.median(by_way):.2f} ms"
    )
    out.line(f"remora added {middle:.2f} ms (half of the pairs: {low:.2f} to {high:.2f} ms)")
    out.line("a latency on this machine, one request at a time, client included")


async def _cache(out: Printer, stack: AsyncExitStack, folder: Path, server: ModelServer) -> None:
    out.step("questions that come again: a second remora, with the cache")
    remora, _ = _remora(out, folder, server, "[cache]")
    await stack.enter_async_context(remora)
    cached = await _client(stack, remora.url)
    await _warm(cached)
    await repeats.compare(out, cached)


async def _merge(out: Printer, stack: AsyncExitStack, folder: Path) -> None:
    out.step("clients that ask for one text each: an encoder, and a third remora, with aggregate")
    await together.compare(out, stack, lambda one: _remora(out, folder, one, "[aggregate]")[0])


async def _counters(out: Printer, admin: int) -> None:
    out.step(f"what remora counted, from http://127.0.0.1:{admin}/metrics")
    try:
        status, body = await asyncio.to_thread(get, admin, "/metrics")
    except (OSError, http.client.HTTPException) as problem:
        raise DemoFailed(f"/metrics did not answer: {problem}") from problem
    if status != 200:
        raise DemoFailed(f"/metrics answered {status}")
    shown = [line for line in body.decode().splitlines() if _worth_showing(line)]
    if not shown:
        raise DemoFailed("/metrics holds no counter of remora")
    for line in shown[:8]:
        out.line(line)


def _worth_showing(line: str) -> bool:
    """A counter of remora's that has counted something."""
    name, _, value = line.rpartition(" ")
    name = name.partition("{")[0]
    return name.startswith("remora_") and name.endswith("_total") and value not in ("0", "0.0")


if __name__ == "__main__":
    sys.exit(main())
