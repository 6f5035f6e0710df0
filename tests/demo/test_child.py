"""Child processes: they are ready when entered, gone when left, and say why when they fail."""

from __future__ import annotations

import os
import sys
import time

import pytest

from proxy.demo.child import Child, ChildFailed, free_port, settled
from proxy.demo.standin import StandIn

LISTEN = "import socket, time; s = socket.create_server(('127.0.0.1', {port})); time.sleep(600)"
STUBBORN = (
    "import signal, socket, subprocess, sys, time;"
    "[signal.signal(s, signal.SIG_IGN) for s in (signal.SIGTERM, signal.SIGINT)];"
    "c = subprocess.Popen([sys.executable, '-c', 'import time; time.sleep(600)']);"
    "s = socket.create_server(('127.0.0.1', {port}));"
    "print(c.pid, flush=True); time.sleep(600)"
)


def python(code: str, **options: float) -> Child:
    port = free_port()
    return Child("the child", [sys.executable, "-c", code.format(port=port)], port, **options)


def test_one_that_ends_tells_its_last_words() -> None:
    """A child that ends before it is ready raises ChildFailed with its status and its output."""
    child = python("print('no such model'); raise SystemExit(3)")
    with pytest.raises(ChildFailed, match=r"(?s)status 3.*no such model"):
        child.start()


def test_one_that_never_listens_is_given_up() -> None:
    """A child that is not ready in time raises ChildFailed and is not left running."""
    child = python("import os, time; print(os.getpid(), flush=True); time.sleep(600)", within=0.5)
    with pytest.raises(ChildFailed, match=r"not ready in 0\.5 s") as failure:
        child.start()
    gone(int(str(failure.value).split()[-1]))


def test_a_command_that_does_not_exist() -> None:
    """A command that cannot be executed raises ChildFailed, not OSError."""
    with pytest.raises(ChildFailed, match="cannot be started"):
        Child("nothing", ["/no/such/command"], free_port()).start()


async def test_async_and_sync_are_alike() -> None:
    """Both kinds of `with` yield a listening child and end it."""
    with python(LISTEN) as child:
        first = child.pid
    async with python(LISTEN) as child:
        second = child.pid
    gone(first)
    gone(second)


def test_the_whole_group_ends() -> None:
    """A child that ignores SIGTERM is killed with the processes that it started."""
    child = python(STUBBORN, grace=0.1)
    child.start()
    pids = [child.pid, int(child.printed())]
    child.stop()
    for pid in pids:
        gone(pid)


async def test_waiting_for_what_does_not_come() -> None:
    """settled() raises TimeoutError that names the value it saw last."""
    with pytest.raises(TimeoutError, match="still 3, not 0"):
        await settled(lambda: 3, 0, within=0.05)


def test_the_stand_in_says_where_its_port_is_taken() -> None:
    """A port that is taken is a ChildFailed that says so."""
    with StandIn() as first, pytest.raises(ChildFailed, match="address already in use"):
        second = StandIn(port=first.port)
        second.ready = "/no-such-path"
        second.start()


def gone(pid: int) -> None:
    """Fails where `pid` still runs after 20 s; a zombie that nobody reaped counts as ended."""
    deadline = time.monotonic() + 20
    while time.monotonic() < deadline:
        try:
            os.kill(pid, 0)
            with open(f"/proc/{pid}/stat") as stat:
                if stat.read().rpartition(")")[2].split()[0] == "Z":
                    return
        except (ProcessLookupError, FileNotFoundError):
            return
        time.sleep(0.01)
    raise AssertionError(f"process {pid} still runs")
