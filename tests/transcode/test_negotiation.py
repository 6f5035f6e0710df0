"""Which form an answer has, by Accept, Content-Type and what the file allows."""

from __future__ import annotations

from typing import Any

import pytest

from middleware.transcode.config import TranscodeConfig
from middleware.transcode.plan import MEMO_ENTRIES, MEMO_VALUE, Plan, Plans
from proxy.errors import ProxyError
from proxy.exchange import Request
from tests.transcode.conftest import MakeRig
from tests.transcode.rig import JSON, MSGPACK, said

J, M, X = "application/json", "application/msgpack", "application/x-msgpack"


def plan(content_type: str | None, accept: str | None, **keys: Any) -> Plan:
    headers = []
    if content_type is not None:
        headers.append((b"Content-Type", content_type.encode()))
    if accept is not None:
        headers += [(b"Accept", line.encode()) for line in accept.split("|")]
    return Plans(TranscodeConfig(**keys)).of(Request(b"POST", b"/", headers))


@pytest.mark.parametrize(
    ("content_type", "accept", "document", "events"),
    [
        # Who accepts anything gets the form that it spoke, or else the server's.
        (None, None, "json", "sse"),
        (J, None, "json", "sse"),
        (J, "*/*", "json", "sse"),
        (M, None, "msgpack", "msgpack"),
        (M, "*/*", "msgpack", "msgpack"),
        (M, "application/*", "msgpack", "msgpack"),
        ("image/png", "*/*", "json", "sse"),
        # Who names one gets it, whatever it spoke.
        (J, M, "msgpack", "msgpack"),
        (M, J, "json", None),
        (J, J, "json", None),
        (None, M, "msgpack", "msgpack"),
        (J, f"{J};q=0.5, {M}", "msgpack", "msgpack"),
        (J, f"{J}|{M};q=0.5", "json", "msgpack"),
        (M, f"{J}, {M};q=0.999", "json", "msgpack"),
        (J, f"{M};q=0.5, */*;q=0.1", "msgpack", "msgpack"),
        (J, f"{M};q=0.1, */*;q=0.5", "json", "sse"),
        # Of equals what is named, then what was spoken, then the server's.
        (J, f"{M}, */*", "msgpack", "msgpack"),
        (M, f"{J}, text/plain, */*", "json", "msgpack"),
        (M, "text/event-stream, */*", "msgpack", "sse"),
        (J, f"{M}, {J}", "json", "msgpack"),
        (M, f"{M}, {J}", "msgpack", "msgpack"),
        (J, f"{M}, text/event-stream", "msgpack", "sse"),
        (M, f"{M}, text/event-stream", "msgpack", "msgpack"),
        (M, f"{M};q=0.9, text/event-stream", "msgpack", "sse"),
        # Not acceptable at all.
        (M, f"{M};q=0, */*", "json", "sse"),
        (J, f"{J};q=0, */*", "msgpack", "sse"),
        (M, "text/event-stream", None, "sse"),
        (J, "text/html", None, None),
    ],
)
def test_forms(
    content_type: str | None, accept: str | None, document: str | None, events: str | None
) -> None:
    """Of a document and of a stream, each by the weights of its own forms."""
    found = plan(content_type, accept)
    assert (found.document, found.events, found.refuse) == (document, events, None)


@pytest.mark.parametrize(
    ("accept", "media_type"),
    [
        (X, X),
        (f"{M};q=0.5, {X}", X),
        (f"{M}, {X}", M),
        (f"{X}, {M}", X),
        ("*/*", "application/vnd.msgpack"),
        (f"{X};q=0, */*", "application/vnd.msgpack"),
        (None, "application/vnd.msgpack"),
    ],
)
def test_the_name_that_the_client_has_for_msgpack(accept: str | None, media_type: str) -> None:
    """The one that it likes best, else the one that it sent."""
    assert plan("application/vnd.msgpack", accept).media_type == media_type.encode()


def test_the_name_where_the_client_has_none() -> None:
    """The file's."""
    found = plan(None, "application/*", clients=("msgpack",), media_type=X)
    assert (found.document, found.media_type) == ("msgpack", X.encode())


@pytest.mark.parametrize(
    ("accept", "sent"),
    [
        (M, J),
        (f"{M}, {X};q=0.3", J),
        (f"{M};q=0.9, text/html;q=0.1 , */*;q=0.01", f"{J}, text/html;q=0.1, */*;q=0.01"),
        (f'text/html;x="a, {M}, b", {M}', f'{J}, text/html;x="a, {M}, b"'),
        ("*/*", None),
        (None, None),
    ],
)
def test_what_the_server_is_told_to_be_acceptable(accept: str | None, sent: str | None) -> None:
    """Its own form in the place of ours; an Accept that names neither goes on as it came."""
    found = plan(M, accept)
    assert found.accept == (None if sent is None else sent.encode())


