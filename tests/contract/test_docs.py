"""The worked example of docs/writing-a-layer.md does what the page says."""

from __future__ import annotations

import re
import subprocess
import sys
import tomllib
from pathlib import Path

from proxy.loader import load_text

from .conftest import DOC
from .road import LAST_CHUNK, SSE_HEAD, ModelServer, chunk, client, event, post, remora


def blocks(language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```$", DOC.read_text(), re.MULTILINE | re.DOTALL)


def test_the_pages_own_tests_pass(example: Path) -> None:
    """The test file that the page shows runs as it stands."""
    run = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "-c", "/dev/null",
         "--rootdir", str(example), str(example)],
        capture_output=True, text=True, env={"PYTHONPATH": str(example)},
    )  # fmt: skip
    assert run.returncode == 0 and "2 passed" in run.stdout, run.stdout + run.stderr


def test_the_pages_file_loads(example: Path) -> None:
    """It names the layer by its class, and the entry point of the page names the same one."""
    (file,) = blocks("yaml")
    layer = load_text(file, "page.yaml", {}).chain[1]
    assert (layer.name, layer.config.stall) == ("stream_stalls:StreamStalls", 0.5)  # type: ignore[attr-defined]
    (toml,) = blocks("toml")
    points = tomllib.loads(toml)["project"]["entry-points"]["remora.middleware"]
    assert points == {layer.name.partition(":")[0]: layer.name}


async def test_the_example_counts(example: Path, model: ModelServer) -> None:
    """Events of streams alone, by route, told when the exchange has ended."""
    chain = [{"stream_stalls:StreamStalls": {"stall": "100ms"}}]
    async with remora(model.url, chain, routes=[{"name": "r"}]) as server:
        value = server.telemetry.registry.get_sample_value
        async with client(server) as user:
            await user.send(post("/v1/chat/completions"))
            asked = await model.asked()
            await asked.send(SSE_HEAD + chunk(event("1") + event("2")[:3]))
            await user.until(event("1"))
            await asked.send(chunk(event("2")[3:]) + LAST_CHUNK)
            await user.until(LAST_CHUNK)
            await user.send(post("/v1/embeddings"))
            await (await model.asked()).answer(b"\n\n", b"Content-Type: application/json")
            head, _ = await user.read_answer()
            assert b"Content-Length: 2\r\n" in head, "another answer was filtered"
        assert value("remora_stream_events_total", {"route": "r"}) == 2
        assert value("remora_stream_stalls_total", {"route": "r"}) == 0
