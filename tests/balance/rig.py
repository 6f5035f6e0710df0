"""Endpoints that are only numbers, and members whose pools connect nowhere."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from typing import Any

from proxy import config
from proxy.exchange import Request, Response
from proxy.upstream.balance import Balancer
from proxy.upstream.endpoint import Endpoint
from proxy.upstream.member import Member
from proxy.upstream.pool import Pool


class Fake:
    """A candidate that has as much to do as a test says."""

    def __init__(self, name: str, busy: int = 0) -> None:
        self.name = name
        self.busy = busy

    def __repr__(self) -> str:
        return f"{self.name}:{self.busy}"


def fakes(*busy: int) -> list[Fake]:
    return [Fake(f"http://10.0.0.{number}:8000", one) for number, one in enumerate(busy)]


class Clock:
    """Turned by hand."""

    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


class FakePool(Pool):
    """Answers as told, without a connection. answers: what each request gets, or raises."""

    def __init__(self, name: str, upstream: config.Upstream) -> None:
        loop = asyncio.get_running_loop()
        super().__init__(Endpoint(name), loop, upstream.pool, upstream.timeouts, upstream.limits)
        self.load = 0
        self.sent: list[Request] = []
        self.give: Callable[[Request], Response] = lambda request: Response(200, [], b"ok")

    @property
    def busy(self) -> int:
        return self.load

    async def send(self, request: Request) -> Response:
        self.sent.append(request)
        request.endpoint = self.endpoint.name
        return self.give(request)


class Stage:
    """A Balancer over members that connect nowhere."""

    def __init__(self, count: int = 3, **keys: Any) -> None:
        self.clock = Clock()
        self.upstream = config.Upstream(
            endpoints=[f"http://10.0.0.{number}:8000" for number in range(count)], **keys
        )
        self.due: list[Member] = []
        self.balancer = Balancer(self.upstream.balance, "preserve", self.clock, self.due.append)
        self.pools = [FakePool(name, self.upstream) for name in self.upstream.endpoints]
        self.members = [Member(pool, self.upstream) for pool in self.pools]
        self.arrange()

    @property
    def names(self) -> list[str]:
        return [member.name for member in self.members]

    def arrange(self) -> None:
        self.balancer.arrange(self.members, self.clock())

    def eject(self, *numbers: int) -> None:
        for number in numbers:
            ejection = self.members[number].ejection
            assert ejection is not None
            ejection.eject(self.clock())
        self.arrange()

    def fail_checks(self, *numbers: int) -> None:
        for number in numbers:
            health = self.members[number].health
            assert health is not None
            health.checked(False)
        self.arrange()

    async def chosen(self, **fields: Any) -> int:
        """The number of the endpoint that one request got. fields: of the request."""
        request = asked(**fields)
        await self.balancer.send(request)
        return self.names.index(request.endpoint)


def asked(headers: Sequence[tuple[bytes, bytes]] = (), **fields: Any) -> Request:
    request = Request(b"GET", b"/", list(headers))
    for name, value in fields.items():
        setattr(request, name, value)
    return request


class Gate:
    """Refuses the endpoints named, and notes what it is asked and told."""

    def __init__(self, *refused: str) -> None:
        self.refused = refused
        self.asked: list[str] = []
        self.taken: list[str] = []

    def admits(self, endpoint: str) -> bool:
        self.asked.append(endpoint)
        return endpoint not in self.refused

    def chosen(self, endpoint: str) -> None:
        self.taken.append(endpoint)
