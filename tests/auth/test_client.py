"""What the openai client makes of a key that is not good enough."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable

import openai
import pytest

from tests.auth.rig import AUTH, ONE, Server
from tests.conftest import Serve, UpstreamMaker

Connect = Callable[[str], Awaitable[openai.AsyncOpenAI]]


@pytest.fixture
async def connect(serve: Serve, upstream: UpstreamMaker) -> AsyncIterator[Connect]:
    """`await connect(key)`: a client with that key, as its users would make one."""
    clients: list[openai.AsyncOpenAI] = []
    keys = [{"name": "one", "key": ONE, "models": ["mini"]}]
    running = await serve(await upstream(Server()), chain=[{AUTH: {"keys": keys}}])

    async def connect(key: str) -> openai.AsyncOpenAI:
        clients.append(openai.AsyncOpenAI(base_url=f"{running.url}/v1", api_key=key))
        return clients[-1]

    yield connect
    for client in clients:
        await client.close()


async def test_each_refusal_is_its_own_exception(connect: Connect) -> None:
    """AuthenticationError for a wrong key, PermissionDeniedError for a model, and neither is
    tried again by the client.
    """
    stranger = await connect("key-of-nobody-0123456789")
    with pytest.raises(openai.AuthenticationError, match="not known here") as refused:
        await stranger.models.list()
    assert refused.value.code == "invalid_key"
    known = await connect(ONE)
    with pytest.raises(openai.PermissionDeniedError, match="model `other`") as denied:
        await known.embeddings.create(model="other", input="x", encoding_format="float")
    assert denied.value.code == "model_not_allowed"
    passed = await known.embeddings.with_raw_response.create(
        model="mini", input="x", encoding_format="float"
    )
    assert passed.status_code == 200
