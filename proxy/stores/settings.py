"""The `stores` key of the file."""

from __future__ import annotations

import re
from importlib.util import find_spec
from typing import Annotated, NamedTuple, Self
from urllib.parse import unquote, urlsplit

from pydantic import AfterValidator, Field, WithJsonSchema, model_validator

from ..address import parse_address
from ..file.model import Count, File, Model
from ..units import OptionalSize, PositiveDuration, Secret, unit

_URL_PATTERN = r"^(?:unix:/.+|rediss?://[^\s?#]+)$"
_FORMS = "write redis://127.0.0.1:6379/0, rediss://host:6379 or unix:/run/redis.sock"


class Place(NamedTuple):
    """Where a server is: `path` of a unix socket, else host and port."""

    host: str
    port: int
    path: str | None = None
    tls: bool = False
    db: int = 0
    username: str | None = None
    password: str | None = None


def parse_redis_url(text: str) -> Place:
    """Reads `redis[s]://[[user]:password@]host[:port][/db]` or `unix:/path`. Raises ValueError.

    No message shows the text: it may hold a password.
    """
    if text.startswith("unix:"):
        return Place("", 0, parse_address(re.sub("^unix:///", "unix:/", text)).path)
    try:
        url = urlsplit(text)
        port = 6379 if url.port is None else url.port
    except ValueError:
        raise ValueError(f"the host or the port cannot be read; {_FORMS}") from None
    if url.scheme not in ("redis", "rediss") or not url.hostname or re.search(r"[\s\0]", text):
        raise ValueError(f"this is not the address of a Redis; {_FORMS}")
    if url.query or url.fragment:
        raise ValueError("options have keys of their own here; leave out what follows the `?`")
    if port == 0 or url.netloc.endswith(":"):
        raise ValueError("the address has no usable port")
    if not re.fullmatch(r"(/[0-9]{0,5})?", url.path):
        raise ValueError("after the host stands the number of a database, such as /0")
    return Place(
        url.hostname,
        port,
        tls=url.scheme == "rediss",
        db=int(url.path[1:] or 0),
        username=unquote(url.username) if url.username else None,
        password=unquote(url.password) if url.password else None,
    )


def _url(text: str) -> str:
    parse_redis_url(text)
    return text


def _node(text: str) -> str:
    address = parse_address(text)
    if address.path is not None or not address.host or not address.port:
        raise ValueError("host and port are expected; write 10.0.0.5:26379")
    return text


def has_zstd() -> bool:
    """Whether the extra `zstd` is installed."""
    return find_spec("zstandard") is not None


def _compressor_is_there(size: int | None) -> int | None:
    if size is not None and not has_zstd():
        raise ValueError("zstd is not installed: pip install zstandard, or write off")
    return size


RedisURL = Annotated[
    str,
    AfterValidator(_url),
    WithJsonSchema(
        {
            "type": "string",
            "pattern": _URL_PATTERN,
            "examples": ["redis://127.0.0.1:6379/0", "unix:/run/redis.sock", "${REDIS_URL}"],
        }
    ),
]
Node = Annotated[
    str,
    AfterValidator(_node),
    WithJsonSchema(
        {
            "type": "string",
            "pattern": r"^[^\s/@]+:[0-9]{1,5}$",
            "examples": ["10.0.0.5:26379", "[::1]:26379"],
        }
    ),
]


class Sentinel(Model):
    """Sentinels that know which server is the master of a service."""

    service: Annotated[str, Field(min_length=1)] = Field(
        description="Name under which the sentinels watch the master, such as mymaster."
    )
    nodes: Annotated[list[Node], Field(min_length=1)] = Field(
        description="Sentinels, as `host:port`; the first that answers is asked."
    )
    password: Secret | None = Field(None, description="Password of the sentinels themselves.")


class Redis(Model):
    """A Redis that workers and replicas share: one server, a Sentinel service or a Cluster."""

    url: RedisURL = Field(
        "redis://127.0.0.1:6379/0",
        repr=False,  # it may hold a password
        description="`redis://host:port/db`, `rediss://` with TLS, or `unix:/path`. Of a Cluster "
        "any node; with `sentinel` only TLS and the database are taken from it.",
    )
    timeout: PositiveDuration = unit(
        "50ms", "Time for one call, connecting included. Passed: remora goes on without Redis."
    )
    sentinel: Sentinel | None = Field(None, description="Find the master through sentinels.")
    cluster: bool = Field(False, description="`url` is a node of a Redis Cluster.")
    username: str | None = Field(None, description="User to log in as. Null: Redis's default.")
    password: Secret | None = Field(None, description="Password to log in with.")
    ca: File | None = Field(
        None, description="PEM file of authorities for `rediss://`. Null: the system's."
    )
    prefix: str = Field("remora", description="What every key begins with.")
    max_connections: Count = Field(
        64, description="Calls under way at once, per worker; the next one waits."
    )
    compress: Annotated[OptionalSize, AfterValidator(_compressor_is_there)] = unit(
        "off", "Answers of at least this size are kept compressed with zstd, such as 4KiB."
    )

    @model_validator(mode="after")
    def _fits(self) -> Self:
        place = parse_redis_url(self.url)
        if place.password is not None and self.password is not None:
            raise ValueError("the password stands in `url` and in `password`: leave one of them")
        if self.cluster and self.sentinel is not None:
            raise ValueError("`cluster` and `sentinel` exclude each other")
        if place.path is not None and (self.cluster or self.sentinel is not None):
            raise ValueError("a unix socket is one server: not a Cluster, and without `sentinel`")
        if self.cluster and place.db:
            raise ValueError("a Cluster has no database but 0")
        if self.ca is not None and not place.tls:
            raise ValueError("`ca` is for TLS: write the url with rediss://")
        return self


class Stores(Model):
    """Where layers may keep things that workers and replicas share."""

    redis: Redis | None = Field(
        None, description="A Redis; `{}` for the one at 127.0.0.1:6379. Null: none."
    )
