"""The schema of the file: what its keys are called, what they hold, what they are when left out.

The descriptions are the documentation: `remora schema` hands them to editors. Durations are
seconds and sizes bytes once read; `off` is None.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal, Self

from pydantic import (
    AfterValidator,
    BeforeValidator,
    Discriminator,
    Field,
    Tag,
    WithJsonSchema,
    model_validator,
)

from .address import (
    Address,
    AdminAddress,
    ListenAddress,
    TrustedNetwork,
    parse_address,
)
from .apis.batch.pointer import pointer
from .file.layer import Layer as Layer
from .file.match import Host, Method, PathPattern
from .file.model import Count, File
from .file.model import Model as Model
from .stores.settings import Stores
from .units import (
    Duration,
    OptionalDuration,
    OptionalSize,
    PositiveDuration,
    PositiveSize,
    off_as_text,
    unit,
)
from .units import Secret as Secret
from .upstream.settings import (
    Balance,
    Eject,
    Endpoints,
    OptionalEject,
    OptionalHealth,
    OptionalResolve,
)

DEFAULT_LISTEN = "127.0.0.1:8080"
DEFAULT_ADMIN = "127.0.0.1:9901"


def _one_or_more(value: Any) -> Any:
    return value if isinstance(value, list | tuple) else [value]


Forwarded = Annotated[
    Literal["off", "x-forwarded", "forwarded"],
    BeforeValidator(off_as_text),
    WithJsonSchema({"enum": ["off", False, "x-forwarded", "forwarded"]}),
]


class ListenerTLS(Model):
    """TLS of one listener."""

    cert: File = Field(description="PEM file with the certificate and its chain.")
    key: File = Field(description="PEM file with the certificate's private key.")
    client_ca: File | None = Field(
        None, description="PEM file with the authorities a client's certificate must come from."
    )


class Listener(Model):
    """One place where clients connect."""

    address: ListenAddress = Field(description="`host:port`, `:port` or `unix:/path`.")
    tls: ListenerTLS | None = Field(None, description="Serve TLS here. Null: plain HTTP.")

    @model_validator(mode="before")
    @classmethod
    def _from_text(cls, value: Any) -> Any:
        if isinstance(value, str):
            return {"address": value}
        if not isinstance(value, dict | Listener):
            raise ValueError("an address is expected, or a mapping with `address`; write :8080")
        return value

    @property
    def parsed(self) -> Address:
        """Host and port, or the path of a unix socket."""
        return parse_address(self.address)


class Pool(Model):
    """Connections to each endpoint of an upstream."""

    max_connections: Count = Field(1000, description="Connections open at once to one endpoint.")
    max_idle: Annotated[int, Field(ge=0)] = Field(
        100, description="Connections kept open to one endpoint while nothing uses them."
    )
    max_lifetime: PositiveDuration = unit("1h", "Age at which a connection is not used again.")
    idle_timeout: PositiveDuration = unit(
        "55s",
        "Time after which an unused connection is closed; keep it under the server's own.",
    )
    max_waiting: Annotated[int, Field(ge=0)] = Field(
        1000, description="Requests that may wait for a connection; the next one gets 503."
    )
    wait_timeout: Duration = unit("10s", "Time a request waits for a connection, then 503.")


class Timeouts(Model):
    """How long an upstream may take. Passed: 504, or an aborted answer after the first byte."""

    connect: PositiveDuration = unit("2s", "Time to connect, TLS handshake included.")
    first_byte: OptionalDuration = unit("2m", "Time from the request to the answer's first byte.")
    idle: OptionalDuration = unit("1m", "Time between two pieces of an answer's body.")
    total: OptionalDuration = unit("off", "Time for the whole exchange.")


def _in_dns(name: str) -> str:
    try:
        name.encode("idna")
    except UnicodeError:
        raise ValueError("no host has such a name: a part is empty or over 63 characters") from None
    return name


class UpstreamTLS(Model):
    """TLS towards `https://` endpoints."""

    ca: File | None = Field(None, description="PEM file of authorities. Null: the system's.")
    cert: File | None = Field(None, description="PEM file with a client certificate.")
    key: File | None = Field(None, description="PEM file with the client certificate's key.")
    verify: bool = Field(True, description="Check the certificate and the name in it.")
    server_name: Annotated[Host, AfterValidator(_in_dns)] | None = Field(
        None, description="Name to ask for and to check. Null: the endpoint's host."
    )

    @model_validator(mode="after")
    def _both(self) -> Self:
        if (self.cert is None) != (self.key is None):
            raise ValueError("`cert` and `key` belong together: give both or neither")
        return self


class ResponseLimits(Model):
    """Bounds on the head of an upstream's answer. Over one: 502."""

    head: PositiveSize = unit("64KiB", "Status line and headers, in all.")
    headers: Count = Field(200, description="Number of headers.")


