"""One body, several readers: who gets what, how much is held, who is slowed down or cut off."""

from __future__ import annotations

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import Bundle, RuleBasedStateMachine, invariant, precondition, rule

from middleware.core.recording import Recording, TooSlow
from proxy.exchange import Headers, Stream
from proxy.stream import HIGH_WATER

MAX = 1000
TRAILERS = [(b"x-sum", b"1")]


class Upstream:
    """The Source that a Recording slows down."""

    def __init__(self) -> None:
        self.paused = False
        self.stream = Stream(self)

    def pause(self) -> None:
        self.paused = True

    def resume(self) -> None:
        self.paused = False

    def abort(self) -> None:
        raise AssertionError("a Recording never ends its upstream by itself")


class Client:
    """The Sink of one reader's Stream. `slow`: it takes nothing until told to."""

    def __init__(self, stream: Stream) -> None:
        self.stream = stream
        self.got = b""
        self.trailers: Headers | None = None
        self.error: Exception | None = None
        self.left = False
        self.slow = False
        self.slow_at_its_end = False

    def pipe(self) -> Client:
        self.stream.pipe(self)
        return self

    @property
    def ended(self) -> bool:
        return self.trailers is not None or self.error is not None

    def write(self, chunk: bytes) -> None:
        assert not self.left, "nothing comes after a reader has left"
        assert not self.ended
        self.got += chunk

    def end(self, trailers: Headers) -> None:
        assert not self.ended
        self.trailers = trailers

    def fail(self, error: Exception) -> None:
        assert not self.ended
        self.error = error
        self.slow_at_its_end = self.slow

    def hold(self) -> None:
        self.slow = True
        self.stream.pause()

    def go_on(self) -> None:
        self.slow = False
        self.stream.resume()

    def leave(self) -> None:
        self.left = True
        self.stream.abort()


class Interleaved(RuleBasedStateMachine):
    """Chunks, readers that join, hold, go on, and leave, an end or a failure, in any order."""

    clients = Bundle("clients")

    def __init__(self) -> None:
        super().__init__()
        self.upstream = Upstream()
        self.deserted = 0
        self.recording = Recording(MAX, self.leave)
        self.recording.attach(self.upstream.stream)
        self.sent = b""
        self.over = False
        self.all: list[Client] = []
        self.largest = 0

    def leave(self) -> None:
        self.deserted += 1
        assert not self.reading, "somebody still reads"

    @property
    def reading(self) -> list[Client]:
        return [one for one in self.all if not one.left and not one.ended]

    @precondition(lambda self: not self.over and not self.upstream.paused)
    @rule(size=st.integers(1, 400))
    def chunk(self, size: int) -> None:
        chunk = bytes([len(self.sent) % 251]) * size
        self.sent += chunk
        self.largest = max(self.largest, size)
        self.recording.write(chunk)

    @precondition(lambda self: not self.recording._dropped)
    @rule(target=clients)
    def join(self) -> Client:
        client = Client(self.recording.read())
        self.all.append(client)
        self.deserted = 0
        return client.pipe()

    @precondition(lambda self: self.recording._dropped)
    @rule()
    def join_too_late(self) -> None:
        with pytest.raises(LookupError):
            self.recording.read()

    @rule(client=clients)
    def hold(self, client: Client) -> None:
        if client in self.reading:
            client.hold()

    @rule(client=clients)
    def go_on(self, client: Client) -> None:
        if not client.left:
            client.go_on()

    @rule(client=clients)
    def go(self, client: Client) -> None:
        if not client.left:
            client.leave()

    @precondition(lambda self: not self.over)
    @rule()
    def end(self) -> None:
        self.over = True
        self.recording.end(TRAILERS)

    @precondition(lambda self: not self.over)
    @rule()
    def fail(self) -> None:
        self.over = True
        self.recording.fail(ConnectionResetError("the upstream died"))

    @invariant()
    def each_got_the_bytes_from_the_beginning_in_order(self) -> None:
        for client in self.all:
            assert self.sent.startswith(client.got)

    @invariant()
    def who_takes_everything_lacks_nothing(self) -> None:
        for client in self.all:
            if not client.left and not client.slow and client.error is None:
                assert client.got == self.sent

    @invariant()
    def an_end_is_a_whole_body_or_an_error(self) -> None:
        for client in self.all:
            if client.trailers is not None:
                assert client.trailers == TRAILERS
                assert client.got == self.sent
            if client.error is not None and self.recording.error is not None:
                assert isinstance(client.error, ConnectionResetError | TooSlow)
            elif client.error is not None:
                assert isinstance(client.error, TooSlow)

    @invariant()
    def who_takes_everything_is_never_cut(self) -> None:
        for client in self.all:
            if isinstance(client.error, TooSlow):
                assert client.slow_at_its_end

    @invariant()
    def memory_is_bounded(self) -> None:
        held = sum(map(len, self.recording._chunks))
        assert self.recording.held == held
        assert held <= MAX + self.largest

    @invariant()
    def it_is_kept_while_it_fits(self) -> None:
        assert self.recording.kept == (len(self.sent) <= MAX and self.recording.error is None)
        if self.recording.kept:
            assert self.recording.body() == self.sent
            assert sum(self.recording.pieces) == len(self.sent)

    @invariant()
    def the_upstream_waits_only_where_nobody_takes_more(self) -> None:
        if self.upstream.paused and not self.over and not self.deserted:
            assert self.reading and all(client.slow for client in self.reading)

    @invariant()
    def the_last_one_that_leaves_is_told_of_once(self) -> None:
        assert self.deserted <= 1
        left_alone = bool(self.all) and not self.reading and not self.over
        assert self.deserted or not left_alone


