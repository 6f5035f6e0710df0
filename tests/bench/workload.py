"""What the bench of merging asks: whole requests, ready to be sent."""

from __future__ import annotations

import itertools
import math
import random
from collections.abc import Iterator
from typing import Any

import orjson

from tests.real.models import Model

POOL = 4096
"""Different things that are asked about, in turn: no two of them meet in one batch."""


def request(path: str, body: Any) -> bytes:
    data = orjson.dumps(body)
    head = f"POST {path} HTTP/1.1\r\nHost: bench\r\nContent-Type: application/json\r\n"
    return f"{head}Content-Length: {len(data)}\r\n\r\n".encode() + data


def singles(model: Model, path: str) -> Iterator[bytes]:
    return itertools.cycle(
        [request(path, model.one(model.thing(number))) for number in range(POOL)]
    )


def batches(model: Model, size: int) -> Iterator[bytes]:
    return itertools.cycle(
        [
            request(model.path, model.many([model.thing(start + one) for one in range(size)]))
            for start in range(0, POOL - size + 1, size)
        ]
    )


class Again:
    """Of all requests a share is for what was asked before: the n-th oldest with weight 1/n (Zipf).

    The others are new. So the share is the same however long a run is.
    """

    def __init__(self, model: Model, share: float, seed: int) -> None:
        self.model = model
        self.share = share
        self.random = random.Random(seed)
        self.asked = 0
        self.first = seed * 10_000_000

    def __iter__(self) -> Iterator[bytes]:
        model, draw = self.model, self.random.random
        while True:
            if self.asked and draw() < self.share:
                number = int(math.exp(draw() * math.log(self.asked + 1))) - 1
            else:
                number = self.asked
                self.asked += 1
            yield request(model.path, model.one(model.thing(self.first + number)))
