"""Keys of `transcode`."""

from __future__ import annotations

from typing import Annotated, Literal, Self

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    WithJsonSchema,
    model_validator,
)

from proxy.units import PositiveSize, off_as_text, unit

from ..core.forms import Form


def _each_once(value: tuple[Form, ...]) -> tuple[Form, ...]:
    if not value or len(set(value)) != len(value):
        raise ValueError("at least one form is expected, each once: json, msgpack")
    return value


def _around(value: str) -> str:
    if value.count("{content}") != 1:
        raise ValueError("`{content}` is expected in it, once")
    return value


Around = Annotated[str, AfterValidator(_around)]
Dialect = Annotated[
    Literal["off", "tgi", "openai"],
    BeforeValidator(off_as_text),
    WithJsonSchema({"enum": ["off", "tgi", "openai", False]}),
]
Clients = Annotated[tuple[Form, ...], AfterValidator(_each_once)]
Numbers = Annotated[
    Literal["off", "float32", "float16"],
    BeforeValidator(off_as_text),
    WithJsonSchema({"enum": ["off", "float32", "float16", False]}),
]
MediaType = Literal["application/msgpack", "application/x-msgpack", "application/vnd.msgpack"]


class Template(BaseModel):
    """How messages become a prompt; `{content}` stands for a message's text."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    begin: str = Field(
        "", description="What the prompt begins with, behind the token that TGI puts there."
    )
    system: Around | None = Field(None, description="Around a system message; null: refused.")
    user: Around = Field(description="Around what the user says.")
    assistant: Around = Field(description="Around what the model said before.")
    ask: str = Field("", description="What the model goes on from, at the end.")

    @property
    def roles(self) -> dict[str, str]:
        named = {"system": self.system, "user": self.user, "assistant": self.assistant}
        return {role: around for role, around in named.items() if around is not None}


class TranscodeConfig(BaseModel):
    """Keys of `transcode`."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    enabled: bool = Field(True, description="Whether anything is converted.")
    upstream: Form = Field("json", description="The form that the server reads and writes.")
    clients: Clients = Field(
        ("json", "msgpack"), description="The forms that clients may send and get."
    )
    media_type: MediaType = Field(
        "application/msgpack",
        description="What MessagePack is called where the other side has not named it itself.",
    )
    embeddings: Numbers = Field(
        "off",
        description="Lists of numbers in MessagePack answers as binary, of 4 or 2 bytes a number.",
    )
    make_base64: bool = Field(
        False,
        description="Make `encoding_format: base64` of OpenAI embeddings here: the server knows "
        "only floats.",
    )
    dialect: Dialect = Field(
        "off",
        description="The API that the server speaks where its clients speak the other one: `tgi` "
        "for OpenAI's chat and completions, `openai` for TGI's generate.",
    )
    template: Template | Literal["chatml", "llama3", "mistral", "zephyr", "plain"] = Field(
        "chatml",
        description="With `dialect: tgi`, how chat messages become a prompt: the format that the "
        "model was trained on, or one of your own.",
    )
    model: str | None = Field(
        None, description="With `dialect: openai`, the model where a client names none."
    )
    max_body: PositiveSize = unit(
        "16MiB", "The largest body that is converted, in either form; over it 413, or 502."
    )

    @model_validator(mode="after")
    def _makes_sense(self) -> Self:
        if self.embeddings != "off" and (self.upstream, "msgpack" in self.clients) != (
            "json",
            True,
        ):
            raise ValueError("`embeddings` is for MessagePack `clients` and `upstream: json`")
        if self.dialect != "off" and self.upstream != "json":
            raise ValueError("either API of a `dialect` is JSON: `upstream: json` is expected")
        if self.template != "chatml" and self.dialect != "tgi":
            raise ValueError("a `template` is for `dialect: tgi`; no other asks for prompts")
        if self.model is not None and self.dialect != "openai":
            raise ValueError("a `model` is for `dialect: openai`; no other asks for one")
        return self
