"""A client that waits for the answers to its items."""

from __future__ import annotations

import asyncio
from collections.abc import Hashable, Sequence

from proxy.apis.items import Answer, Item, Parted
from proxy.errors import ProxyError, Unavailable
from proxy.exchange import Request, Response

from ..core.batch.queue import Batch, Group, Job


class QueueFull(Unavailable):
    """Too many items wait already; nothing was sent upstream."""

    code = "queue_full"


class QueueTimeout(ProxyError):
    """The items waited too long for their turn; nothing was sent upstream, or not all."""

    status = 504
    code = "queue_timeout"


class DeadlineExceeded(ProxyError):
    """The time is over that the client gave."""

    status = 504
    code = "deadline_exceeded"


class Client(Job):
    """told: a Batch, when its request is to be sent as it is, in that batch's place; an error; an
    answer of the server to hand on; or None, when all of `answers` are there.
    """

    __slots__ = (
        "answers", "echoed", "first", "missing", "number", "parted", "request", "rest", "size",
        "told",
    )  # fmt: skip

    def __init__(
        self,
        group: Group,
        tenant: Hashable,
        items: Sequence[Item],
        whole: bool,
        request: Request,
        parted: Parted,
        told: asyncio.Future[Batch | Exception | Response | None],
    ) -> None:
        super().__init__(group, tenant, items, whole)
        self.request = request
        self.parted = parted
        self.told = told
        self.answers: list[Answer | None] = [None] * len(parted.items)
        self.missing = len(parted.items)
        self.rest: Response | None = None
        """Of the last call that answered an item."""
        self.number = 0
        """Of the client among those of that call."""
        self.echoed = False
        """That call's answer told a request's id."""
        self.size = 0
        """Items of that call."""
        self.first: float | None = None
        """When an item of it was first sent."""

    def tell(self, what: Batch | Exception | Response | None) -> None:
        """Wakes the client; what it is told later it does not hear."""
        if not self.told.done():
            self.told.set_result(what)

    def answer(self, index: int, answer: Answer) -> None:
        self.answers[index] = answer
        self.missing -= 1

    def joined(self) -> Response:
        """The answer to the whole request."""
        assert self.rest is not None
        answers = [one for one in self.answers if one is not None]
        return self.parted.join(self.rest, answers, self.number)
