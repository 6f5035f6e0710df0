"""The proxies that are compared: how each is configured, started, stopped and installed."""

from __future__ import annotations

import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import time
import tomllib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path

ROOT = Path(__file__).parents[2]
START_LIMIT = 15.0
"""Seconds a proxy has to accept its first connection."""


class CannotStartError(Exception):
    """The proxy is not installed, ended at once, or never listened; says why."""


@dataclass(frozen=True)
class Spot:
    """Where a proxy is to stand. streaming: the run is of SSE streams. caching: of stored answers.
    layers: remora's chain. redis: the port of its store. request: what it is asked, a name of
    wire.REQUESTS. helper: the process of a server that works for it.
    """

    port: int
    upstream: int
    folder: Path
    streaming: bool = False
    caching: bool = False
    layers: tuple[str, ...] = ()
    redis: int = 0
    request: str = "chat"
    helper: int = 0

    def file(self, name: str, text: str) -> str:
        path = self.folder / f"{self.port}-{name}"
        path.write_text(text)
        return str(path)


def nginx(spot: Spot) -> list[str]:
    temp = "".join(
        f"{kind}_temp_path {spot.folder}/{kind};\n  "
        for kind in ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")
    )
    user = "user root;" if os.geteuid() == 0 else ""
    store = f"proxy_cache_path {spot.folder}/{spot.port} keys_zone=hits:1m max_size=64m;"
    text = f"""{user}
daemon off;
worker_processes 1;
pid {spot.folder}/{spot.port}.pid;
error_log stderr;
events {{ worker_connections 8192; }}
http {{
  {temp}access_log off;
  {f"{store} open_file_cache max=100;" if spot.caching else ""}
  keepalive_requests 1000000000;
  upstream backend {{
    server 127.0.0.1:{spot.upstream};
    keepalive 64;
    keepalive_requests 1000000000;
  }}
  server {{
    listen 127.0.0.1:{spot.port} backlog=1024;
    location / {{
      proxy_pass http://backend;
      proxy_http_version 1.1;
      proxy_set_header Connection "";
      {"proxy_buffering off;" if spot.streaming else ""}
      {"proxy_cache hits;" if spot.caching else ""}
    }}
  }}
}}
"""
    return ["nginx", "-e", "stderr", "-p", str(spot.folder), "-c", spot.file("nginx.conf", text)]


def haproxy(spot: Spot) -> list[str]:
    text = f"""global
  nbthread 1
  maxconn 8192
defaults
  mode http
  timeout connect 2s
  timeout client 1m
  timeout server 1m
  http-reuse always
  {"option http-no-delay" if spot.streaming else ""}
frontend client
  bind 127.0.0.1:{spot.port} backlog 1024
  default_backend model
backend model
  server model 127.0.0.1:{spot.upstream}
"""
    return ["haproxy", "-db", "-f", spot.file("haproxy.cfg", text)]


def varnish(spot: Spot) -> list[str]:
    text = f"""vcl 4.1;
backend default {{ .host = "127.0.0.1"; .port = "{spot.upstream}"; }}
"""
    # -j none: its other user could not read the bench's folder. -T none: nobody is to control it.
    words = (
        f"-j none -F -T none -a 127.0.0.1:{spot.port} -s malloc,64m -n {spot.folder}/{spot.port}"
    )
    return ["varnishd", *words.split(), "-f", spot.file("varnish.vcl", text)]


def naive(spot: Spot) -> list[str]:
    return [sys.executable, "-m", "tests.bench.naive", str(spot.port), str(spot.upstream)]


def remora(spot: Spot) -> list[str]:
    chain = "".join(f"\n  - {layer}" for layer in spot.layers) or " []"
    # Longer than on a busy machine any call takes: a miss would not be what is measured.
    url = f"{{url: redis://127.0.0.1:{spot.redis}/0, timeout: 1s}}"
    stores = f"stores:\n  redis: {url}\n" if spot.redis else ""
    text = f"""listen: 127.0.0.1:{spot.port}
admin: off
upstreams:
  default:
    endpoints: [http://127.0.0.1:{spot.upstream}]
{stores}chain:{chain}
"""
    return [sys.executable, "-m", "proxy", "serve", "-c", spot.file("remora.yaml", text)]


@dataclass(frozen=True)
class Peer:
    """A proxy by name. package: Debian's, where it is not Python's, and program: what it brings.
    services: what Debian would start with it. required: cannot be absent.
    """

    name: str
    command: Callable[[Spot], list[str]]
    package: str | None = None
    program: str = ""
    services: tuple[str, ...] = ()
    required: bool = False

    @property
    def installed(self) -> bool:
        return self.package is None or shutil.which(self.program) is not None

    def version(self) -> str:
        if self.package is None:
            if not self.required:
                return version("aiohttp")
            # What is measured is this tree, whatever is installed.
            project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
            return str(project["version"])
        flag = {"varnishd": "-V"}.get(self.program, "-v")
        told = subprocess.run([self.program, flag], capture_output=True, text=True, check=False)
        found = re.search(r"\d+\.\d+\.\d+\S*", told.stderr + told.stdout)
        return found[0] if found else "unknown"


