"""Keys of `auth`."""

from __future__ import annotations

import re
from typing import Annotated, Literal, Self

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, SecretStr, model_validator

from proxy.units import FieldName, PositiveDuration, PositiveSize, Secret, unit

MAX_NAME = 64
"""Characters of a key's name: it becomes a label."""
MIN_KEY = 16
"""Characters of a key. A digest does not protect one that can be guessed."""


def _digest(value: str) -> str:
    if re.fullmatch(r"[0-9a-fA-F]{64}", value) is None:
        raise ValueError("64 hexadecimal digits are expected; make them with sha256sum")
    return value.lower()


def _limit(value: str) -> str:
    from ..core.quota import parse_limits  # the library is loaded only where a key has limits

    parse_limits(value)
    return value


def _sent(value: SecretStr) -> SecretStr:
    """As the value of a header."""
    text = value.get_secret_value()
    if text != text.strip() or not text.isprintable():
        raise ValueError("white space around it, or a control character in it: no header has that")
    return value


def _no_framing(name: str) -> str:
    if name in _FRAMING:
        raise ValueError(f"`{name}` is for the connection itself, and no place for a key")
    return name


_FRAMING = frozenset(
    ("connection", "content-length", "expect", "host", "keep-alive", "te", "trailer",
     "transfer-encoding", "upgrade")
)  # fmt: skip

Sent = Annotated[Secret, AfterValidator(_sent)]
KeyField = Annotated[FieldName, AfterValidator(_no_framing)]
Digest = Annotated[str, AfterValidator(_digest)]
Limit = Annotated[str, AfterValidator(_limit)]
Name = Annotated[str, Field(pattern=rf"^[A-Za-z0-9_.@-]{{1,{MAX_NAME}}}$")]


class _Model(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class Key(_Model):
    """Who has it, and what it allows. The key itself: one of `key`, `sha256`, `file`."""

    name: Name = Field(description="Whose it is: in metrics and logs, and the tenant of the cache.")
    key: Sent | None = Field(None, description="The key: `${NAME}`, `file:PATH`, or the text.")
    sha256: Digest | None = Field(None, description="Its SHA-256 in hexadecimal, instead of it.")
    file: Annotated[str, Field(min_length=1)] | None = Field(
        None,
        description="A file with a key, or `sha256:` and its digest, on each line: several while "
        "one replaces another. Read again when it changes.",
    )
    models: list[Annotated[str, Field(min_length=1)]] | None = Field(
        None, description="Models it may use; `*` stands for any text. Null: every one."
    )
    limits: list[Limit] | None = Field(
        None, description="Its own limits in `rate_limit`, in the place of that layer's."
    )
    priority: Annotated[int, Field(ge=-100, le=100)] = Field(
        0, description="For the queue of `concurrency`: the higher first."
    )

    @model_validator(mode="after")
    def _one(self) -> Self:
        if sum(one is not None for one in (self.key, self.sha256, self.file)) != 1:
            raise ValueError("give the key by one of `key`, `sha256` and `file`")
        if self.key is not None and len(self.key.get_secret_value()) < MIN_KEY:
            raise ValueError(f"a key has at least {MIN_KEY} characters: this one can be guessed")
        return self


class Replaced(_Model):
    """What the upstream gets in the place of the client's key."""

    header: KeyField = Field("authorization", description="The field's name.")
    value: Sent = Field(description="The whole value, such as `Bearer ${UPSTREAM_KEY}`.")


def _apart(keys: list[Key]) -> list[Key]:
    names = [key.name for key in keys]
    twice = [name for name in names if names.count(name) > 1]
    if twice:
        raise ValueError(f"two keys have the name `{twice[0]}`")
    return keys


class AuthConfig(_Model):
    """Lets those pass who have a key, and tells the other layers who they are."""

    enabled: bool = Field(True, description="Whether anything is asked for.")
    keys: Annotated[list[Key], AfterValidator(_apart)] = Field(
        default_factory=list,
        description="Whoever may pass. None: nobody.",
        json_schema_extra={"default": []},
    )
    headers: Annotated[list[KeyField], Field(min_length=1)] = Field(
        default_factory=lambda: ["authorization", "x-api-key", "api-key"],
        description="Fields in which a key is looked for; in `authorization` behind `Bearer`.",
        json_schema_extra={"default": ["authorization", "x-api-key", "api-key"]},
    )
    upstream: Literal["drop", "keep"] | Replaced = Field(
        "drop",
        description="What the upstream gets of a key that was recognised: nothing (`drop`), the "
        "client's field (`keep`), or another one.",
    )
    unknown: Literal["refuse", "pass"] = Field(
        "refuse",
        description="Requests without a known key: 401, or on as they are, without a name.",
    )
    max_body: PositiveSize = unit(
        "16MiB", "Largest request body of a key with `models`: its model is read there."
    )
    reread: PositiveDuration = unit("5s", "How often each `file` is looked at.")
