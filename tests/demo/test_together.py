"""The merging act fails where it does not show what it is there to show."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import AsyncExitStack

import pytest

from proxy.demo import together
from proxy.demo.child import Child
from proxy.demo.printer import DemoFailed, Printer
from proxy.demo.standin import StandIn


class Twin(Child):
    """In the place of a remora: the server that is already there."""

    def __init__(self, server: Child) -> None:
        super().__init__("twin", [], server.port)

    async def __aenter__(self) -> Twin:
        return self

    async def __aexit__(self, *_: object) -> None:
        pass


@pytest.fixture
async def stack() -> AsyncIterator[AsyncExitStack]:
    async with AsyncExitStack() as stack:
        yield stack


async def test_a_proxy_that_merges_nothing_fails_the_act(
    stack: AsyncExitStack, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As many calls as texts is no merging, whatever the clock says."""
    monkeypatch.setattr(together, "SECONDS", 1.0)
    with pytest.raises(DemoFailed, match="none were merged"):
        await together.compare(Printer(1), stack, Twin)


async def test_an_answer_other_than_200_fails_the_act(
    stack: AsyncExitStack, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A server without the route is told by its status."""
    other = await stack.enter_async_context(StandIn())
    with pytest.raises(DemoFailed, match="/embed answered 404"):
        await together.compare(Printer(1), stack, lambda _: Twin(other))


async def test_the_act_is_left_out_without_numpy(
    stack: AsyncExitStack, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Where the encoder cannot run the demo says why and goes on."""
    monkeypatch.setattr(together, "why_not", lambda: "numpy is not installed")
    await together.compare(Printer(1), stack, Twin)
    assert "left out: numpy is not installed" in capsys.readouterr().out
