"""Single-flight: requests that ask for the same thing at the same time share one upstream call.

The call belongs to nobody: it runs in a task of its own, and every client, the first one too, is
a reader of what it brings. So the first may leave and the others never notice; when the last one
leaves, the call is cancelled and the upstream stops.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from time import monotonic

from proxy.chain import BodyFilter, Env, Handler
from proxy.errors import ProxyError
from proxy.exchange import Headers, Request, Response, Stream

from ..core.recording import Recording


class Flight:
    """One upstream call and its readers. `landed` is called once, when it has ended."""

    def __init__(
        self,
        env: Env,
        request: Request,
        next: Handler,
        max_bytes: int,
        landed: Callable[[Flight], None],
    ) -> None:
        self.request = request
        self.response: Response | None = None
        self.error: Exception | None = None
        self.began = monotonic()
        self.took = 0.0
        self.head_took = 0.0
        self.recording = Recording(max_bytes, self._deserted)
        self._next = next
        self._landed = landed
        self._waiting: list[asyncio.Future[None]] = []
        self._body_ended: asyncio.Future[None] | None = None
        self._task = env.spawn(self._fly(), "cache flight")

    @property
    def open(self) -> bool:
        """A further client can still have the whole answer."""
        return self.error is None and (self.response is None or self.recording.kept)

    @property
    def complete(self) -> bool:
        """The whole body came and is held."""
        return self.recording.done and self.recording.kept

    async def join(self) -> Response:
        """The answer, from its beginning. Raises what the call failed with."""
        if self.response is None and self.error is None:
            arrived = asyncio.get_running_loop().create_future()
            self._waiting.append(arrived)
            try:
                await arrived
            except asyncio.CancelledError:
                self._waiting.remove(arrived)
                if not self.recording.readers:
                    self._deserted()
                raise
            self._waiting.remove(arrived)
        if self.error is not None:
            raise self.error
        return self._copy()

    def _copy(self) -> Response:
        response = self.response
        assert response is not None
        recording = self.recording
        copy = Response(response.status, list(response.headers), b"", response.reason)
        copy.chunked = response.chunked
        if self.complete:
            copy.body = recording.body()
            copy.trailers = recording.trailers
        else:
            copy.body = recording.read()
        if response.declared is not None and not response.filters:
            copy.declared = copy.body
        return copy

    async def _fly(self) -> None:
        request = self.request
        outcome = request.outcome
        try:
            response = await self._next(request)
            outcome.status = response.status
            outcome.first_byte = monotonic()
            self.head_took = outcome.first_byte - self.began
            await self._take(response)
            if isinstance(self.recording.error, ProxyError):
                outcome.error = self.recording.error
        except asyncio.CancelledError:
            outcome.cancelled = True
            self._fail(ConnectionAbortedError("the shared call was cancelled"))
            raise
        except Exception as error:
            outcome.error = error if isinstance(error, ProxyError) else None
            self._fail(error)
        finally:
            self.took = monotonic() - self.began
            outcome.last_byte = monotonic()
            request.finish()
            self._landed(self)

    async def _take(self, response: Response) -> None:
        recording = self.recording
        body = response.body
        filters = response.filters
        if isinstance(body, Stream):
            self._body_ended = asyncio.get_running_loop().create_future()
            self._arrived(response)
            try:
                body.pipe(_Through(recording, filters, self._body_ended))
                recording.attach(body)
                await self._body_ended
            except BaseException:
                body.abort()
                raise
        else:
            for one in filters:
                body = (one.feed(body) if body else b"") + one.end()
            if body:
                recording.write(body)
            recording.end(response.trailers)
            self._arrived(response)

    def _arrived(self, response: Response) -> None:
        self.response = response
        # Readers first: a Recording that nobody reads yet is not deserted.
        for future in self._waiting:
            if not future.done():
                future.set_result(None)

    def _fail(self, error: Exception) -> None:
        if self.response is None:
            self.error = error
            for future in self._waiting:
                if not future.done():
                    future.set_result(None)
        elif not self.recording.done:
            self.recording.fail(error)

    def _deserted(self) -> None:
        if not self._waiting and not self._task.done():
            self._task.cancel()


class _Through:
    """The Sink between an upstream's body and its Recording: what inner layers filter, filtered."""

    __slots__ = ("_ended", "_filters", "_recording")

    def __init__(
        self, recording: Recording, filters: list[BodyFilter], ended: asyncio.Future[None]
    ) -> None:
        self._recording = recording
        self._filters = filters
        self._ended = ended

    def write(self, chunk: bytes) -> None:
        for one in self._filters:
            chunk = one.feed(chunk)
        if chunk:
            self._recording.write(chunk)

    def end(self, trailers: Headers) -> None:
        rest = b""
        for one in self._filters:
            rest = (one.feed(rest) if rest else b"") + one.end()
        if rest:
            self._recording.write(rest)
        self._recording.end(trailers)
        self._done()

    def fail(self, error: Exception) -> None:
        self._recording.fail(error)
        self._done()

    def _done(self) -> None:
        if not self._ended.done():
            self._ended.set_result(None)
