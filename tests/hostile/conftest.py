"""One remora for the whole table, one for the upstreams that are hostile themselves."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from .harness import Stage


@pytest.fixture(scope="session")
def stage() -> Iterator[Stage]:
    stage = Stage()
    yield stage
    stage.close()
