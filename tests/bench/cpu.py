"""What a process and all its descendants have used, from Linux's /proc."""

from __future__ import annotations

import os
from pathlib import Path

TICK = 1_000_000 / os.sysconf("SC_CLK_TCK")
"""Microseconds in one unit of /proc/PID/stat."""
PAGE = os.sysconf("SC_PAGE_SIZE")


def _stat(pid: int) -> list[str]:
    # The name, in brackets, may itself hold spaces and brackets: fields count from the last one.
    return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()


def tree(pid: int) -> list[int]:
    """`pid` and its descendants that live now."""
    children: dict[int, list[int]] = {}
    for name in os.listdir("/proc"):
        if name.isdigit():
            try:
                children.setdefault(int(_stat(int(name))[1]), []).append(int(name))
            except OSError:
                continue
    found = [pid]
    for parent in found:
        found.extend(children.get(parent, ()))
    return found


def alive(pid: int) -> bool:
    """Whether it runs; one that ended and that nobody has reaped does not."""
    try:
        return _stat(pid)[0] != "Z"
    except OSError:
        return False


def used(pid: int) -> float:
    """CPU microseconds, user and system, of the tree, children that have ended included."""
    total = 0
    for member in tree(pid):
        try:
            total += sum(map(int, _stat(member)[11:15]))
        except OSError:
            continue
    return total * TICK


def machine() -> float:
    """CPU microseconds that all of the machine's cores have been busy, time stolen included."""
    fields = Path("/proc/stat").read_text().split("\n", 1)[0].split()
    user, nice, system, _idle, _iowait, *others = map(int, fields[1:9])
    return (user + nice + system + sum(others)) * TICK


def rss(pid: int) -> float:
    """Resident MiB of the tree; pages that its processes share count once for each."""
    pages = 0
    for member in tree(pid):
        try:
            pages += int(Path(f"/proc/{member}/statm").read_text().split()[1])
        except OSError:
            continue
    return pages * PAGE / 2**20
