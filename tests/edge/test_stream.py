"""Stream, and how a Request tells that it ended: no sockets."""

from __future__ import annotations

import asyncio
import logging

import pytest

from proxy.errors import BodyTooLarge, UpstreamClosed
from proxy.exchange import Outcome, Request, Stream
from proxy.stream import HIGH_WATER, Headers


class Source:
    """Notes what it is told."""

    def __init__(self) -> None:
        self.told: list[str] = []

    def pause(self) -> None:
        self.told.append("pause")

    def resume(self) -> None:
        self.told.append("resume")

    def abort(self) -> None:
        self.told.append("abort")


class Sink:
    """Notes what it gets."""

    def __init__(self) -> None:
        self.got: list[object] = []

    def write(self, chunk: bytes) -> None:
        self.got.append(chunk)

    def end(self, trailers: Headers) -> None:
        self.got.append(trailers)

    def fail(self, error: Exception) -> None:
        self.got.append(error)


# -- reading


async def test_read() -> None:
    """What has come is read in one piece, then each piece as it comes, then b"" for ever."""
    stream = Stream()
    stream.feed(b"a")
    stream.feed(b"b")
    assert await stream.read() == b"ab"
    reading = asyncio.create_task(stream.read())
    await asyncio.sleep(0)
    stream.feed(b"c")
    assert await reading == b"c"
    stream.end([(b"X", b"y")])
    assert [await stream.read() for _ in range(2)] == [b"", b""]
    assert stream.complete
    assert stream.trailers == [(b"X", b"y")]


async def test_read_wakes_at_the_end() -> None:
    """A reader that waits is woken by the end, and by a failure."""
    for finish in (Stream.end, lambda stream: stream.fail(UpstreamClosed("gone"))):
        stream = Stream()
        reading = asyncio.create_task(stream.read())
        await asyncio.sleep(0)
        finish(stream)
        if stream.complete:
            assert await reading == b""
        else:
            with pytest.raises(UpstreamClosed):
                await reading


async def test_failure_comes_last() -> None:
    """What was fed before a failure is delivered first; the failure is raised each time."""
    stream = Stream()
    stream.feed(b"a")
    stream.fail(UpstreamClosed("gone"))
    assert await stream.read() == b"a"
    for _ in range(2):
        with pytest.raises(UpstreamClosed):
            await stream.read()
    assert stream.done and not stream.complete


async def test_a_cancelled_reader_loses_nothing() -> None:
    """A read that is cancelled leaves what comes to the next one."""
    stream = Stream()
    reading = asyncio.create_task(stream.read())
    await asyncio.sleep(0)
    reading.cancel()
    with pytest.raises(asyncio.CancelledError):
        await reading
    stream.feed(b"a")
    assert await stream.read() == b"a"


async def test_read_all() -> None:
    """The whole body up to the bound, bound included."""
    stream = Stream()
    stream.feed(b"x" * 5)
    stream.feed(b"y" * 5)
    stream.end()
    assert await stream.read_all(10) == b"xxxxxyyyyy"


async def test_read_all_over_its_bound() -> None:
    """One byte more is refused before the rest has come, and the source told to stop."""
    source = Source()
    stream = Stream(source)
    stream.feed(b"x" * 11)
    with pytest.raises(BodyTooLarge):
        await stream.read_all(10)
    assert source.told[-1] == "abort"


async def test_read_all_that_puts_back() -> None:
    """A body that proves too large is there again, from its beginning, and goes on."""
    source = Source()
    stream = Stream(source)
    for piece in (b"x" * 5, b"y" * 6):
        stream.feed(piece)
    with pytest.raises(BodyTooLarge):
        await stream.read_all(10, put_back=True)
    assert "abort" not in source.told
    stream.feed(b"z")
    stream.end()
    assert await stream.read_all(12) == b"xxxxxyyyyyyz"


async def test_an_empty_chunk_is_no_end() -> None:
    """A producer that feeds b"" has said nothing: no reader and no sink takes it for the end."""
    stream = Stream()
    stream.feed(b"")
    stream.feed(b"a")
    stream.end()
    assert await stream.read_all(10) == b"a"
    sink = Sink()
    piped = Stream()
    piped.pipe(sink)
    piped.feed(b"")
    assert sink.got == []


def test_take() -> None:
    """`take` gives what has come without waiting, once."""
    stream = Stream()
    assert stream.take() == b""
    stream.feed(b"a")
    stream.feed(b"b")
    assert (stream.take(), stream.take()) == (b"ab", b"")