class Upstream(Model):
    """A model server, as one or several endpoints that answer alike."""

    endpoints: Endpoints = Field(
        description="Where the server is: `http://host:port`, `https://host:port` or `unix:/path`."
    )
    balance: Balance = Field(
        default_factory=Balance,
        description="How an endpoint is chosen. `least_outstanding`: the one with the fewest "
        "requests in flight.",
        json_schema_extra={"default": "least_outstanding"},
    )
    health: OptionalHealth = Field(
        None,
        description="Checks of each endpoint. `off`: none.",
        json_schema_extra={"default": "off"},
    )
    eject: OptionalEject = Field(
        default_factory=Eject,
        description="Leave an endpoint alone for a while whose requests fail. `off`: never.",
    )
    slow_start: OptionalDuration = unit(
        "10s", "Time in which an endpoint that came back gets its full share again."
    )
    resolve: OptionalResolve = Field(
        None,
        description="Follow the addresses of each name. `off`: a name is one endpoint.",
        json_schema_extra={"default": "off"},
    )
    pool: Pool = Field(default_factory=Pool, description="Connections to each endpoint.")
    timeouts: Timeouts = Field(default_factory=Timeouts, description="How long it may take.")
    tls: UpstreamTLS = Field(default_factory=UpstreamTLS, description="For https endpoints.")
    limits: ResponseLimits = Field(
        default_factory=ResponseLimits, description="Bounds on the head of an answer."
    )


class Match(Model):
    """Which requests a route takes. All that is written must hold."""

    path: PathPattern = Field("/*", description="The whole path, or its beginning before a `*`.")
    methods: Annotated[list[Method], Field(min_length=1)] | None = Field(
        None, description="Methods, in capitals. Null: every one."
    )
    host: Host | None = Field(None, description="The Host header without port. Null: every one.")


def _pointer(text: str) -> str:
    pointer(text)
    return text


JsonPointer = Annotated[
    str,
    AfterValidator(_pointer),
    WithJsonSchema({"type": "string", "pattern": "^(/([^~]|~[01])*)?$"}),
]


class Lists(Model):
    """Where the lists stand, as JSON Pointers (RFC 6901): `/inputs`; empty for the whole body."""

    items: JsonPointer = Field(description="In a request: the list of what it asks about.")
    results: JsonPointer = Field(
        description="In an answer: the list of results, one for each item, in the same order."
    )


class OwnApi(Model):
    """An API that remora does not know, of which only the lists are told."""

    generic: Lists = Field(description="Where a request has its items, and an answer its results.")


def _api_form(value: Any) -> str:
    return "own" if isinstance(value, dict | OwnApi) else "named"


RouteApi = Annotated[
    Annotated[Literal["openai", "tgi", "tei", "kserve", "plain"] | None, Tag("named")]
    | Annotated[OwnApi, Tag("own")],
    Discriminator(_api_form),
]


class Route(Model):
    """Where the requests that match go, and through which layers."""

    name: Annotated[str, Field(min_length=1)] | None = Field(
        None, description="Its name in metrics and logs. Null: made of its match."
    )
    match: Match = Field(default_factory=Match, description="Which requests it takes.")
    api: RouteApi = Field(
        None,
        description="The API spoken here, by its name; or `generic`, with where a request has its "
        "list of items and an answer its list of results. Null: found from each request.",
    )
    upstream: str = Field("default", description="The upstream's name.")
    chain: list[Layer] | None = Field(
        None, description="Layers, the outermost first; [] for none. Null: the top-level `chain`."
    )
    max_body: PositiveSize | None = Field(
        None, description="Largest request body here, `limits.body` at most. Null: that."
    )