Interleaved.TestCase.settings = settings(max_examples=300, stateful_step_count=40, deadline=None)
TestAnyInterleaving = Interleaved.TestCase
"""Whatever happens in whatever order, each reader gets the body from its beginning, or an error."""


def recorded(max_bytes: int = MAX) -> tuple[Recording, Upstream, list[int]]:
    left: list[int] = []
    recording = Recording(max_bytes, lambda: left.append(1))
    upstream = Upstream()
    recording.attach(upstream.stream)
    return recording, upstream, left


def test_one_slow_reader_slows_the_upstream_down_and_loses_nothing() -> None:
    """Alone it may take its time: the upstream waits, and goes on when it does."""
    recording, upstream, _ = recorded()
    client = Client(recording.read()).pipe()
    client.hold()
    while not upstream.paused:
        recording.write(bytes(100))
    assert recording.held <= MAX + 100
    client.go_on()
    assert not upstream.paused
    assert recording.held == 0
    recording.end([])
    assert len(client.got) == recording.size and client.trailers == []


def test_who_comes_to_an_upstream_that_waits_need_not_wait_for_the_slow() -> None:
    """Somebody takes more again: the upstream goes on, and who holds it up is cut off."""
    recording, upstream, _ = recorded()
    slow = Client(recording.read()).pipe()
    slow.hold()
    while not upstream.paused:
        recording.write(bytes(100))
    late = Client(recording.read()).pipe()
    assert not upstream.paused
    recording.write(b"more")
    assert late.got.endswith(b"more") and len(late.got) == recording.size
    slow.go_on()
    assert isinstance(slow.error, TooSlow)


def test_readers_that_are_all_slow_slow_the_upstream_down_together() -> None:
    """Nobody is cut off for the sake of nobody."""
    recording, upstream, _ = recorded()
    clients = [Client(recording.read()).pipe() for _ in range(3)]
    for client in clients:
        client.hold()
    while not upstream.paused:
        recording.write(bytes(100))
    assert [client.error for client in clients] == [None] * 3


def test_a_reader_that_lags_is_cut_off_for_the_others() -> None:
    """Among readers that take everything, the one that lags more than the bound gets TooSlow."""
    recording, upstream, _ = recorded()
    slow, quick = (Client(recording.read()).pipe() for _ in range(2))
    slow.hold()
    for _ in range(50):
        recording.write(bytes(100))
    assert isinstance(slow.error, TooSlow)
    assert not upstream.paused
    assert len(quick.got) == 5000
    assert recording.readers == 1


def test_a_thousand_that_lag_are_cut_off_at_once() -> None:
    """However many lag, one that does not goes on."""
    recording, _, _ = recorded()
    slow = [Client(recording.read()).pipe() for _ in range(1000)]
    quick = Client(recording.read()).pipe()
    for client in slow:
        client.hold()
    for _ in range(20):
        recording.write(bytes(100))
    assert all(isinstance(client.error, TooSlow) for client in slow)
    assert len(quick.got) == 2000


def test_a_body_too_large_that_nobody_reads_is_of_no_use() -> None:
    """What no client waits for and no cache will keep is given up, and not held meanwhile."""
    recording, _, left = recorded()
    for _ in range(20):
        recording.write(bytes(100))
    assert left == [1]
    assert recording.held == 0


def test_a_body_that_is_not_worth_keeping_is_only_passed_on() -> None:
    """After `forget` nothing is held that each reader has had."""
    recording, _, _ = recorded()
    client = Client(recording.read()).pipe()
    recording.forget()
    recording.write(bytes(100))
    assert recording.held == 0
    assert client.got == bytes(100)


def test_a_reader_that_leaves_within_a_chunk_gets_no_more() -> None:
    """A client may go at any byte; what else had come is not pushed after it."""
    recording, _, left = recorded()
    for _ in range(5):
        recording.write(b"x")

    class Leaver(Client):
        def write(self, chunk: bytes) -> None:
            super().write(chunk)
            self.leave()

    stream = recording.read()
    leaver = Leaver(stream)
    stream.take()
    leaver.pipe()
    recording.write(b"y")
    recording.write(b"z")
    assert leaver.got == b"y"
    assert left == [1]


def test_a_late_reader_does_not_flood_its_stream() -> None:
    """A reader that joins late and reads slowly holds about what any Stream holds, not the body."""
    recording, _, _ = recorded(10 * HIGH_WATER)
    for _ in range(9 * HIGH_WATER // 4096):
        recording.write(bytes(4096))
    stream = recording.read()
    assert stream._size <= HIGH_WATER + 4096


def test_trailers_come_with_the_end() -> None:
    """Every reader, early or late, gets the trailers."""
    recording, _, _ = recorded()
    early = Client(recording.read()).pipe()
    recording.write(b"a")
    recording.end(TRAILERS)
    late = Client(recording.read()).pipe()
    assert early.trailers == late.trailers == TRAILERS
