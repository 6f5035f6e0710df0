"""What every part of the file has in common."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from pydantic import AfterValidator, BaseModel, ConfigDict, Field


def _file(path: Path) -> Path:
    if not path.is_file():
        raise ValueError(f"there is no file `{path}`")
    return path


File = Annotated[Path, AfterValidator(_file)]
Count = Annotated[int, Field(ge=1)]


class Model(BaseModel):
    """A part of the file: frozen once read, and no key that is not known."""

    model_config = ConfigDict(frozen=True, extra="forbid", hide_input_in_errors=True)