class Limits(Model):
    """Bounds on what a client may send, and on how long it may take."""

    request_line: PositiveSize = unit("16KiB", "The request line; over it, 414.")
    headers: Count = Field(100, description="Number of headers; over it, 431.")
    head: PositiveSize = unit("64KiB", "The whole head, request line included; over it, 431.")
    body: OptionalSize = unit("1GiB", "A request's body; over it, 413.")
    head_timeout: PositiveDuration = unit("10s", "Time for a whole head, from its first byte.")
    body_timeout: PositiveDuration = unit("30s", "Time between two pieces of a request's body.")
    idle_timeout: PositiveDuration = unit("75s", "Time a connection is kept between requests.")
    send_timeout: OptionalDuration = unit(
        "5m", "Time in which a client takes no byte of an answer."
    )
    connections: Count = Field(10000, description="Client connections open at once, per worker.")


class Drain(Model):
    """How serving ends after SIGTERM."""

    quiet: Duration = unit("5s", "Time to go on serving while readiness already fails.")
    timeout: Duration = unit("30s", "Time for what is in flight to finish, after `quiet`.")


class Log(Model):
    """What is written to standard error."""

    level: Literal["debug", "info", "warning", "error"] = Field(
        "info", description="The least severe message to write."
    )
    format: Literal["text", "json"] = Field("text", description="One line of text or of JSON each.")


class Config(Model):
    """A whole file."""

    listen: Annotated[list[Listener], BeforeValidator(_one_or_more), Field(min_length=1)] = Field(
        default_factory=lambda: [Listener(address=DEFAULT_LISTEN)],
        description="Where clients connect: one address or a list, each with `tls` or without.",
        json_schema_extra={"default": DEFAULT_LISTEN},
    )
    admin: AdminAddress = Field(
        DEFAULT_ADMIN, description="Health and metrics, never on a client's port. `off`: nowhere."
    )
    admin_token: Secret | None = Field(
        None,
        description="What the admin port asks for, as `Authorization: Bearer TOKEN`, of all but "
        "/healthz and /readyz. Null: nothing, and only on loopback or a unix socket.",
    )
    workers: Count = Field(1, description="Processes that serve the same listeners.")
    upstreams: Annotated[dict[str, Upstream], Field(min_length=1)] = Field(
        description="Model servers, by a name of your choice; routes use `default` unless told."
    )
    stores: Stores = Field(
        default_factory=Stores, description="Where layers may keep things, besides `memory`."
    )
    chain: list[Layer] = Field(
        default_factory=list,
        description="Layers of every route that names none, the outermost first.",
        json_schema_extra={"default": []},
    )
    routes: Annotated[list[Route], Field(min_length=1)] = Field(
        default_factory=lambda: [Route()],
        description="Which request goes where. Left out: everything goes to `default`.",
        json_schema_extra={"default": [{"match": {"path": "/*"}, "upstream": "default"}]},
    )
    limits: Limits = Field(default_factory=Limits, description="Bounds on clients.")
    drain: Drain = Field(default_factory=Drain, description="How serving ends after SIGTERM.")
    forwarded: Forwarded = Field(
        "off",
        description="Tell the upstream who asked: X-Forwarded-*, or Forwarded (RFC 7239).",
    )
    trusted_proxies: list[TrustedNetwork] = Field(
        default_factory=list,
        description="Networks whose forwarding headers are believed.",
        json_schema_extra={"default": []},
    )
    host: Literal["preserve", "upstream"] = Field(
        "preserve", description="The Host header sent on: the client's, or the endpoint's."
    )
    trace: Literal["carry", "make"] = Field(
        "carry",
        description="x-request-id and traceparent: `carry` them on, or `make` the missing ones.",
    )
    log: Log = Field(default_factory=Log, description="What is written to standard error.")
