"""Real servers: redis-server alone, watched by a Sentinel, or three of them as a Cluster."""

from __future__ import annotations

import asyncio
import random
import signal
import socket
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Any, Self

from redis.asyncio import Redis

from tests.stores.binary import binary


def free_port() -> int:
    """Free together with the port of a Cluster's own bus, 10000 above it."""
    while True:
        port = random.randrange(20000, 30000)
        with socket.socket() as plain, socket.socket() as bus:
            try:
                plain.bind(("127.0.0.1", port))
                bus.bind(("127.0.0.1", port + 10000))
            except OSError:
                continue
            return port


class RedisServer:
    """One process. `options` are those of its command line: {"maxmemory": "2mb"}."""

    def __init__(self, folder: Path, **options: str) -> None:
        self.port = free_port()
        self.folder = folder / str(self.port)
        self.folder.mkdir()
        self.options = {"save": "", "appendonly": "no", **options}
        self.log: list[str] = []
        self._process: asyncio.subprocess.Process | None = None
        self._reader: asyncio.Task[None] | None = None
        self._ready = asyncio.Event()

    @property
    def url(self) -> str:
        return f"redis://127.0.0.1:{self.port}/0"

    @property
    def node(self) -> str:
        return f"127.0.0.1:{self.port}"

    def _command(self) -> list[str]:
        command = [binary(), "--port", str(self.port), "--bind", "127.0.0.1"]
        command += ["--dir", str(self.folder), "--unixsocket", str(self.folder / "socket")]
        for name, value in self.options.items():
            command += [f"--{name.replace('_', '-')}", *value.split(" ")]
        return command

    async def start(self) -> None:
        """Done when it takes connections; its data is empty."""
        self._ready.clear()
        self.log.clear()
        self._process = await asyncio.create_subprocess_exec(
            *self._command(), stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.STDOUT
        )
        self._reader = asyncio.create_task(self._read(self._process))
        await asyncio.wait_for(self._ready.wait(), 20)
        assert self._process.returncode is None, "\n".join(self.log)

    async def __aenter__(self) -> Self:
        await self.start()
        return self

    async def __aexit__(self, *error: object) -> None:
        await self.kill()

    async def _read(self, process: asyncio.subprocess.Process) -> None:
        assert process.stdout is not None
        async for line in process.stdout:
            self.log.append(line.decode(errors="replace").rstrip())
            if b"eady to accept connections" in line or b"Sentinel ID" in line:
                self._ready.set()
        await process.wait()
        self._ready.set()

    async def kill(self) -> None:
        """SIGKILL, and wait for its end."""
        if self._process is not None and self._reader is not None:
            if self._process.returncode is None:
                self._process.kill()
            await self._reader
            self._process = None

    @property
    def pid(self) -> int:
        assert self._process is not None
        return self._process.pid

    def pause(self) -> None:
        """SIGSTOP: the kernel still takes connections for it, and nothing answers."""
        assert self._process is not None
        self._process.send_signal(signal.SIGSTOP)

    def resume(self) -> None:
        assert self._process is not None
        self._process.send_signal(signal.SIGCONT)

    async def command(self, *words: Any) -> Any:
        """The answer to one command, over a connection of its own."""
        password = self.options.get("requirepass")
        client = Redis(port=self.port, password=password, protocol=2)
        try:
            return await client.execute_command(*words)
        finally:
            await client.aclose()


class SentinelServer(RedisServer):
    """Watches `master` as the service `mymaster`, alone and impatient."""

    def __init__(self, folder: Path, master: RedisServer) -> None:
        super().__init__(folder)
        self._file = self.folder / "sentinel.conf"
        self._file.write_text(
            f"port {self.port}\nbind 127.0.0.1\ndir {self.folder}\n"
            f"sentinel monitor mymaster 127.0.0.1 {master.port} 1\n"
            "sentinel down-after-milliseconds mymaster 300\n"
            "sentinel failover-timeout mymaster 2000\n"
        )

    def _command(self) -> list[str]:
        return [binary(), str(self._file), "--sentinel"]


Watched = tuple[RedisServer, RedisServer, SentinelServer]


@asynccontextmanager
async def watched(folder: Path) -> AsyncIterator[Watched]:
    """A master, its replica in step with it, and a Sentinel that knows both."""
    async with AsyncExitStack() as running:
        master = RedisServer(folder, repl_diskless_sync_delay="0")
        await running.enter_async_context(master)
        replica = RedisServer(folder, replicaof=f"127.0.0.1 {master.port}")
        await running.enter_async_context(replica)

        async def in_step() -> bool:
            told = await replica.command("INFO", "replication")
            return bool(told["master_link_status"] == "up")

        await eventually(in_step)
        sentinel = SentinelServer(folder, master)
        await running.enter_async_context(sentinel)

        async def known() -> bool:
            return bool(await sentinel.command("SENTINEL", "REPLICAS", "mymaster"))

        await eventually(known)
        yield master, replica, sentinel


@asynccontextmanager
async def cluster(folder: Path) -> AsyncIterator[list[RedisServer]]:
    """Three masters that hold a third of the slots each, and agree on it."""
    async with AsyncExitStack() as running:
        nodes = [RedisServer(folder, cluster_enabled="yes") for _ in range(3)]
        for index, node in enumerate(nodes):
            await running.enter_async_context(node)
            slots = range(index * 16384 // 3, (index + 1) * 16384 // 3)
            await node.command("CLUSTER", "ADDSLOTS", *slots)
            await node.command("CLUSTER", "SET-CONFIG-EPOCH", index + 1)
        for node in nodes[1:]:
            await nodes[0].command("CLUSTER", "MEET", "127.0.0.1", node.port)

        async def agreed() -> bool:
            told = [await node.command("CLUSTER", "INFO") for node in nodes]
            return all(b"state:ok" in one and b"known_nodes:3" in one for one in told)

        await eventually(agreed)
        yield nodes


async def connections(server: RedisServer) -> int:
    """Of others than whoever asks for the number."""
    return int((await server.command("INFO", "clients"))["connected_clients"]) - 1


async def eventually(condition: Any, within: float = 20.0) -> None:
    """Asks again until an async condition holds: these servers tell of no change themselves."""
    async with asyncio.timeout(within):
        while not await condition():
            await asyncio.sleep(0.02)
