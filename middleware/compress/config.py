"""Keys of `compress`."""

from __future__ import annotations

from typing import Annotated, Any, Literal, Self

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, model_validator

from proxy.units import PositiveSize, Size, unit

from .codings import CODINGS, installed


def _is_there(coding: str) -> str:
    if not installed(coding):
        raise ValueError(f"{coding} is not installed: pip install brotli zstandard")
    return coding


def _installed() -> list[Any]:
    return [coding for coding in CODINGS if installed(coding)]


Coding = Annotated[Literal["zstd", "br", "gzip"], AfterValidator(_is_there)]


class CompressConfig(BaseModel):
    """Answers compressed for clients that take it, and requests decompressed for the server."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    enabled: bool = Field(True, description="Whether anything is compressed or decompressed.")
    algorithms: list[Coding] = Field(
        default_factory=_installed,
        description="Content codings, the preferred one first; a client's q-values go before. "
        "Left out: those of zstd, br and gzip that are installed.",
        json_schema_extra={"default": list(CODINGS)},
    )
    min_bytes: Size = unit(
        "1KiB", "Answers under it go as they are; a stream of unknown length counts as over it."
    )
    cookies: bool = Field(
        False,
        description="Compress also what belongs to a cookie or a credential that a browser sends "
        "unasked: its length can then tell a secret beside chosen text (BREACH).",
    )
    requests: Literal["pass", "decompress"] = Field(
        "pass", description="Request bodies with a Content-Encoding: on as they are, or in clear."
    )
    max_request: PositiveSize = unit(
        "64MiB", "Largest request body once it is decompressed; over it, 413."
    )
    max_ratio: Annotated[int, Field(ge=1)] = Field(
        100,
        description="Most times that a request body may grow, once it is over 1MiB; over it, 413.",
    )

    @model_validator(mode="after")
    def _makes_sense(self) -> Self:
        if len(set(self.algorithms)) != len(self.algorithms):
            raise ValueError("an algorithm stands twice in `algorithms`")
        if self.enabled and not self.algorithms and self.requests == "pass":
            raise ValueError(
                "without `algorithms` and `requests: decompress` nothing is left to do"
            )
        return self
