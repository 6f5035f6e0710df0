"""The encoder behind TEI's and OpenAI's routes, as a model server of its own.

It computes one call at a time, on one core; GET /stats tells how many calls of how many texts.
`python -m proxy.demo.encoder_server --port 8000`
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import os
import sys

from aiohttp import web

from .child import Child, free_port, get
from .encoder_routes import Model, create_app

THREADS = ("OPENBLAS_NUM_THREADS", "OMP_NUM_THREADS", "MKL_NUM_THREADS", "VECLIB_MAXIMUM_THREADS")
"""Variables by which the libraries that may multiply numpy's matrices are told of their threads."""


def why_not() -> str | None:
    """Why the encoder cannot run here; None where it can."""
    return None if importlib.util.find_spec("numpy") else "numpy is not installed"


class EncoderServer(Child):
    """The encoder as a child process. port: a free one if 0."""

    def __init__(self, *, port: int = 0, within: float = 20.0) -> None:
        port = port or free_port()
        argv = [sys.executable, "-m", "proxy.demo.encoder_server", "--port", str(port)]
        super().__init__("the encoder", argv, port, ready="/health", within=within)

    def stats(self) -> dict[str, int]:
        """calls and texts computed since its start."""
        stats: dict[str, int] = json.loads(get(self.port, "/stats")[1])
        return stats


def serve(model: Model, port: int) -> None:
    """Serves `model` on 127.0.0.1 until SIGTERM."""
    web.run_app(
        create_app(model), host="127.0.0.1", port=port, print=None, access_log=None,
        handler_cancellation=True, shutdown_timeout=0.5,
    )  # fmt: skip


def main() -> None:
    """The command line of the child process."""
    parser = argparse.ArgumentParser(
        prog="python -m proxy.demo.encoder_server", description=__doc__
    )
    parser.add_argument("--port", type=int, required=True)
    options = parser.parse_args()
    # Whoever multiplies matrices reads these once, when numpy is loaded: so that comes after.
    os.environ.update(dict.fromkeys(THREADS, "1"))
    from .encoder import Encoder

    encoder = Encoder()
    encoder.embed(encoder.read(["the first call loads code"]))
    serve(encoder, options.port)


if __name__ == "__main__":
    main()
