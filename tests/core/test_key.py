"""What makes two requests the same: canonical JSON, JSON Pointers, digests, tenants."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from middleware.core.key import (
    KEY_BYTES,
    NotCanonical,
    canonical,
    digest,
    pointer,
    tenant_of,
    tenants,
)
from proxy.exchange import Request

TEXT = st.text(st.characters(exclude_categories=["Cs"]), max_size=6)
NUMBERS = st.one_of(
    st.integers(-(10**17) + 1, 10**17 - 1),
    st.floats(allow_nan=False, allow_infinity=False).filter(
        lambda one: sum(map(str.isdigit, repr(one).partition("e")[0])) < 18
    ),
)
JSON: st.SearchStrategy[Any] = st.recursive(
    st.one_of(st.none(), st.booleans(), NUMBERS, TEXT),
    lambda inner: st.one_of(st.lists(inner, max_size=4), st.dictionaries(TEXT, inner, max_size=4)),
    max_leaves=12,
)


def means(value: Any) -> Any:
    """`value` in a form that tells apart what JSON tells apart: 1, 1.0 and true differ."""
    if isinstance(value, dict):
        return {key: means(one) for key, one in value.items()}
    if isinstance(value, list):
        return [means(one) for one in value]
    return repr(value)


def shuffled(value: Any, draw: Any) -> Any:
    if isinstance(value, dict):
        return {key: shuffled(value[key], draw) for key in draw(st.permutations(list(value)))}
    if isinstance(value, list):
        return [shuffled(one, draw) for one in value]
    return value


@given(JSON, st.data())
def test_order_white_space_and_escapes_do_not_matter(value: Any, data: st.DataObject) -> None:
    """One meaning, however it is written, has one canonical form."""
    indent = data.draw(st.sampled_from([None, 1, 4]))
    escaped = data.draw(st.booleans())
    again = json.dumps(shuffled(value, data.draw), indent=indent, ensure_ascii=escaped)
    assert canonical(again.encode()) == canonical(json.dumps(value).encode())


@given(JSON, JSON)
def test_forms_are_equal_only_where_meanings_are(one: Any, other: Any) -> None:
    """Two bodies have the same canonical form if and only if they mean the same."""
    same = canonical(json.dumps(one).encode()) == canonical(json.dumps(other).encode())
    assert same == (means(one) == means(other))


def test_a_small_fraction_has_no_more_digits_for_its_zeros() -> None:
    """It is one number however it is written: JavaScript writes it out where Python does not."""
    written = b'{"a":[0.00002847411883125388,-0.00001234567890123457]}'
    assert canonical(written) == canonical(b'{"a":[2.847411883125388e-05,-1.234567890123457E-5]}')


@given(JSON)
@example(2.847411883125388e-05)
def test_a_canonical_form_is_its_own(value: Any) -> None:
    """What is canonical stays as it is, and still means what was sent."""
    form = canonical(json.dumps(value).encode())
    assert canonical(form) == form
    assert means(json.loads(form)) == means(value)


@pytest.mark.parametrize(
    ("one", "other"),
    [
        (b'{"a":1}', b'{"a":1.0}'),
        (b'{"a":1}', b'{"a":"1"}'),
        (b'{"a":null}', b"{}"),
        (b'{"a":[1,2]}', b'{"a":[2,1]}'),
        (b'{"a":true}', b'{"a":1}'),
        (b'{"A":1}', b'{"a":1}'),
        (b'{"a":""}', b'{"a":" "}'),
        (b'{"a":{"b":1}}', b'{"a":1,"b":1}'),
        (b'"\\u00e9"', b'"e\\u0301"'),
        (b'{"logit_bias":{"50256":-100}}', b'{"logit_bias":{"50256":-99}}'),
    ],
)
def test_every_other_difference_counts(one: bytes, other: bytes) -> None:
    """A parameter more, another type, another order of a list: another question."""
    assert canonical(one) != canonical(other)


@pytest.mark.parametrize(
    "body",
    [
        b'{"a":1,"a":1}',
        b'{"a":1,"\\u0061":2}',
        b'{"a":{"b":":","b":"::"}}',
        b'{"a":"\\u003a","a":"::"}',
        b'{"a":"\\u003A:","b":1,"b":2}',
        b'[{"a":1,"b":2,"a":3}]',
        b'{"a":"\\ud800"}',
        b'{"\\udc00":1}',
        b'{"a":NaN}',
        b'{"a":Infinity}',
        b'{"a":1e400}',
        b'{"a":123456789012345678901234567890}',
        b'{"a":100000000000000000000}',
        b'{"a":0.1000000000000000055511151231257827}',
        b'{"a":0.00001000000000000000055}',
        b'{"a":1.000000000000000000001}',
        b'{"a":10.00000000000000000001}',
        b'{"a":1}{"b":2}',
        b'{"a":1,}',
        b"{'a':1}",
        b'{"a":"\xff"}',
        b"",
        b"{",
        b"not json",
        b"\xef\xbb\xbf{}",
        b"[" * 400 + b"]" * 400,
        b"[" * 5000 + b"]" * 5000,
    ],
)
def test_what_has_no_one_meaning_is_refused(body: bytes) -> None:
    """Two servers could read it in two ways, or none could: it has no canonical form."""
    with pytest.raises(NotCanonical):
        canonical(body)


@given(st.binary(max_size=40))
def test_no_bytes_break_it(body: bytes) -> None:
    """Whatever comes is canonical or NotCanonical, and nothing else is raised."""
    try:
        canonical(body)
    except NotCanonical:
        pass


@given(st.dictionaries(TEXT, JSON, min_size=1, max_size=4), st.data())
def test_no_duplicate_member_passes(members: dict[str, Any], data: st.DataObject) -> None:
    """A member that stands twice is refused, wherever it stands and whatever it holds."""
    twice = data.draw(st.sampled_from(list(members)))
    pairs = [*members.items(), (twice, data.draw(JSON))]
    pairs = data.draw(st.permutations(pairs))
    written = ",".join(f"{json.dumps(key)}:{json.dumps(value)}" for key, value in pairs)
    with pytest.raises(NotCanonical):
        canonical(("{" + written + "}").encode())


@pytest.mark.parametrize(
    ("ignored", "one", "other"),
    [
        ("/user", b'{"user":"a","x":1}', b'{"x":1}'),
        ("/user", b'{"user":{"deep":[1]},"x":1}', b'{"x":1,"user":null}'),
        ("/metadata/id", b'{"metadata":{"id":1,"k":2}}', b'{"metadata":{"k":2}}'),
        ("/a~1b", b'{"a/b":1,"x":1}', b'{"x":1}'),
        ("/m~0n", b'{"m~n":1}', b"{}"),
        ("/", b'{"":1,"x":2}', b'{"x":2}'),
        ("/list/0/id", b'{"list":[{"id":1,"t":"a"}]}', b'{"list":[{"t":"a"}]}'),
    ],
)
def test_what_a_pointer_names_does_not_count(ignored: str, one: bytes, other: bytes) -> None:
    """A JSON Pointer of `ignore` takes its member out of the question, escapes and all."""
    path = [pointer(ignored)]
    assert canonical(one, path) == canonical(other, path)
    assert canonical(one) != canonical(other)


@pytest.mark.parametrize(
    ("ignored", "one", "other"),
    [
        ("/user", b'{"x":{"user":1}}', b'{"x":{"user":2}}'),
        ("/a/b", b'{"a":[{"b":1}]}', b'{"a":[{"b":2}]}'),
        ("/a/b", b'{"a":"b"}', b'{"a":"c"}'),
        ("/list/01/id", b'{"list":[{},{"id":1}]}', b'{"list":[{},{"id":2}]}'),
        ("/list/9/id", b'{"list":[{"id":1}]}', b'{"list":[{"id":2}]}'),
        ("/list/\u0661/id", b'{"list":[{},{"id":1}]}', b'{"list":[{},{"id":2}]}'),
    ],
)
def test_a_pointer_names_nothing_else(ignored: str, one: bytes, other: bytes) -> None:
    """What a pointer does not name counts, whatever it looks like."""
    path = [pointer(ignored)]
    assert canonical(one, path) != canonical(other, path)


def test_a_duplicate_is_refused_though_it_is_ignored() -> None:
    """An ignored member that stands twice still has no one meaning."""
    with pytest.raises(NotCanonical):
        canonical(b'{"user":1,"user":2}', [pointer("/user")])


@pytest.mark.parametrize("text", ["", "user", "/a~2", "/a~", "a/b"])
def test_a_wrong_pointer_is_told(text: str) -> None:
    """What is no JSON Pointer is a mistake in the file."""
    with pytest.raises(ValueError):
        pointer(text)


@given(st.lists(st.binary(max_size=5), max_size=4), st.lists(st.binary(max_size=5), max_size=4))
def test_digests_differ_where_parts_do(one: list[bytes], other: list[bytes]) -> None:
    """No two lists of parts have one digest: moving a byte across a boundary shows."""
    assert (digest(one) == digest(other)) == (one == other)
    assert len(digest(one)) == KEY_BYTES


def test_a_tenant_is_its_credentials() -> None:
    """Each credential has a name that gives nothing away; who has none is nobody."""
    name = tenants(b"secret")
    alice = name([(b"Authorization", b"Bearer alice-token")])
    assert alice == name([(b"accept", b"x"), (b"authorization", b"Bearer alice-token")])
    assert alice != name([(b"authorization", b"Bearer bob-token")])
    assert alice != name([(b"authorization", b"bearer alice-token")])
    assert name([(b"accept", b"text/plain")]) == b""
    assert b"alice" not in alice and len(alice) == 32


def test_every_credential_counts() -> None:
    """A key in another field, or a cookie beside it, is another tenant."""
    name = tenants(b"secret")
    a, b = b"T1", b"T2"
    all_names = [
        name([]),
        name([(b"authorization", a)]),
        name([(b"x-api-key", a)]),
        name([(b"api-key", a)]),
        name([(b"cookie", a)]),
        name([(b"authorization", a), (b"x-api-key", b)]),
        name([(b"x-api-key", a), (b"authorization", b)]),
        name([(b"authorization", a), (b"authorization", b)]),
        name([(b"authorization", b"")]),
    ]
    assert len(set(all_names)) == len(all_names)


def test_replicas_name_alike_only_with_one_secret() -> None:
    """Replicas that share a secret name a tenant alike; any other secret names it differently."""
    headers = [(b"authorization", b"x")]
    assert tenants(b"one")(headers) == tenants(b"one")(headers)
    assert tenants(b"one")(headers) != tenants(b"two")(headers)
    assert tenants()(headers) != tenants()(headers)


def test_many_tenants_keep_their_names() -> None:
    """What is remembered of tenants is bounded, and forgetting changes no name."""
    name = tenants(b"secret")
    first = name([(b"authorization", b"0")])
    seen = {name([(b"authorization", b"%d" % one)]) for one in range(5000)}
    assert len(seen) == 5000
    assert name([(b"authorization", b"0")]) == first


def test_a_name_that_a_layer_gave_is_the_tenant() -> None:
    """A tenant named by `auth` counts, whatever credential the request still carries."""
    tenant = tenant_of(b"k")

    def named(name: str | None, credential: bytes) -> bytes:
        request = Request(b"POST", b"/", [(b"authorization", credential)], b"{}")
        request.tenant = name
        return tenant(request)

    assert named("a", b"1") == named("a", b"2") != named("b", b"1")
    assert named(None, b"1") == tenants(b"k")([(b"authorization", b"1")]) != named(None, b"2")
