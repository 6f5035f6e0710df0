"""One attempt: the request it was made with, and what came of it."""

from __future__ import annotations

from time import monotonic

from proxy.errors import ProxyError
from proxy.exchange import Body, Outcome, Request, Response, Stream


class Original:
    """The client's request as it came to the layer: inner layers may change it on its way.

    The first attempt is made with the request itself, which costs nothing; the others with forks
    of what is kept here.
    """

    __slots__ = ("_body", "_declared", "headers", "mark", "path", "request", "target")

    def __init__(self, request: Request) -> None:
        self.request = request
        self.target = request.target
        self.path = request.path
        self.headers = request.headers.copy()
        self._body = request.body
        self._declared = request.declared
        self.mark = request.ends

    @property
    def body(self) -> Body:
        """What the client sent; in memory where it streamed and somebody has read it since."""
        request = self.request
        if isinstance(self._body, Stream) and request.declared is request.body:
            self._body = self._declared = request.body
        return self._body

    @property
    def unchanged(self) -> Request:
        """The request to ask an API about: the client's own, whose JSON may be parsed already."""
        request = self.request
        if request.path is self.path and request.body is self.body:
            return request
        return self.fork(request.avoid)

    def fork(self, avoid: frozenset[str]) -> Request:
        """A request like it. A body that streams is handed on: nobody may have had any of it."""
        request = self.request
        twin = request.fork(b"")
        twin.target = self.target
        twin.path = self.path
        twin.headers = self.headers.copy()
        twin.body = self.body
        twin.declared = self._declared
        twin.interim = request.interim
        twin.avoid = avoid
        return twin


class Attempt:
    """When it has ended it has an `error`, or else a `response`; both where a stream broke off
    behind its head: the error is then what is told.

    reason: why it is worth another attempt, as the key `on` names it; None where what came is
    final. wait: seconds that the server asks to be left alone for.

    What inner layers hand to `on_end` is told once: of an attempt that failed when it is given
    up, of the one whose answer the client gets when the client's exchange ends.
    """

    __slots__ = ("_fork", "_original", "error", "reason", "response", "wait")

    def __init__(self, original: Original, fork: Request | None = None) -> None:
        self._original = original
        self._fork = fork
        self.response: Response | None = None
        self.error: ProxyError | None = None
        self.reason: str | None = None
        self.wait = 0.0

    @property
    def request(self) -> Request:
        return self._original.request if self._fork is None else self._fork

    @property
    def good(self) -> bool:
        """No other attempt would bring more."""
        response = self.response
        if self.reason is not None or response is None:
            return False
        return response.status < 500 and response.status != 429

    def give_up(self, cancelled: bool = False) -> None:
        """Nobody wants what came: its connection is closed, its on_end are told."""
        outcome = Outcome() if self._fork is None else self._fork.outcome
        outcome.cancelled = cancelled
        outcome.error = self.error
        response = self.response
        if response is not None:
            outcome.status = response.status
            outcome.first_byte = outcome.last_byte = monotonic()
            if isinstance(response.body, Stream):
                response.body.abort()
        if self._fork is None:
            self._original.request.settle(self._original.mark, outcome)
        else:
            self._fork.finish()

    def hand_over(self, attempts: int, headers: bool) -> Response:
        """What the client gets. Raises the error, if that is what came."""
        client, fork = self._original.request, self._fork
        if fork is not None:
            client.endpoint = fork.endpoint
            fork.outcome = client.outcome
            client.on_end(lambda outcome: fork.finish())
        told = ((b"x-remora-attempts", b"%d" % attempts),) if headers and attempts > 1 else ()
        if self.error is not None:
            self.error.headers = (*self.error.headers, *told)
            raise self.error
        assert self.response is not None
        self.response.headers.extend(told)
        return self.response
