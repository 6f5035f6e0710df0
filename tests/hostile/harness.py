"""Remora between a client that writes raw bytes and an upstream that writes them down."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from contextlib import ExitStack, asynccontextmanager, closing

from proxy.loader import load_text
from proxy.server import Server

from .case import NEVER, Case, Seen
from .upstreams import Backstage, Received, Script, Upstream, echo
from .wire import PATIENCE, Address, Wire

FILE = """
listen: 127.0.0.1:0
admin: off
forwarded: off
upstreams: {default: {endpoints: ["URL"]}}
"""


@asynccontextmanager
async def remora_before(upstream: str) -> AsyncIterator[Address]:
    """Remora with an empty chain in front of `upstream` (a URL). Gives where it listens."""
    server = Server(load_text(FILE.replace("URL", upstream), "hostile.yaml"))
    try:
        await server.start()
        host, _, port = server.addresses[0].rpartition(":")
        yield host, int(port)
    finally:
        await server.stop()


class Stage:
    """One remora and one upstream for many cases, played one after the other."""

    def __init__(self, script: Script = echo) -> None:
        self._exits = ExitStack()
        try:
            self.backstage = self._exits.enter_context(closing(Backstage()))
            self.upstream = self._exits.enter_context(closing(Upstream(self.backstage, script)))
            remora = remora_before("http://" + self.upstream.authority)
            self.address = self.backstage.run(remora.__aenter__())
            self._exits.callback(lambda: self.backstage.run(remora.__aexit__(None, None, None)))
            self._pinger = self._exits.enter_context(Wire(self.address))
        except BaseException:
            self.close()
            raise

    def close(self) -> None:
        self._exits.close()

    def ping(self) -> None:
        """A clean exchange on a connection of its own.

        When it is over, remora has read what was written to its other connections before, and the
        upstream what remora wrote for them: no test needs to sleep. It also shows remora alive.
        """
        pinger = self._pinger
        pinger.received = b""
        pinger.send(b"GET /ping HTTP/1.1\r\nHost: ping\r\n\r\n")
        answers, _ = pinger.read(1, [])
        assert [(a.status, a.body) for a in answers] == [(200, b"/ping")], "remora is not well"

    def forget(self) -> None:
        """A new page for the next case."""
        self.upstream.forget()

    def seen(self) -> list[Seen]:
        """Whole requests that came upstream since, without pings."""
        return [request.seen for request in self.requests()]

    def requests(self) -> list[Received]:
        """Whole requests that came upstream since, without pings."""
        return [request for request in self.upstream.requests if request.target != b"/ping"]

    # -- cases

    def play(self, case: Case, pieces: list[bytes]) -> None:
        """Sends the case in these pieces, each read before the next. Fails where it is broken."""
        self.forget()
        with Wire(self.address) as wire:
            for number, piece in enumerate(pieces):
                if number:
                    self.ping()
                    if case.kind != "passed" and wire.refused(len(case.sees)):
                        break
                wire.send(piece)
            if case.eof:
                self.ping()
                wire.end()
            try:
                if case.kind == "passed":
                    self._passes(case, wire)
                else:
                    self._ends(case, wire)
            except TimeoutError:
                raise AssertionError(
                    f"nothing more after {PATIENCE} s, but {wire.received[:300]!r}"
                ) from None
        self.ping()
        assert not self.upstream.violations, self.upstream.violations

    def _passes(self, case: Case, wire: Wire) -> None:
        sees = [_named(seen, self.upstream.authority) for seen in case.sees]
        methods = [seen.start.partition(b" ")[0] for seen in sees]
        if case.closes:
            answers, rest = wire.read_to_end(methods)
        else:
            # The request behind shows that both sides agree on where the last one ended.
            wire.read(len(sees), methods)
            wire.send(b"GET /after HTTP/1.1\r\nHost: h\r\n\r\n")
            sees.append(Seen(b"GET /after", (b"Host: h",)))
            answers, rest = wire.read(len(sees), methods)
        assert self.seen() == sees
        targets = [seen.start.partition(b" ")[2] for seen in sees]
        bodies = [
            b"" if s.start.startswith(b"HEAD ") else t for s, t in zip(sees, targets, strict=True)
        ]
        assert [(a.status, a.body) for a in answers] == [(200, body) for body in bodies]
        assert not rest
        assert not wire.ended or case.closes

    def _ends(self, case: Case, wire: Wire) -> None:
        methods = [seen.start.partition(b" ")[0] for seen in case.sees]
        answers, rest = wire.read_to_end(methods)
        self.ping()
        assert self.seen() == list(case.sees), "the upstream saw another request"
        clean, last = answers[: len(case.sees)], answers[len(case.sees) :]
        assert [a.status for a in clean] == [200] * len(case.sees)
        assert not rest and all(answer.whole for answer in answers), answers
        if case.kind == "cut":
            self.upstream.wait_dropped()
            assert len(last) <= 1
        else:
            assert not self.upstream.partial(), "a piece of it went upstream"
            assert len(last) == 1, last or "closed without an answer"
        for answer in last:
            assert answer.status in case.status, answer
            assert answer.get(b"connection") == b"close", answer


def _named(seen: Seen, authority: str) -> Seen:
    fields = tuple(f.replace(b"UPSTREAM", authority.encode()) for f in seen.fields)
    return Seen(seen.start, fields, seen.body, seen.trailers)


def pieces(case: Case, manner: str) -> list[bytes]:
    """The case's bytes in one of the MANNERS."""
    raw = case.raw
    if manner == "whole":
        return [raw]
    if manner == "followed":
        return [raw + NEVER]
    if manner == "bytes":
        return [raw[at : at + 1] for at in range(len(raw))]
    return list(_split(raw))


def _split(raw: bytes) -> Iterator[bytes]:
    """Cuts inside the first, a middle and the last line end, and in the middle of the whole."""
    ends = [at + 1 for at, byte in enumerate(raw) if byte == 0x0D]
    wanted = {len(raw) // 2, *ends[:1], *ends[len(ends) // 2 :][:1], *ends[-2:]}
    start = 0
    for cut in sorted(wanted & set(range(1, len(raw)))):
        yield raw[start:cut]
        start = cut
    yield raw[start:]
