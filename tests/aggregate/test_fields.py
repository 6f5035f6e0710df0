"""Which header fields keep requests apart."""

from __future__ import annotations

import pytest

from middleware.aggregate.fields import MAX_NAMES, apart, patience_of, tenant_of
from proxy.exchange import Headers, Request

ALIKE: Headers = [
    (b"Content-Length", b"7"), (b"X-Request-ID", b"1"), (b"traceparent", b"1"), (b"B3", b"1"),
    (b"X-Forwarded-For", b"10.0.0.1"), (b"User-Agent", b"a"), (b"X-Stainless-OS", b"Linux"),
    (b"Accept-Encoding", b"gzip"), (b"Inference-Header-Content-Length", b"90"),
    (b"X-Client-Request-Id", b"1"), (b"x-datadog-trace-id", b"1"),
    (b"X-Envoy-External-Address", b"::1"),
]  # fmt: skip


def test_every_field_counts_that_is_not_known_to_mean_nothing() -> None:
    """By its name whatever its case, by its value, and by its order."""
    fields = apart(False, [])
    assert fields(ALIKE) == ()
    plain: Headers = [(b"Authorization", b"a"), (b"X-Any", b"1")]
    assert fields([*ALIKE, *plain]) == fields([(b"AUTHORIZATION", b"a"), (b"x-any", b"1")])
    for other in ([plain[0]], [plain[0], (b"x-any", b"2")], plain[::-1], [*plain, plain[1]]):
        assert fields(other) != fields(plain)


def test_what_the_file_says_counts() -> None:
    """Further names that mean nothing, and credentials that make no difference."""
    headers: Headers = [(b"Authorization", b"a"), (b"Cookie", b"b"), (b"X-Any", b"1")]
    assert apart(True, [b"x-any"])(headers) == ()
    assert apart(False, [b"x-any"])(headers) == ((b"authorization", b"a"), (b"cookie", b"b"))


def test_names_are_remembered_up_to_a_bound() -> None:
    """Clients choose them; one that is not remembered counts all the same."""
    fields = apart(False, [])
    for number in range(2 * MAX_NAMES):
        name = b"X-%d" % number
        assert fields([(name, b"v"), ALIKE[1]]) == ((name.lower(), b"v"),)
    assert fields.__closure__ is not None
    (known,) = [c.cell_contents for c in fields.__closure__ if isinstance(c.cell_contents, dict)]
    assert len(known) == MAX_NAMES


def test_a_tenant_is_who_auth_says_or_who_has_the_credential() -> None:
    """Nobody in particular where there is neither."""
    request = Request(b"POST", b"/", [(b"X-Api-Key", b"k"), (b"Host", b"h")])
    by_key = tenant_of(request, request.headers)
    assert by_key is not None and hash(by_key)
    request.tenant = "named"
    assert tenant_of(request, request.headers) == "named"
    assert tenant_of(Request(b"POST", b"/", []), [(b"Host", b"h")]) is None


@pytest.mark.parametrize(
    ("name", "value", "seconds"),
    [
        (b"x-timeout", b"2.5", 2.5), (b"x-timeout-ms", b"250", 0.25), (b"x-timeout", b"0", 0.0),
        (b"x-timeout", b"soon", None), (b"x-timeout", b"-1", None), (b"x-timeout", b"nan", None),
        (b"x-timeout", b"inf", None), (b"x-timeout", b"9" * 21, None), (b"x-other", b"1", None),
    ],
)  # fmt: skip
def test_a_clients_patience(name: bytes, value: bytes, seconds: float | None) -> None:
    """Seconds, or milliseconds by the name; what is no time is as if it were not there."""
    request = Request(b"POST", b"/", [(name, value)])
    wanted = b"x-timeout" if name == b"x-other" else name
    assert patience_of(request, wanted) == seconds
