"""One body that several read while it still comes: what came so far, then each chunk live."""

from __future__ import annotations

from collections.abc import Callable

from proxy.errors import ProxyError
from proxy.exchange import Headers, Stream


class Recording:
    """The Sink of an upstream's body, and the Source of every reader's Stream.

    Up to `max_bytes` the whole body is kept, to be stored when it ends well. Beyond, `kept` turns
    false and only what some reader still lacks is held. Where that is more than `max_bytes`, the
    upstream is slowed down if no reader takes any more now; else the reader that lags most is cut
    off, so that it delays nobody. `left` is called when nobody has a use for the rest: the last
    reader has gone before the end, or nobody reads what is too large to be stored.
    """

    __slots__ = (
        "_chunks", "_deserted", "_dropped", "_held", "_readers", "_source", "done", "error", "kept",
        "left", "max_bytes", "size", "trailers",
    )  # fmt: skip

    def __init__(self, max_bytes: int, left: Callable[[], None]) -> None:
        self.max_bytes = max_bytes
        self.left = left
        self.kept = True
        self.size = 0
        self.done = False
        self.error: Exception | None = None
        self.trailers: Headers = []
        self._chunks: list[bytes] = []
        self._dropped = 0  # chunks, and
        self._held = 0  # bytes of those that are not
        self._readers: set[Reader] = set()
        self._source: Stream | None = None
        self._deserted = False

    # -- the upstream's side

    def attach(self, source: Stream) -> None:
        """Where the chunks come from: what is slowed down when readers lag."""
        self._source = source
        if not self.kept:
            self._trim()

    def forget(self) -> None:
        """The body is not worth keeping: only what a reader lacks is held."""
        self.kept = False

    def write(self, chunk: bytes) -> None:
        self._chunks.append(chunk)
        self.size += len(chunk)
        self._held += len(chunk)
        for reader in list(self._readers):
            reader.more()
        if self.size > self.max_bytes:
            self.kept = False
        if not self.kept:
            self._trim()

    def end(self, trailers: Headers) -> None:
        self.done = True
        self.trailers = trailers
        for reader in list(self._readers):
            reader.more()

    def fail(self, error: Exception) -> None:
        self.done = True
        self.kept = False
        self.error = error
        for reader in list(self._readers):
            reader.more()

    # -- the readers' side

    def read(self) -> Stream:
        """The body from its beginning. Raises LookupError where that is gone."""
        if self._dropped:
            raise LookupError("the beginning of this body is gone")
        reader = Reader(self)
        self._readers.add(reader)
        self._deserted = False
        reader.more()
        self.caught_up()  # the upstream may wait for those that take no more, and this one does
        return reader.stream

    @property
    def readers(self) -> int:
        return len(self._readers)

    def body(self) -> bytes:
        """All of it. Only when it is done and kept."""
        return b"".join(self._chunks)

    @property
    def pieces(self) -> tuple[int, ...]:
        return tuple(map(len, self._chunks))

    @property
    def held(self) -> int:
        """Bytes in memory here."""
        return self._held

    def chunk(self, index: int) -> bytes | None:
        """The chunk at `index`, counted from the beginning; None where it has not come yet."""
        at = index - self._dropped
        return self._chunks[at] if at < len(self._chunks) else None

    def gone(self, reader: Reader) -> None:
        """The reader takes no more, now and ever."""
        if reader not in self._readers:
            return
        self._readers.discard(reader)
        if not self.kept:
            self._trim()
        elif not self._readers and not self.done:
            self._leave()

    def caught_up(self) -> None:
        """A reader took more."""
        if not self.kept:
            self._trim()

    def _trim(self) -> None:
        """Lets go of what every reader has had; holds or cuts whoever makes the rest too much."""
        while self._readers:
            had = min(reader.at for reader in self._readers)
            self._drop(had - self._dropped)
            if self.done or self._source is None:
                return
            if self._held <= self.max_bytes:
                self._source.resume()
                return
            if all(reader.held for reader in self._readers):
                self._source.pause()
                return
            for reader in [one for one in self._readers if one.at == had]:
                self._readers.discard(reader)
                reader.cut()
        self._drop(len(self._chunks))
        if not self.done:
            self._leave()

    def _leave(self) -> None:
        if not self._deserted:
            self._deserted = True
            self.left()

    def _drop(self, count: int) -> None:
        if count:
            self._held -= sum(map(len, self._chunks[:count]))
            del self._chunks[:count]
            self._dropped += count


class TooSlow(ProxyError):
    """This reader fell too far behind the others."""

    status = 503
    code = "client_too_slow"


class Reader:
    """One reader's place in a Recording, and the Source of its Stream."""

    __slots__ = ("_recording", "at", "held", "stream")

    def __init__(self, recording: Recording) -> None:
        self._recording = recording
        self.held = False
        """It takes no more for now."""
        self.at = 0
        self.stream = Stream(self)

    def more(self) -> None:
        """Hands over what has come, unless the reader is held."""
        recording = self._recording
        while not self.held:
            chunk = recording.chunk(self.at)
            if chunk is None:
                break
            self.at += 1
            self.stream.feed(chunk)
        else:
            return
        if recording.done and not self.stream.done:
            if recording.error is not None:
                self.stream.fail(recording.error)
            else:
                self.stream.end(recording.trailers)
            recording.gone(self)

    def cut(self) -> None:
        """Ends its stream with TooSlow."""
        self.held = True
        self.stream.fail(TooSlow("this reader fell too far behind"))

    def pause(self) -> None:
        self.held = True

    def resume(self) -> None:
        self.held = False
        self.more()
        self._recording.caught_up()

    def abort(self) -> None:
        self.held = True
        self._recording.gone(self)
