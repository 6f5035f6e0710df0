"""One body that several read while it still comes: what came so far, then each chunk live."""

from __future__ import annotations

from collections.abc import Callable

from proxy.exchange import Headers, Stream


class Recording:
    """The Sink of an upstream's body, and the Source of every reader's Stream.

    Up to `max_bytes` the whole body is kept, to be stored when it ends well. Beyond, `kept` turns
    false and only what some reader still lacks is held: one reader alone slows the upstream down;
    of several, one that lags more than `max_bytes` behind is cut off, so that it delays nobody.
    `left` is called when the last reader has gone before the end.
    """

    __slots__ = (
        "_chunks", "_dropped", "_readers", "_source", "done", "error", "kept", "left", "max_bytes",
        "size", "trailers",
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
        self._readers: set[Reader] = set()
        self._source: Stream | None = None

    # -- the upstream's side

    def attach(self, source: Stream) -> None:
        """Where the chunks come from: what is slowed down when readers lag."""
        self._source = source

    def write(self, chunk: bytes) -> None:
        self._chunks.append(chunk)
        self.size += len(chunk)
        for reader in list(self._readers):
            reader.more()
        if self.kept and self.size > self.max_bytes:
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
        """The body from its beginning. Only while all of it is kept."""
        if not self.kept:
            raise LookupError("the beginning of this body is gone")
        reader = Reader(self)
        self._readers.add(reader)
        reader.more()
        return reader.stream

    @property
    def readers(self) -> int:
        return len(self._readers)

    def body(self) -> bytes:
        """All of it. Only when it is done and kept."""
        return b"".join(self._chunks)

    def chunk(self, index: int) -> bytes | None:
        """The chunk at `index`, counted from the beginning; None where it has not come yet."""
        at = index - self._dropped
        return self._chunks[at] if at < len(self._chunks) else None

    def gone(self, reader: Reader) -> None:
        self._readers.discard(reader)
        if not self._readers and not self.done:
            self.left()
        elif not self.kept:
            self._trim()

    def _trim(self) -> None:
        """Lets go of what every reader has had; holds or cuts whoever makes the rest too much."""
        if not self._readers:
            return
        had = min(reader.at for reader in self._readers)
        del self._chunks[: had - self._dropped]
        self._dropped = had
        held = sum(map(len, self._chunks))
        if self._source is None:
            return
        if held <= self.max_bytes:
            self._source.resume()
        elif len(self._readers) == 1:
            self._source.pause()
        else:
            slowest = min(self._readers, key=lambda reader: reader.at)
            slowest.cut()
            self._trim()

    def caught_up(self) -> None:
        """A reader took more."""
        if not self.kept:
            self._trim()


class TooSlow(Exception):
    """This reader fell too far behind the others."""


class Reader:
    """One reader's place in a Recording, and the Source of its Stream."""

    __slots__ = ("_held", "_recording", "at", "stream")

    def __init__(self, recording: Recording) -> None:
        self._recording = recording
        self._held = False
        self.at = 0
        self.stream = Stream(self)

    def more(self) -> None:
        """Hands over what has come, unless the reader is held."""
        recording = self._recording
        while not self._held:
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
        self._recording.gone(self)
        self.stream.fail(TooSlow("this reader fell too far behind"))

    def pause(self) -> None:
        self._held = True

    def resume(self) -> None:
        self._held = False
        self.more()
        self._recording.caught_up()

    def abort(self) -> None:
        self._recording.gone(self)
