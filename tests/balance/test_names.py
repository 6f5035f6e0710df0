"""What of a name's addresses is used, and how the endpoints follow them."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from proxy import config
from proxy.upstream.endpoint import endpoints
from proxy.upstream.names import change, look_up
from proxy.upstream.settings import Resolve

ADDRESSES = st.lists(st.integers(1, 12).map("10.0.0.{}".format), unique=True, max_size=12)


@given(ADDRESSES, ADDRESSES.filter(bool), st.integers(1, 12))
def test_the_set_follows(known: list[str], found: list[str], most: int) -> None:
    """Afterwards it is what was found, up to the bound; who was in and was found again stays."""
    known = known[:most]
    joined, left, left_out = change(known, found, most)
    after = [one for one in known if one not in left] + joined
    assert set(after) <= set(found)
    assert len(after) == len(set(after)) == min(most, len(found))
    assert left_out == len(found) - len(after)
    assert [one for one in known if one in found] == [one for one in known if one not in left]


def test_the_bound_just_kept_and_just_crossed() -> None:
    """The 65th address of a name is not used, by the default, and is counted as left out."""
    found = [f"10.0.1.{number}" for number in range(65)]
    most = Resolve().max_members
    assert most == 64
    assert change([], found[:64], most) == (found[:64], [], 0)
    assert change([], found, most) == (found[:64], [], 1)
    assert change(found[1:], found, most) == ([], [], 1), "an order that changes changes nothing"


def test_one_family() -> None:
    """A server with two addresses is one server: IPv6 where it comes first, and then it stays."""
    both = ["fd00::1", "fd00::2", "10.0.0.1", "10.0.0.2"]
    assert change([], both, 64).joined == ["fd00::1", "fd00::2"]
    assert change([], both[::-1], 64).joined == ["10.0.0.2", "10.0.0.1"]
    assert change(["10.0.0.1"], both, 64) == (["10.0.0.2"], [], 0)
    assert change(["10.0.0.1"], ["fd00::1"], 64) == (["fd00::1"], ["10.0.0.1"], 0)


async def test_a_real_look_up() -> None:
    """The system's own resolver, in a thread: addresses without a port, each once."""
    found = await look_up("localhost", 80)
    assert found and set(found) <= {"127.0.0.1", "::1"} and len(found) == len(set(found))


def test_what_an_address_of_a_name_is_called() -> None:
    """By its address in metrics and logs; by the name that the file has in Host and TLS."""
    plain, secure, odd = endpoints(
        "default",
        config.Upstream(endpoints=["http://svc:8000", "https://svc", "http://[::1]:8000"]),
    )
    one = plain.at("10.0.0.7")
    assert (one.name, one.host, one.port) == ("http://10.0.0.7:8000", "10.0.0.7", 8000)
    assert one.authority == plain.authority == b"svc:8000"
    two = secure.at("fd00::1")
    assert (two.name, two.authority) == ("https://[fd00::1]:443", b"svc")
    assert (two.server_name, two.tls) == ("svc", secure.tls)
    assert plain.resolvable and secure.resolvable and not odd.resolvable