PEERS = {
    peer.name: peer
    for peer in (
        Peer("nginx", nginx, "nginx-light", "nginx", ("nginx",)),
        Peer("haproxy", haproxy, "haproxy", "haproxy", ("haproxy",)),
        Peer("varnish", varnish, "varnish", "varnishd", ("varnish", "varnishncsa")),
        Peer("naive", naive),
        Peer("remora", remora, required=True),
    )
}


def install(names: list[str], say: Callable[[str], None]) -> None:
    """Installs what is absent where that can be done; its service is never left running."""
    absent = [PEERS[name].package or "" for name in names if not PEERS[name].installed]
    if not absent:
        return
    if os.geteuid() != 0 or shutil.which("apt-get") is None:
        say(f"not installed, and left out: as root, apt-get install {' '.join(absent)}")
        return
    say(f"installing {' '.join(absent)}")
    environment = os.environ | {"DEBIAN_FRONTEND": "noninteractive"}
    with _no_services():
        for command in (["update"], ["install", "-y", "--no-install-recommends", *absent]):
            done = subprocess.run(
                ["apt-get", "-qq", *command], env=environment, capture_output=True, text=True
            )
            if done.returncode:
                say(f"apt-get {command[0]} failed: {done.stderr.strip()[-500:]}")
    if shutil.which("systemctl"):
        services = [service for peer in PEERS.values() for service in peer.services]
        subprocess.run(["systemctl", "disable", *services], capture_output=True, check=False)


@contextmanager
def _no_services() -> Iterator[None]:
    """Debian's own switch (invoke-rc.d): a package that is set up meanwhile starts no service."""
    switch = Path("/usr/sbin/policy-rc.d")
    if switch.exists():
        yield
        return
    switch.write_text("#!/bin/sh\nexit 101\n")
    switch.chmod(0o755)
    try:
        yield
    finally:
        switch.unlink()


def free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return int(listener.getsockname()[1])


def accepts(port: int) -> bool:
    try:
        socket.create_connection(("127.0.0.1", port), timeout=1).close()
    except OSError:
        return False
    return True


class Running:
    """A started program on one core; `stop` ends it and all that it started."""

    def __init__(
        self, command: list[str], port: int, core: int, log: Path, target: str = "chat:0"
    ) -> None:
        self.port = port
        everywhere = os.sched_getaffinity(0)
        with log.open("wb") as output:
            os.sched_setaffinity(0, {core})  # inherited from the first instruction on
            try:
                self.process = subprocess.Popen(
                    command, cwd=ROOT, stdin=subprocess.DEVNULL, stdout=output, stderr=output,
                    start_new_session=True,
                )  # fmt: skip
            except OSError as error:
                raise CannotStartError(str(error)) from error
            finally:
                os.sched_setaffinity(0, everywhere)
        self.pid = self.process.pid
        self.target = f"{port}:{self.pid}:{target}"
        """As the load's command line names it."""
        try:
            self._wait(log)
        except BaseException:  # whoever tells us to end also tells it
            self.stop()
            raise

    def _wait(self, log: Path) -> None:
        """Until it listens. Raises CannotStartError."""
        limit = time.monotonic() + START_LIMIT
        while not accepts(self.port):
            ended = self.process.poll()
            if ended is not None or time.monotonic() > limit:
                what = "does not listen" if ended is None else f"exit status {ended}"
                told = log.read_text(errors="replace").strip()[-1500:]
                raise CannotStartError(f"{what}: {told}" if told else what)
            time.sleep(0.02)

    def stop(self) -> None:
        # First the polite way, so that a parent can reap its workers; nothing waits for a drain.
        for signal_, patience in ((signal.SIGTERM, 0.2), (signal.SIGKILL, None)):
            try:
                os.killpg(self.pid, signal_)
                self.process.wait(patience)
            except (ProcessLookupError, subprocess.TimeoutExpired):
                continue


def start(peer: Peer, spot: Spot, core: int) -> Running:
    """Raises CannotStartError."""
    if not peer.installed:
        raise CannotStartError(f"not installed: apt-get install {peer.package}")
    log = spot.folder / f"{spot.port}.log"
    return Running(peer.command(spot), spot.port, core, log, f"{spot.request}:{spot.helper}")


NOOP = "tests.bench.layers:Noop"
NOOP_OFF = f'{NOOP}: {{"on": false}}'  # quoted: a bare `on` is a boolean in YAML 1.1
