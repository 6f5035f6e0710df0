"""Whose answers a client gets: its own tenant's, or anyone's, by what the file says."""

from __future__ import annotations

import pytest

from tests.cache.conftest import MakeRig
from tests.cache.rig import QUESTION, hit
from tests.road.scripted import Peer
from tests.road.wire import Message, ok

ALICE = "Authorization: Bearer alice"
BOB = "Authorization: Bearer bob"


@pytest.mark.parametrize(
    ("one", "other"),
    [
        (ALICE, BOB),
        ("X-Api-Key: 1", "X-Api-Key: 2"),
        ("Cookie: session=1", "Cookie: session=2"),
        ("Authorization: k", "X-Api-Key: k"),
        (ALICE, "X-Nothing: 1"),
    ],
)
async def test_no_tenant_gets_anothers_answer(rig: MakeRig, one: str, other: str) -> None:
    """By default a credential gets only what its own calls brought, and keeps getting it."""
    this = await rig()
    mine = await this.ask(None, one)
    theirs = await this.ask(None, other)
    assert mine.body != theirs.body
    assert (await this.ask(None, one)).body == mine.body
    assert (await this.ask(None, other)).body == theirs.body
    assert this.origin.count == 2


async def test_what_is_public_is_everybodys(rig: MakeRig) -> None:
    """Under `share: public` one call serves all, whatever their credentials."""
    one = await rig(share="public")
    await one.ask(None, ALICE)
    assert hit(await one.ask(None, BOB))
    assert hit(await one.ask())


async def test_tenants_do_not_share_a_call_under_way(rig: MakeRig) -> None:
    """Two tenants that ask at once are two calls; each gets its own answer."""

    def answer(_: Peer, message: Message) -> bytes:
        return ok(b'"%b"' % (message["authorization"] or "").encode())

    one = await rig(answer)
    clients = [await one.client() for _ in range(6)]
    for index, client in enumerate(clients):
        client.ask("POST", "/v1/embeddings", (ALICE, BOB)[index % 2], body=b'{"input":"at once"}')
    bodies = [(await client.answer()).body for client in clients]
    assert bodies == [b'"Bearer alice"', b'"Bearer bob"'] * 3
    assert one.origin.count == 2


async def test_a_header_that_makes_a_difference_is_part_of_the_question(rig: MakeRig) -> None:
    """A header of `vary` parts the answers; any other does not."""
    one = await rig(vary=["x-tone"])
    await one.ask(None, "X-Tone: dry")
    assert not hit(await one.ask(None, "X-Tone: warm"))
    assert not hit(await one.ask())
    assert hit(await one.ask(None, "X-Tone: dry", "X-Other: 1"))


async def test_a_member_that_makes_no_difference_is_not(rig: MakeRig) -> None:
    """A member of `ignore` does not part the answers, and still reaches the upstream."""
    one = await rig(ignore=["/user", "/metadata/trace"])
    await one.ask({**QUESTION, "user": "a", "metadata": {"trace": 1}})
    assert b'"user":"a"' in one.origin.seen[0].body
    assert hit(await one.ask({**QUESTION, "user": "b", "metadata": {"trace": 2}}))
    assert not hit(await one.ask({**QUESTION, "user": "a", "metadata": {"kind": 1}}))


async def test_an_answer_that_varies_is_given_to_its_like(rig: MakeRig) -> None:
    """What the upstream itself says an answer varies by is minded."""

    def answer(_: Peer, message: Message) -> bytes:
        return ok(b'"%b"' % (message["x-lang"] or "").encode(), "Vary: X-Lang")

    one = await rig(answer)
    assert (await one.ask(None, "X-Lang: en")).body == b'"en"'
    assert (await one.ask(None, "X-Lang: fr")).body == b'"fr"'
    assert (await one.ask(None, "X-Lang: fr")).body == b'"fr"'
    assert one.origin.count == 2


async def test_streams_and_answers_are_apart(rig: MakeRig) -> None:
    """A client that accepts events gets none of another form."""
    one = await rig()
    await one.ask(None, "Accept: application/json")
    assert hit(await one.ask())
    assert not hit(await one.ask(None, "Accept: text/event-stream"))
