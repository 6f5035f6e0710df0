"""A real llama.cpp server, from the `xllamacpp` wheel: `python -m proxy.demo.llama`."""

from __future__ import annotations

import argparse
import json
import signal
import subprocess
import sys
from pathlib import Path

from .child import ModelServer, free_port, get


class LlamaServer(ModelServer):
    """llama.cpp serving the GGUF at `model`.

    parallel: slots, so generations at once; a request over that waits. context: tokens a slot
    keeps; past them the oldest half is dropped and generation goes on. port: a free one if 0.

    llama.cpp looks whether a client is still there when it writes to it, else after a second in
    which none of its tasks had a result, and `busy` and `metric` are tasks too: while the client
    of a call that does not stream leaves, ask no more often than every ASK_EVERY seconds.
    """

    ASK_EVERY = 1.5

    def __init__(
        self,
        model: Path | str,
        *,
        parallel: int = 8,
        context: int = 4096,
        port: int = 0,
        within: float = 30.0,
    ) -> None:
        port = port or free_port()
        argv = [sys.executable, "-m", "proxy.demo.llama", "--model", str(model)]
        argv += ["--port", str(port), "--parallel", str(parallel), "--context", str(context)]
        super().__init__("llama.cpp", argv, port, ready="/health", within=within)

    def slots(self) -> list[dict[str, object]]:
        """What each slot is doing; `is_processing` is True while it generates."""
        slots: list[dict[str, object]] = json.loads(get(self.port, "/slots")[1])
        return slots

    def busy(self) -> int:
        """How many slots are generating."""
        return sum(bool(slot["is_processing"]) for slot in self.slots())

    def metric(self, name: str) -> float:
        """A value of llama.cpp's own /metrics, named without its prefix: `requests_deferred`."""
        for line in get(self.port, "/metrics")[1].decode().splitlines():
            if line.startswith(f"llamacpp:{name} "):
                return float(line.rpartition(" ")[2])
        raise KeyError(name)


def why_not() -> str | None:
    """Why llama.cpp cannot run here, or None where it can.

    Asked in a process of its own: a wheel built for another processor ends the one that loads it.
    """
    try:
        result = subprocess.run(
            [sys.executable, "-c", "import xllamacpp, gguf, numpy"],
            capture_output=True,
            text=True,
            timeout=60,
        )
    except subprocess.TimeoutExpired:
        return "importing xllamacpp took over 60 s"
    if result.returncode == 0:
        return None
    lines = result.stderr.strip().splitlines()
    return lines[-1] if lines else f"importing xllamacpp ended with status {result.returncode}"


def serve(model: str, port: int, parallel: int, context: int) -> None:
    """Serve until SIGTERM or SIGINT."""
    import xllamacpp

    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM, signal.SIGINT})
    params = xllamacpp.CommonParams()
    params.model.path = model
    params.port = port
    params.n_parallel = parallel
    params.n_ctx = parallel * context
    params.ctx_shift = True
    params.cpuparams.n_threads = 1
    params.cpuparams_batch.n_threads = 1
    params.n_gpu_layers = 0
    # An answer that depends on what an earlier client asked could not be compared.
    params.cache_prompt = False
    params.cache_ram_mib = 0
    params.fit_params = False
    params.ui = False
    params.endpoint_slots = True
    params.endpoint_metrics = True
    params.verbosity = 1
    server = xllamacpp.Server(params)
    signal.sigwait({signal.SIGTERM, signal.SIGINT})
    del server


def main() -> None:
    """The command line of the child process."""
    parser = argparse.ArgumentParser(prog="python -m proxy.demo.llama", description=__doc__)
    parser.add_argument("--model", required=True, help="path of a GGUF file")
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--parallel", type=int, default=8, help="generations at once")
    parser.add_argument("--context", type=int, default=4096, help="tokens a slot keeps")
    options = parser.parse_args()
    serve(options.model, options.port, options.parallel, options.context)


if __name__ == "__main__":
    main()
