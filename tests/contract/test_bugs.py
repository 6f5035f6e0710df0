"""What the road does when a layer has a bug."""

from __future__ import annotations

import pytest

from .layers import Breaks, Dawdles, Forgets, Misspells, Probe, named
from .road import SSE_HEAD, ModelServer, chunk, client, event, post, remora


async def test_a_bug_in_a_layer_is_a_500(
    model: ModelServer, caplog: pytest.LogCaptureFixture
) -> None:
    """The client is told nothing of it, the log everything; the connection goes on."""
    async with remora(model.url, [named(Breaks)]) as server, client(server) as user:
        for _ in range(2):
            await user.send(post("/v1/embeddings"))
            head, body = await user.read_answer()
            assert head.startswith(b"HTTP/1.1 500 ") and b'"code":"internal_error"' in body
            assert b"secret" not in head + body
    assert caplog.text.count("ZeroDivisionError: secret of the layer") == 2


async def test_an_answer_that_nobody_reads_is_closed(model: ModelServer) -> None:
    """A layer that fails behind `next` leaves no connection to the server open."""
    async with remora(model.url, [named(Forgets)]) as server, client(server) as user:
        await user.send(post("/v1/chat/completions"))
        asked = await model.asked()
        await asked.send(SSE_HEAD + chunk(event("1")))
        assert (await user.read_answer())[0].startswith(b"HTTP/1.1 500 ")
        await asked.closed()


async def test_a_client_that_leaves_a_layer_that_waits_ends_the_exchange(
    model: ModelServer,
) -> None:
    """The answer is here, but a layer keeps it: the server is told all the same."""
    chain = [named(Probe, "outer"), named(Dawdles), named(Probe, "inner")]
    async with remora(model.url, chain) as server:
        async with client(server) as user:
            await user.send(post("/v1/chat/completions"))
            asked = await model.asked()
            await asked.send(SSE_HEAD + chunk(event("1")))
        await asked.closed()
        assert (await Probe.of("outer")).outcomes[0].cancelled


async def test_an_answer_that_cannot_be_written_is_no_answer(
    model: ModelServer, caplog: pytest.LogCaptureFixture
) -> None:
    """A layer that puts text where bytes belong: the log says so, and no client hangs."""
    async with remora(model.url, [named(Probe, "outer"), named(Misspells)]) as server:
        async with client(server) as user:
            await user.send(post("/v1/embeddings"))
            assert await user.rest() == b""
        assert len((await Probe.of("outer")).outcomes) == 1
    assert "TypeError" in caplog.text