async def test_unread() -> None:
    """What was read and is put back comes first, to a reader and to a sink alike, whatever has
    come meanwhile; also where the stream has ended or failed by then.
    """
    error = UpstreamClosed("gone")
    for finish, last in ((lambda s: s.end(), []), (lambda s: s.fail(error), error)):
        stream, sink = Stream(), Sink()
        stream.feed(b"a")
        seen = await stream.read()
        stream.feed(b"b")
        finish(stream)
        stream.unread(seen)
        assert not stream.piped
        stream.pipe(sink)
        assert sink.got == [b"a", b"b", last]
        assert stream.piped
    stream = Stream()
    stream.unread(b"")
    stream.unread(b"b")
    stream.unread(b"a")
    assert await stream.read() == b"ab"


async def test_unread_holds_the_source() -> None:
    """Bytes put back count like those that came: over HIGH_WATER the source waits for a taker."""
    source = Source()
    stream = Stream(source)
    stream.feed(b"x" * HIGH_WATER)
    seen = await stream.read()
    stream.feed(b"y")
    assert source.told == []
    stream.unread(seen)
    assert source.told == ["pause"]
    stream.pipe(Sink())
    assert source.told == ["pause", "resume"]


# -- piping


def test_pipe() -> None:
    """A sink gets what has come, then each chunk in the producer's own call, then the end."""
    stream, sink = Stream(), Sink()
    stream.feed(b"a")
    stream.pipe(sink)
    assert sink.got == [b"a"]
    stream.feed(b"b")
    assert sink.got == [b"a", b"b"]
    stream.end([(b"X", b"y")])
    assert sink.got == [b"a", b"b", [(b"X", b"y")]]


def test_pipe_when_all_has_come() -> None:
    """A sink attached late gets everything, the end or the failure too, exactly once."""
    error = UpstreamClosed("gone")
    for finish, last in ((lambda s: s.end(), []), (lambda s: s.fail(error), error)):
        stream, sink = Stream(), Sink()
        stream.feed(b"a")
        finish(stream)
        stream.pipe(sink)
        finish(stream)
        assert sink.got == [b"a", last]


def test_the_first_word_counts() -> None:
    """After an end a failure changes nothing, nor the other way round."""
    for first, second in ((Stream.end, Stream.fail), (Stream.fail, Stream.end)):
        stream, sink = Stream(), Sink()
        stream.pipe(sink)
        first(stream, *([] if first is Stream.end else [UpstreamClosed("gone")]))
        second(stream, *([] if second is Stream.end else [UpstreamClosed("gone")]))
        assert len(sink.got) == 1


# -- holding the source


async def test_source_is_held_while_too_much_waits() -> None:
    """Over HIGH_WATER the source is paused, once; reading lets it go on."""
    source = Source()
    stream = Stream(source)
    stream.feed(b"x" * HIGH_WATER)
    assert source.told == []
    stream.feed(b"x")
    stream.feed(b"x")
    assert source.told == ["pause"]
    assert stream.held
    assert len(await stream.read()) == HIGH_WATER + 2
    reading = asyncio.create_task(stream.read())
    await asyncio.sleep(0)
    assert source.told == ["pause", "resume"]
    stream.end()
    assert await reading == b""


def test_pipe_lets_a_held_source_go_on() -> None:
    """A sink takes all there is, so what was held is resumed; the sink may hold it again."""
    source = Source()
    stream = Stream(source)
    stream.feed(b"x" * (HIGH_WATER + 1))
    stream.pipe(Sink())
    assert source.told == ["pause", "resume"]
    stream.pause()
    stream.pause()
    stream.resume()
    stream.resume()
    assert source.told == ["pause", "resume", "pause", "resume"]


def test_a_source_that_is_done_is_left_alone() -> None:
    """After the end nobody is paused, resumed or aborted: the connection serves another."""
    source = Source()
    stream = Stream(source)
    stream.end()
    stream.pause()
    stream.resume()
    stream.abort()
    assert source.told == []


def test_abort_once() -> None:
    """The source is told once that nobody reads on, and nothing after it."""
    source = Source()
    stream = Stream(source)
    stream.abort()
    stream.abort()
    stream.pause()
    stream.resume()
    assert source.told == ["abort"]


# -- on_end


def request(body: bytes | Stream = b"") -> Request:
    return Request(b"POST", b"/a?b", [(b"Host", b"h"), (b"X-A", b"1"), (b"x-a", b"2")], body)