def refusal(*args: Any, **keys: Any) -> ProxyError | None:
    refuse = plan(*args, **keys).refuse
    return None if refuse is None else refuse()


@pytest.mark.parametrize(
    ("content_type", "accept", "keys", "status"),
    [
        (M, None, {"clients": ("json",)}, 415),
        (X, J, {"clients": ("json",)}, 415),
        (J, None, {"clients": ("msgpack",)}, 415),
        ("application/problem+json", None, {"clients": ("msgpack",)}, 415),
        ("text/plain", "*/*", {"clients": ("msgpack",)}, None),
        (J, M, {"clients": ("json",)}, 406),
        (J, f"{M}, {X};q=0.5", {"clients": ("json",)}, 406),
        (M, J, {"clients": ("msgpack",)}, 406),
        (J, f"{J};q=0, {M};q=0", {}, 406),
        (J, "*/*;q=0", {}, 406),
        (J, f"{J};q=0", {}, 406),
        # Something else is acceptable: the server may have it.
        (J, f"{M}, text/html", {"clients": ("json",)}, None),
        (J, "text/html", {}, None),
        (J, "image/*;q=0.1", {}, None),
        (J, f"text/html;q=0, {J};q=0", {}, 406),
    ],
)
def test_refusals(
    content_type: str, accept: str | None, keys: dict[str, Any], status: int | None
) -> None:
    """415 and 406 only where the file and the client leave nothing."""
    error = refusal(content_type, accept, **keys)
    assert (None if error is None else error.status) == status


@pytest.mark.parametrize("upstream", ["json", "msgpack"])
def test_what_has_nothing_to_do_passes(upstream: str) -> None:
    """A JSON client of a JSON server; and of another, nobody."""
    for accept in (None, "*/*", J, "text/event-stream", f"{J}, text/event-stream"):
        assert plan(J, accept, upstream=upstream).passes == (upstream == "json")
    assert not plan(M, M, upstream=upstream).passes
    assert plan("image/png", "image/*", upstream=upstream).passes


def test_the_table_of_plans_is_bounded() -> None:
    """Full, it is emptied; what is too long is not in it."""
    plans = Plans(TranscodeConfig())
    for number in range(MEMO_ENTRIES):
        plans.of(Request(b"POST", b"/", [(b"accept", b"a/%d" % number)]))
    assert len(plans._known) == MEMO_ENTRIES
    plans.of(Request(b"POST", b"/", [(b"accept", b"a/x")]))
    assert len(plans._known) == 1
    for size, kept in ((MEMO_VALUE, 2), (MEMO_VALUE + 1, 2)):
        plans.of(Request(b"POST", b"/", [(b"accept", b"a/" + b"a" * (size - 2))]))
        assert len(plans._known) == kept


async def test_refused_on_the_wire(rig: MakeRig) -> None:
    """In the API's dialect, before the server is asked; the connection goes on."""
    one = await rig(said({}), clients=["json"])
    answer = await one.ask(b"\x80", f"Content-Type: {MSGPACK}")
    assert (answer.status, answer["x-remora-error"]) == (415, "unsupported_media_type")
    assert (answer["accept"], answer["content-type"]) == (JSON, JSON)
    answer = await one.json({}, f"Accept: {MSGPACK}")
    assert (answer.status, answer["x-remora-error"]) == (406, "not_acceptable")
    assert b'"code":"not_acceptable"' in answer.body and b"application/json" in answer.body
    assert one.server.seen == []
    assert (await one.json({}, f"Accept: {JSON}")).status == 200
    for code in ("unsupported_media_type", "not_acceptable"):
        assert one.count("remora_transcode_refused_total", route="/*", code=code) == 1


async def test_a_compressed_body_is_not_converted(rig: MakeRig) -> None:
    """415 says which coding would do; one in the server's own form passes compressed."""
    one = await rig(said({}))
    answer = await one.pack({}, "Content-Encoding: gzip")
    assert (answer.status, answer["accept-encoding"]) == (415, "identity")
    assert (await one.pack({}, "Content-Encoding: identity")).status == 200
    assert (await one.ask(b"zip", f"Content-Type: {JSON}", "Content-Encoding: gzip")).status == 200
    assert one.server.last.body == b"zip"
