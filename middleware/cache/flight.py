"""Single-flight: requests that ask for the same thing at the same time share one upstream call.

The call belongs to nobody: it runs in a task of its own, and every client, the first one too, is
a reader of what it brings. So the first may leave and the others never notice; when the last one
leaves, the call is cancelled and the upstream stops.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from time import monotonic
from types import TracebackType

from proxy.chain import BodyFilter, Env, Handler
from proxy.errors import ProxyError
from proxy.exchange import Headers, Request, Response, Stream

from ..core.entry import Entry
from ..core.recording import Recording

log = logging.getLogger("remora")


class Flight:
    """One upstream call and its readers. `landed` is called once, when it has ended.

    storable: whether an answer with this head is worth keeping whole; by default any is.
    """

    def __init__(
        self,
        env: Env,
        request: Request,
        next: Handler,
        max_bytes: int,
        landed: Callable[[Flight], None],
        storable: Callable[[Response], bool] | None = None,
    ) -> None:
        self.request = request
        self.response: Response | None = None
        self.error: Exception | None = None
        self._where: TracebackType | None = None
        self.began = monotonic()
        self.took = 0.0
        self.head_took = 0.0
        self.entry: Entry | None = None
        """Set where another replica's call brought the answer, and this one asked nobody."""
        self.recording = Recording(max_bytes, self._deserted)
        self.shareable = True
        """What it brings is an answer to its own request."""
        self.outdated = False
        """What it brings may no longer be stored."""
        self._next = next
        self._landed = landed
        self._storable = storable
        self._whole: bytes | None = None
        self._waiting: list[asyncio.Future[Response]] = []
        self._ended = False
        self._body_ended: asyncio.Future[None] | None = None
        self._task = env.spawn(self._fly(), "cache flight")
        self._task.add_done_callback(self._never_flew)

    @property
    def open(self) -> bool:
        """A further client can still have the whole answer."""
        if self.error is not None or self._task.cancelling():
            return False
        return self._whole is not None or self.recording.kept

    @property
    def complete(self) -> bool:
        """The whole body came and is held."""
        return self.recording.done and self.recording.kept

    async def join(self) -> Response:
        """The answer, from its beginning. Raises what the call failed with."""
        place = self.board()
        try:
            return await place
        except asyncio.CancelledError:
            self.leave(place)
            raise

    def board(self) -> asyncio.Future[Response]:
        """The same for whoever awaits it later: nothing that comes meanwhile is lost to him, and
        while he stays the call goes on. He says `leave` when he is done.
        """
        place: asyncio.Future[Response] = asyncio.get_running_loop().create_future()
        if self.error is not None:
            place.set_exception(self._failure())
        elif self.response is not None:
            place.set_result(self._copy())
        else:
            self._waiting.append(place)
        return place

    def leave(self, place: asyncio.Future[Response]) -> None:
        """Whoever has that place wants nothing of the answer any more."""
        if place in self._waiting:
            self._waiting.remove(place)
            self._deserted()
        elif not place.cancelled() and place.exception() is None:
            body = place.result().body
            if isinstance(body, Stream):
                body.abort()

    def unshare(self) -> None:
        """What it brings is no answer to its own request: for whoever made the call alone."""
        self.shareable = False
        self.recording.forget()

    def _copy(self) -> Response:
        response = self.response
        assert response is not None
        copy = Response(response.status, list(response.headers), b"", response.reason)
        copy.chunked = response.chunked
        if self._whole is not None:
            copy.body = self._whole
            copy.trailers = self.recording.trailers
        else:
            copy.body = self.recording.read()
        if response.declared is not None:
            copy.declared = copy.body
        return copy

    def _failure(self) -> Exception:
        # Each raise of one exception lengthens its traceback: with many followers, without end.
        assert self.error is not None
        return self.error.with_traceback(self._where)

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
            self._end()

    async def _take(self, response: Response) -> None:
        recording = self.recording
        body = response.body
        filters = response.filters
        if self._storable is not None and not self._storable(response):
            recording.forget()
        if filters:
            # The length that came is that of another body.
            response.chunked = response.chunked or response.declared is not None
            response.declared = None
            response.headers = [
                pair for pair in response.headers if pair[0].lower() != b"content-length"
            ]
        if isinstance(body, Stream):
            self._body_ended = asyncio.get_running_loop().create_future()
            self._arrived(response)
            try:
                body.pipe(_Through(recording, filters, self._body_ended))
                recording.attach(body)
                await self._body_ended
            finally:
                body.abort()  # does nothing to one that came to its end
        else:
            for one in filters:
                body = (one.feed(body) if body else b"") + one.end()
            self._whole = body
            recording.trailers = response.trailers
            if recording.kept and len(body) <= recording.max_bytes:
                if body:
                    recording.write(body)
                recording.end(response.trailers)
            self._arrived(response)

    def _arrived(self, response: Response) -> None:
        """Each client that waits gets its copy now: what comes next must not be lost to it."""
        self.response = response
        waiting, self._waiting = self._waiting, []
        for future in waiting:
            if not future.done():
                future.set_result(self._copy())

    def _fail(self, error: Exception) -> None:
        if self.response is None:
            self.error = error
            self._where = error.__traceback__
            waiting, self._waiting = self._waiting, []
            for future in waiting:
                if not future.done():
                    future.set_exception(self._failure())
        elif not self.recording.done and self._whole is None:
            self.recording.fail(error)

    def _deserted(self) -> None:
        if not self._waiting and not self._task.done():
            self._task.cancel()

    def _end(self) -> None:
        if not self._ended:
            self._ended = True
            self._landed(self)

    def _never_flew(self, task: asyncio.Task[None]) -> None:
        """A task cancelled before its first step runs none of its own clauses."""
        if not self._ended:
            self._fail(ConnectionAbortedError("the shared call was cancelled"))
            self.request.finish()
            self._end()


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
        if self._ended.done():
            return  # a filter has failed
        try:
            for one in self._filters:
                chunk = one.feed(chunk)
        except Exception as error:
            self._spoiled(error)
            return
        if chunk:
            self._recording.write(chunk)

    def end(self, trailers: Headers) -> None:
        if self._ended.done():
            return
        rest = b""
        try:
            for one in self._filters:
                rest = (one.feed(rest) if rest else b"") + one.end()
        except Exception as error:
            self._spoiled(error)
            return
        if rest:
            self._recording.write(rest)
        self._recording.end(trailers)
        self._done()

    def _spoiled(self, error: Exception) -> None:
        """A filter failed: the upstream has nothing to do with it, and no reader any more."""
        if not isinstance(error, ProxyError):
            log.error("a filter inside of the cache failed", exc_info=error)
        self.fail(error)

    def fail(self, error: Exception) -> None:
        self._recording.fail(error)
        self._done()

    def _done(self) -> None:
        if not self._ended.done():
            self._ended.set_result(None)
