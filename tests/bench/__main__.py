"""`python -m tests.bench`: remora side by side with nginx, haproxy and a naive aiohttp proxy."""

from __future__ import annotations

import argparse
import json
import os
import platform
import resource
import shlex
import sys
import tempfile
import time
from contextlib import ExitStack
from importlib.metadata import version
from pathlib import Path
from typing import Any

from . import report
from .ending import ends_on_sigterm
from .peers import PEERS, ROOT, CannotStartError, install
from .scenarios import Bench
from .suite import SCENARIOS

FILES = 8192
"""Open files that one process of the bench needs: two for each idle connection, and room."""


def say(line: str) -> None:
    print(line, file=sys.stderr, flush=True)


def _names(known: list[str]) -> Any:
    def parse(text: str) -> tuple[str, ...]:
        names = tuple(name.strip() for name in text.split(","))
        if unknown := [name for name in names if name not in known]:
            raise argparse.ArgumentTypeError(f"{unknown[0]!r} is none of {', '.join(known)}")
        return names

    return parse


def arguments(words: list[str] | None = None) -> argparse.Namespace:
    scenarios = [scenario.name for scenario in SCENARIOS]
    parser = argparse.ArgumentParser(
        prog="python -m tests.bench",
        description="CPU, latency and memory of proxies, side by side in one run (Linux).",
        epilog="example: python -m tests.bench --only remora,nginx --scenario pass,sse",
    )
    parser.add_argument("--quick", action="store_true", help="one short round: does it work at all")
    parser.add_argument(
        "--only", type=_names(list(PEERS)), default=tuple(PEERS), metavar="A,B",
        help=f"of {', '.join(PEERS)}",
    )  # fmt: skip
    parser.add_argument(
        "--scenario", type=_names(scenarios), default=tuple(scenarios), metavar="A,B",
        help=f"of {', '.join(scenarios)}",
    )  # fmt: skip
    parser.add_argument(
        "--out", type=Path, metavar="DIR",
        help="where bench.md and bench.svg go; docs/ for a whole run, nowhere for a part of one",
    )  # fmt: skip
    parser.add_argument("--no-write", action="store_true", help="print the tables, write nothing")
    parser.add_argument("--json", type=Path, metavar="FILE", help="every round's figures")
    return parser.parse_args(words)


def facts(args: argparse.Namespace, bench: Bench) -> dict[str, str]:
    """What the figures depend on, for the page."""
    cpuinfo = Path("/proc/cpuinfo").read_text().splitlines()
    model = next((line.split(":")[1].strip() for line in cpuinfo if "model name" in line), "")
    tools = {"Python": platform.python_version(), "uvloop": version("uvloop")}
    tools |= {
        {"naive": "aiohttp"}.get(name, name): PEERS[name].version()
        for name in args.only
        if PEERS[name].installed
    }
    return {
        "command": f"`{shlex.join(['python', '-m', 'tests.bench', *sys.argv[1:]])}`",
        "date": time.strftime("%Y-%m-%d %H:%M UTC", time.gmtime()),
        "CPU": f"{model or platform.machine()}, {os.cpu_count()} cores",
        "kernel": f"{platform.system()} {platform.release()}",
        "versions": ", ".join(f"{name} {number}" for name, number in tools.items()),
        "cores": f"proxy on {bench.proxy_core}, load on {bench.load_core}, "
        f"backend on {bench.backend_core}",
        "rounds": f"{bench.rounds} of {bench.seconds:g} s for each proxy, "
        f"after {bench.warmup:g} s of warm-up",
    }


def _allow_files() -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if hard != resource.RLIM_INFINITY and hard < FILES:
        sys.exit(f"the bench needs {FILES} open files a process; `ulimit -Hn` says {hard}")
    if soft != resource.RLIM_INFINITY and soft < FILES:
        resource.setrlimit(resource.RLIMIT_NOFILE, (FILES, hard))


def main() -> None:
    args = arguments()
    if not sys.platform.startswith("linux"):
        sys.exit("the bench reads /proc and pins to cores: it runs on Linux only")
    _allow_files()
    ends_on_sigterm()
    began = time.monotonic()
    cores = sorted(os.sched_getaffinity(0))
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="bench-")))
        bench = Bench(
            only=args.only,
            rounds=1 if args.quick else 9,
            seconds=0.4 if args.quick else 1.2,
            warmup=0.1 if args.quick else 0.2,
            idle_connections=200 if args.quick else 2000,
            folder=folder,
            proxy_core=cores[0],
            load_core=cores[1 % len(cores)],
            backend_core=cores[min(2, len(cores) - 1)],
            say=say,
        )
        install(list(args.only), say)
        run_facts = facts(args, bench)
        stack.enter_context(bench.backend())
        tables = {}
        for scenario in SCENARIOS:
            if scenario.name in args.scenario and (table := scenario.run(bench)):
                tables[table.name] = table
    say(f"took {time.monotonic() - began:.0f} s")
    page = report.markdown(tables, run_facts)
    print(page, end="")
    if args.json:
        rounds = {
            name: {row.name: row.failed or row.values for row in table.rows}
            for name, table in tables.items()
        }
        args.json.write_text(json.dumps({"facts": run_facts, "tables": rounds}, indent=1) + "\n")
    whole = not args.quick and args.only == tuple(PEERS) and len(tables) == len(SCENARIOS)
    out = args.out or (ROOT / "docs" if whole else None)
    if out and not args.no_write:
        out.mkdir(parents=True, exist_ok=True)
        (out / "bench.md").write_text(page)
        (out / "bench.svg").write_text(report.svg(tables))
        say(f"wrote {out}/bench.md and {out}/bench.svg")


if __name__ == "__main__":
    try:
        main()
    except CannotStartError as error:
        sys.exit(f"bench: {error}")
    except KeyboardInterrupt:
        sys.exit(130)
