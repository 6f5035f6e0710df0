from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

from tests.contract.road import ModelServer


@pytest.fixture
async def model() -> AsyncIterator[ModelServer]:
    async with ModelServer().listening() as server:
        yield server
