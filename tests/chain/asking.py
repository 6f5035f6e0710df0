"""Short ways to ask about texts, and to read what came."""

from __future__ import annotations

import json
from typing import Any

from tests.chain.model import vector
from tests.chain.rig import Running
from tests.road.wire import Client, Message

JSON = "Content-Type: application/json"
EMBEDDINGS = "/v1/embeddings"


def about(*texts: str, **more: Any) -> bytes:
    return json.dumps(
        {"model": "m", "input": texts[0] if len(texts) == 1 else texts, **more}
    ).encode()


async def ask(remora: Running, *texts: str, fields: tuple[str, ...] = ()) -> Client:
    """A client of its own that has asked about these."""
    client = await remora.connect()
    client.ask("POST", EMBEDDINGS, JSON, *fields, body=about(*texts))
    return client


async def embed(remora: Running, *texts: str, fields: tuple[str, ...] = ()) -> Message:
    """The answer to a client of its own."""
    client = await ask(remora, *texts, fields=fields)
    answer = await client.answer()
    client.abort()
    return answer


def is_about(answer: Message, *texts: str) -> bool:
    if answer.status != 200:
        return False
    told = [one["embedding"] for one in json.loads(answer.body)["data"]]
    return told == [vector(text) for text in texts]


def texts_of(message: Message) -> list[str]:
    """What a server was asked about."""
    asked = json.loads(message.body)["input"]
    return asked if isinstance(asked, list) else [asked]


def key(name: str) -> str:
    return f"key-of-{name}-0123456789"


def bearer(name: str) -> str:
    return f"Authorization: Bearer {key(name)}"


def auth(**names: dict[str, Any]) -> dict[str, Any]:
    """The layer with a key for each name."""
    return {"auth": {"keys": [{"name": name, "key": key(name), **keys}
                              for name, keys in names.items()]}}  # fmt: skip
