"""What a host's name resolves to, and what of it is used."""

from __future__ import annotations

import asyncio
import ipaddress
import socket
from collections.abc import Sequence
from typing import NamedTuple


async def look_up(host: str, port: int) -> list[str]:
    """Its addresses, in the order of RFC 6724. In a thread of the loop's: nothing waits for it.

    Raises OSError or UnicodeError.
    """
    loop = asyncio.get_running_loop()
    found = await loop.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    return list(dict.fromkeys(str(address[0]) for *_, address in found))


class Change(NamedTuple):
    """What a look-up changes. left_out: addresses over the bound."""

    joined: list[str]
    left: list[str]
    left_out: int


def change(known: Sequence[str], found: Sequence[str], most: int) -> Change:
    """From the addresses in use to those that were found, `most` of them.

    All of one family: a server with an IPv4 and an IPv6 address is one server. The family in use
    stays while it is found, else it is the one that comes first. Who is in use stays, so that an
    answer with more than `most` addresses, in whatever order, changes nothing.
    """
    families = {_family(address) for address in found}
    family = next((one for one in map(_family, known) if one in families), None)
    if family is None and found:
        family = _family(found[0])
    usable = [address for address in found if _family(address) == family]
    stay = [address for address in known if address in usable][:most]
    fresh = [address for address in usable if address not in known]
    joined = fresh[: most - len(stay)]
    left = [address for address in known if address not in stay]
    return Change(joined, left, len(usable) - len(stay) - len(joined))


def _family(address: str) -> int:
    return ipaddress.ip_address(address.partition("%")[0]).version
