"""What `transcode` refuses with, and how a client that speaks MessagePack is told of any error."""

from __future__ import annotations

from proxy.errors import BodyTooLarge, ProxyError, UpstreamError
from proxy.exchange import Request

from ..core.documents import Unsayable, read_json, write_msgpack
from ..core.forms import essence, form_of
from ..core.object_stream import EventFieldReader, to_object
from ..core.sse import EventTooLarge


class NotConvertible(ProxyError):
    """A request's body that the server's form cannot say, or that is no document."""

    status = 400
    code = "request_not_convertible"


class UnsupportedMediaType(ProxyError):
    """A request's form that clients may not send here (RFC 9110 section 15.5.16)."""

    status = 415
    code = "unsupported_media_type"


class CompressedBody(UnsupportedMediaType):
    """A request's body in a coding, which is not undone here."""

    def __init__(self) -> None:
        in_clear = (b"accept-encoding", b"identity")
        super().__init__("a compressed body cannot be converted here", headers=[in_clear])


class NotAcceptable(ProxyError):
    """No form that clients may get here is acceptable (RFC 9110 section 15.5.7)."""

    status = 406
    code = "not_acceptable"


class AnswerNotConvertible(UpstreamError):
    """An answer that the client's form cannot say."""

    code = "answer_not_convertible"


class AnswerTooLarge(UpstreamError):
    """An answer over `max_body`, in one of its forms."""

    code = "answer_too_large"


REQUEST_REFUSALS = (NotConvertible, UnsupportedMediaType, NotAcceptable, BodyTooLarge)
ANSWER_REFUSALS = (AnswerNotConvertible, AnswerTooLarge)


class MsgpackErrors:
    """Errors in the dialect of the request's API, as MessagePack of one of its names."""

    def __init__(self, request: Request, media_type: bytes) -> None:
        self._request = request
        self._media_type = media_type

    def error(self, error: ProxyError) -> tuple[bytes, bytes]:
        """Content type and body; text stays text."""
        content_type, body = self._request.api.error(error)
        if form_of(essence(content_type)) != "json":
            return content_type, body
        try:
            return self._media_type, write_msgpack(read_json(body))
        except Unsayable:
            return content_type, body

    def last_object(self, error: ProxyError) -> bytes:
        """The object that ends a stream: what the API's error event says."""
        event = self._request.api.error_event(error)
        try:
            return b"".join(map(to_object, EventFieldReader().feed(event)))
        except EventTooLarge:
            return b""
