"""How an error looks in each dialect, and that any error at all can be told in it."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st
from openai._streaming import SSEDecoder

from proxy.apis import by_name, render
from proxy.apis.base import MAX_MESSAGE
from proxy.errors import (
    BadRequest,
    BodyTooLarge,
    ConnectFailed,
    InternalError,
    NoRoute,
    ProxyError,
    Unavailable,
    UpstreamClosed,
    UpstreamTimeout,
)

JSON_DIALECTS = ["openai", "tgi", "tei", "kserve"]


def body(api: str, error: ProxyError) -> dict[str, object]:
    content_type, raw = by_name[api].error(error)
    assert content_type == b"application/json"
    return json.loads(raw)


def event(api: str, error: ProxyError) -> dict[str, object]:
    raw = by_name[api].error_event(error)
    assert raw.startswith(b"data: ") and raw.endswith(b"\n\n")
    return json.loads(raw[len(b"data: ") :])


def refused(status: int, code: str = "refused") -> ProxyError:
    return ProxyError("no", status=status, code=code)


@pytest.mark.parametrize(
    ("error", "kind"),
    [
        (BadRequest("no"), "invalid_request_error"),
        (refused(401), "authentication_error"),
        (refused(403), "permission_error"),
        (NoRoute("no"), "invalid_request_error"),
        (BodyTooLarge("no"), "invalid_request_error"),
        (refused(429), "rate_limit_error"),
        (InternalError("no"), "server_error"),
        (Unavailable("no"), "server_error"),
        (UpstreamTimeout("no"), "server_error"),
    ],
)
def test_openai_type_follows_the_status(error: ProxyError, kind: str) -> None:
    """OpenAI's dialect names the class of an error by its status."""
    assert body("openai", error)["error"]["type"] == kind


def test_openai_body_and_event() -> None:
    """OpenAI's error has message, type, param and code, in an answer and in a stream."""
    error = UpstreamClosed("the upstream went away")
    told = {
        "error": {
            "message": "the upstream went away",
            "type": "server_error",
            "param": None,
            "code": "upstream_closed",
        }
    }
    assert body("openai", error) == told
    assert event("openai", error) == told


@pytest.mark.parametrize(
    ("error", "kind"),
    [
        (BadRequest("no"), "validation"),
        (refused(401), "authentication"),
        (refused(403), "authentication"),
        (NoRoute("no"), "validation"),
        (refused(429), "overloaded"),
        (Unavailable("no"), "overloaded"),
        (ConnectFailed("no"), "generation"),
        (UpstreamTimeout("no"), "generation"),
    ],
)
def test_tgi_type_follows_the_status(error: ProxyError, kind: str) -> None:
    """TGI's dialect names an error so that its clients raise the exception meant for it."""
    assert body("tgi", error) == {"error": "no", "error_type": kind, "code": error.code}


def test_tgi_event_is_an_incomplete_generation() -> None:
    """After the first byte, TGI's clients are told that the text is not whole."""
    assert event("tgi", UpstreamTimeout("too slow")) == {
        "error": "too slow",
        "error_type": "incomplete_generation",
        "code": "upstream_timeout",
    }


@pytest.mark.parametrize(
    ("error", "kind"),
    [
        (BadRequest("no"), "Validation"),
        (refused(429), "Overloaded"),
        (Unavailable("no"), "Overloaded"),
        (refused(503, "queue_full"), "Overloaded"),
        (refused(503, "upstream_pool_full"), "Overloaded"),
        (refused(503, "circuit_open"), "Unhealthy"),
        (ConnectFailed("no"), "Backend"),
        (UpstreamTimeout("no"), "Backend"),
    ],
)
def test_tei_type_follows_status_and_code(error: ProxyError, kind: str) -> None:
    """TEI's dialect uses TEI's own type names."""
    told = {"error": "no", "error_type": kind, "code": error.code}
    assert body("tei", error) == told
    assert event("tei", error) == told


def test_kserve_error_is_one_string() -> None:
    """KServe's error object has `error` alone, a string: tritonclient shows it as the message."""
    assert body("kserve", ConnectFailed("refused")) == {"error": "refused"}
    assert event("kserve", ConnectFailed("refused")) == {"error": "refused"}


def test_plain_body_and_event() -> None:
    """Plain text names code and message on one line; the event is named `error`."""
    error = NoRoute("nothing is at /x")
    assert by_name["plain"].error(error) == (
        b"text/plain; charset=utf-8",
        b"no_route: nothing is at /x\n",
    )
    assert by_name["plain"].error_event(error) == (
        b'event: error\ndata: {"error":"nothing is at /x","code":"no_route"}\n\n'
    )


@pytest.mark.parametrize("api", list(by_name))
def test_a_bug_is_told_without_its_message(api: str) -> None:
    """What an InternalError quotes stays in the log, in every dialect."""
    error = InternalError("KeyError: 'sk-secret'")
    assert b"sk-secret" not in by_name[api].error(error)[1] + by_name[api].error_event(error)


@pytest.mark.parametrize("message", ["x" * 5000, "é" * 5000, "x" + "é" * 600, "\U0001f988" * 400])
def test_a_long_message_is_cut(message: str) -> None:
    """A message is cut to MAX_MESSAGE bytes of UTF-8 at a character, and says so."""
    told = body("kserve", BadRequest(message))["error"]
    size = len(told.encode())
    assert MAX_MESSAGE - 4 < size <= MAX_MESSAGE
    assert told.endswith("...") and message.startswith(told[:-3])


def test_a_message_that_fits_is_whole() -> None:
    """A message of exactly MAX_MESSAGE bytes is not touched."""
    assert body("kserve", BadRequest("x" * MAX_MESSAGE)) == {"error": "x" * MAX_MESSAGE}


ANY_TEXT = st.text(st.characters(), max_size=60)  # lone surrogates and line separators, too
STATUS = st.sampled_from([400, 401, 403, 404, 408, 413, 429, 499, 500, 502, 503, 504, 599])


@given(ANY_TEXT, ANY_TEXT, STATUS)
def test_any_error_can_be_told(message: str, code: str, status: int) -> None:
    """Any message and code give a valid body, one header line and exactly one SSE event."""
    error = ProxyError(message, status=status, code=code)
    for name, api in by_name.items():
        response = render(error, api)
        assert isinstance(response.body, bytes)
        told = response.body.decode()
        if name == "plain":
            assert told.splitlines() == [told[:-1]]
        else:
            assert isinstance(json.loads(told), dict)
        assert all(name.isascii() and b"\n" not in value for name, value in response.headers)
        assert (response.header(b"x-remora-error") or b"").isascii()
        assert b"\r" not in (response.header(b"x-remora-error") or b"")

        raw = api.error_event(error)
        events = list(SSEDecoder().iter_bytes(iter([raw])))
        assert len(events) == 1
        assert json.loads(events[0].data)["error"] is not None
        # Clients that read lines the way str.splitlines does see the same event.
        data = [line for line in raw.decode().splitlines() if line.startswith("data: ")]
        assert [json.loads(line[6:]) for line in data] == [json.loads(events[0].data)]


@pytest.mark.parametrize("text", ["a\u2028b", "a\x85b", "a\r\nb", "a\x00b", "a\ud800b"])
def test_what_breaks_lines_is_taken_out(text: str) -> None:
    """Line ends of every kind, NUL and lone surrogates in a message become spaces."""
    told = body("kserve", BadRequest(text))["error"]
    assert told.replace(" ", "") == "ab" and told.isprintable()