def test_on_end_last_in_first_out() -> None:
    """Callbacks run the last added first, with the Outcome, exactly once."""
    one = request()
    ran: list[tuple[int, Outcome]] = []
    for number in range(3):
        one.on_end(lambda outcome, number=number: ran.append((number, outcome)))
    one.outcome.status = 200
    one.finish()
    one.finish()
    assert [number for number, _ in ran] == [2, 1, 0]
    assert all(outcome is one.outcome and outcome.status == 200 for _, outcome in ran)


def test_on_end_when_one_raises(caplog: pytest.LogCaptureFixture) -> None:
    """One that raises stops no other, and is logged with its traceback."""
    one = request()
    ran: list[int] = []

    def fails(outcome: Outcome) -> None:
        ran.append(1)
        raise ValueError("broken")

    one.on_end(lambda outcome: ran.append(2))
    one.on_end(fails)
    one.on_end(lambda outcome: ran.append(0))
    with caplog.at_level(logging.ERROR, "remora"):
        one.finish()
    assert ran == [0, 1, 2]
    assert "ValueError: broken" in caplog.text


def test_settle(caplog: pytest.LogCaptureFixture) -> None:
    """Those who came since the mark are told, the last first and once, even where one raises; the
    others wait for the end.
    """
    one = request()
    ran: list[tuple[str, Outcome]] = []

    def fails(outcome: Outcome) -> None:
        raise ValueError("broken")

    assert one.ends == 0
    one.settle(0, Outcome())
    one.on_end(lambda outcome: ran.append(("outer", outcome)))
    mark = one.ends
    one.on_end(lambda outcome: ran.append(("first", outcome)))
    one.on_end(fails)
    one.on_end(lambda outcome: ran.append(("second", outcome)))
    attempt = Outcome()
    one.settle(mark, attempt)
    one.settle(mark, Outcome())
    assert [name for name, _ in ran] == ["second", "first"]
    assert all(outcome is attempt for _, outcome in ran)
    assert "ValueError: broken" in caplog.text
    one.finish()
    assert ran[2:] == [("outer", one.outcome)]


def test_fork() -> None:
    """A fork has the target, headers, tenant and trace; its own headers list, body and on_end."""
    one = request(b"whole")
    one.tenant, one.label, one.client = "t", "route", "192.0.2.1"
    ran: list[str] = []
    one.on_end(lambda outcome: ran.append("one"))
    twin = one.fork(b"part")
    assert (twin.method, twin.target, twin.path) == (b"POST", b"/a?b", b"/a")
    assert (twin.body, one.body) == (b"part", b"whole")
    assert (twin.tenant, twin.label, twin.client) == ("t", "route", "192.0.2.1")
    assert twin.headers == one.headers and twin.headers is not one.headers
    twin.on_end(lambda outcome: ran.append("twin"))
    twin.finish()
    assert ran == ["twin"]
    one.finish()
    assert ran == ["twin", "one"]
    assert twin.outcome is not one.outcome


def test_fork_needs_a_body_in_memory() -> None:
    """A body that streams cannot be had twice."""
    with pytest.raises(TypeError, match=r"await request\.read\(\)"):
        request(Stream()).fork()
    assert request(b"x").fork().body == b"x"
    assert request(Stream()).fork(b"y").body == b"y"


async def test_request_read_once() -> None:
    """The body is read into memory once; each call checks its own bound."""
    stream = Stream()
    stream.feed(b"body")
    stream.end()
    one = request(stream)
    one.declared = stream
    assert await one.read(4) == b"body"
    assert await one.read(4) == b"body"
    assert one.body == one.declared == b"body"
    with pytest.raises(BodyTooLarge):
        await one.read(3)


def test_header_look_up() -> None:
    """The first value, whatever the case; None where there is none."""
    one = request()
    assert (one.header(b"x-a"), one.header(b"host"), one.header(b"x")) == (b"1", b"h", None)


def test_json_is_parsed_once() -> None:
    """The parsed body is the same object each time; what is no JSON is None."""
    one = request(b'{"a": 1}')
    assert one.json() == {"a": 1}
    assert one.json() is one.json()
    assert request(b"{").json() is None
    assert request(Stream()).json() is None


async def test_a_source_that_gives_within_resume_is_heard() -> None:
    """One that has more at hand feeds it, and the end, in the call that asks for it: nobody would
    wake the reader afterwards.
    """

    class Held(Source):
        def resume(self) -> None:
            super().resume()
            stream.feed(b"b")
            stream.end()

    stream = Stream(Held())
    stream.feed(b"a" * (HIGH_WATER + 1))
    assert stream.held
    whole = await asyncio.wait_for(stream.read_all(HIGH_WATER + 2), 5)
    assert whole == b"a" * (HIGH_WATER + 1) + b"b"
