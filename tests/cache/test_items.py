"""Calls about several items: each is known, asked and stored by itself."""

from __future__ import annotations

import asyncio
from typing import Any

import orjson
import pytest

from middleware.cache.item_calls import ODD_ANSWERS
from tests.cache.conftest import MakeRig
from tests.cache.rig import Rig, status
from tests.road.scripted import Peer
from tests.road.wire import Message, ok, until

JSON = "Content-Type: application/json"


def vector(text: str) -> str:
    """What the model makes of a text, with digits that a parser would not keep."""
    return f"[{len(text)}.10, -1.0e-05, {sum(map(ord, text))}]"


class Encoder:
    """Answers embeddings calls as OpenAI's API does, and keeps the texts of each.

    bad: a text for which it refuses the whole call. hold: set before it answers.
    """

    def __init__(self, bad: str = "", status: str = "400 Bad Request") -> None:
        self.bad = bad
        self.status = status
        self.calls: list[list[str]] = []
        self.hold = asyncio.Event()
        self.hold.set()
        self.odd = False

    async def __call__(self, peer: Peer, message: Message) -> None:
        texts = orjson.loads(message.body)["input"]
        texts = [texts] if isinstance(texts, str) else texts
        self.calls.append(texts)
        await self.hold.wait()
        if self.bad and self.bad in texts:
            place = texts.index(self.bad)
            body = b'{"error": {"message": "input %d is bad"}}' % place
            peer.send(ok(body, JSON, status=self.status))
            return
        data = ", ".join(
            f'{{"object": "embedding", "index": {place}, "embedding": {vector(text)}}}'
            for place, text in enumerate(texts[1:] if self.odd else texts)
        )
        used = sum(map(len, texts))
        usage = f'{{"prompt_tokens": {used}, "total_tokens": {used}}}'
        body = f'{{"object": "list", "data": [{data}], "model": "m", "usage": {usage}}}'
        peer.send(ok(body.encode(), JSON, 'ETag: "of-the-call"', f"X-Request-Id: {used}"))

    @property
    def asked(self) -> list[str]:
        """Every text that it was asked about, one call after the other."""
        return [text for call in self.calls for text in call]


def question(texts: Any) -> dict[str, Any]:
    return {"model": "m", "input": texts}


def vectors(message: Message) -> list[str]:
    """In the answer's order, with their digits as they came."""
    assert message.status == 200, message.body
    data = orjson.loads(message.body)["data"]
    assert [one["index"] for one in data] == list(range(len(data)))
    text = message.body.decode()
    return [text[at : text.index("]", at) + 1] for at in _starts(text)]


def _starts(text: str) -> list[int]:
    starts, at = [], text.find('"embedding": [')
    while at >= 0:
        starts.append(at + len('"embedding": '))
        at = text.find('"embedding": [', at + 1)
    return starts


def _waiting(this: Rig) -> int:
    """Clients' requests that are not answered yet."""
    return this.running.server.edge.in_flight


async def ask(this: Rig, texts: Any, *fields: str) -> Message:
    return await (await this.client()).exchange(
        "POST", "/v1/embeddings", *fields, body=orjson.dumps(question(texts))
    )


async def test_only_what_is_not_known_is_asked(rig: MakeRig) -> None:
    """Of 32 texts with 20 known and 3 alike the server gets 10; the client gets all 32, each its
    own, and the usage of a full call (of texts that are equally long: else it is shared out).
    """
    model = Encoder()
    this = await rig(model)
    known = [f"known {number:02}" for number in range(20)]
    for text in known[:4]:
        await ask(this, text)
    for text in known[4:8]:
        await ask(this, [text])
    await ask(this, known[8:])
    model.calls.clear()
    fresh = [f"fresh {number:02}" for number in range(9)]
    texts = [*fresh[:5], *known, *fresh[5:], *["alike 00"] * 3]
    assert len(texts) == 32
    got = await ask(this, texts)
    assert model.calls == [[*fresh, "alike 00"]]
    assert vectors(got) == [vector(text) for text in texts]
    used = sum(map(len, texts))
    assert orjson.loads(got.body)["usage"] == {"prompt_tokens": used, "total_tokens": used}
    assert status(got)["fwd"] == "partial"
    assert status(got)["detail"] == '"20 of 30"'
    assert got["etag"] is None
    again = await ask(this, texts)
    assert "hit" in status(again)
    assert again.body == got.body
    assert len(model.calls) == 1
    counts = this.cache.stats.routes["/*"].counts
    assert (counts["item_hits"], counts["item_misses"]) == (20 + 30, 12 + 10)


async def test_what_several_brought_one_gets(rig: MakeRig) -> None:
    """And the other way, whether a text stands alone or in a list with it alone."""
    model = Encoder()
    this = await rig(model)
    await ask(this, ["a", "bb"])
    for texts in ("a", ["a"], ["bb"], "bb", ["bb", "a"]):
        got = await ask(this, texts)
        assert "hit" in status(got)
        assert vectors(got) == [vector(text) for text in texts if text in ("a", "bb")] or [
            vector("bb")
        ]
    assert model.calls == [["a", "bb"]]


async def test_items_on_their_way_are_shared(rig: MakeRig) -> None:
    """Two calls at once that have items in common: each item is asked about once, and a call about
    one of them joins, too.
    """
    model = Encoder()
    this = await rig(model)
    model.hold.clear()
    asking = [asyncio.ensure_future(ask(this, ["a", "bb", "ccc"]))]
    await until(lambda: len(model.calls) == 1)
    asking.append(asyncio.ensure_future(ask(this, ["dddd", "bb", "a"])))
    await until(lambda: len(model.calls) == 2)
    asking.append(asyncio.ensure_future(ask(this, "ccc")))
    asking.append(asyncio.ensure_future(ask(this, ["a", "ccc"])))
    await until(lambda: _waiting(this) == 4)
    model.hold.set()
    first, second, third, fourth = await asyncio.gather(*asking)
    assert vectors(first) == [vector(text) for text in ("a", "bb", "ccc")]
    assert vectors(second) == [vector(text) for text in ("dddd", "bb", "a")]
    assert vectors(third) == [vector("ccc")]
    assert vectors(fourth) == [vector("a"), vector("ccc")]
    assert model.calls == [["a", "bb", "ccc"], ["dddd"]]
    ids = ["x-request-id" in one.names for one in (first, second, third, fourth)]
    assert ids == [True, True, False, False], "one has the id of another's call"


@pytest.mark.parametrize("known", [[], ["a"], ["a", "bb"]])
async def test_a_refusal_is_the_servers_own(rig: MakeRig, known: list[str]) -> None:
    """A bad item among known ones: the client gets what the server says to its whole call, with
    the place that it has there; nothing of it is stored.
    """
    model = Encoder(bad="bad")
    this = await rig(model)
    for text in known:
        await ask(this, text)
    for _ in range(2):
        got = await ask(this, ["a", "bb", "bad"])
        assert got.status == 400
        assert orjson.loads(got.body)["error"]["message"] == "input 2 is bad"
    assert vectors(await ask(this, ["a", "bb"])) == [vector("a"), vector("bb")]


async def test_nobody_gets_anothers_refusal(rig: MakeRig) -> None:
    """Whoever shares an item with a call that is refused for another item asks by itself."""
    model = Encoder(bad="bad")
    this = await rig(model)
    model.hold.clear()
    refused = asyncio.ensure_future(ask(this, ["a", "bb", "bad"]))
    await until(lambda: len(model.calls) == 1)
    others = [asyncio.ensure_future(ask(this, texts)) for texts in (["a", "ccc"], "bb")]
    await until(lambda: len(model.calls) == 2)
    await until(lambda: _waiting(this) == 3)
    model.hold.set()
    assert (await refused).status == 400
    assert vectors(await others[0]) == [vector("a"), vector("ccc")]
    assert vectors(await others[1]) == [vector("bb")]


@pytest.mark.parametrize("answer", ["503 Service Unavailable", "429 Too Many Requests"])
async def test_a_server_in_trouble_is_not_asked_twice(rig: MakeRig, answer: str) -> None:
    """What speaks of no item is passed on as it is."""
    model = Encoder(bad="bad", status=answer)
    this = await rig(model)
    await ask(this, "a")
    got = await ask(this, ["a", "bad"])
    assert got.status == int(answer[:3])
    assert model.calls == [["a"], ["bad"]]


async def test_an_answer_with_an_item_missing_is_nobodys(rig: MakeRig) -> None:
    """It cannot be told whose is whose: the whole call goes on as it came, and nothing is stored
    under an item.
    """
    model = Encoder()
    this = await rig(model)
    await ask(this, "a")
    model.odd = True
    got = await ask(this, ["a", "bb", "ccc"])
    assert model.calls[1:] == [["bb", "ccc"], ["a", "bb", "ccc"]]
    assert len(orjson.loads(got.body)["data"]) == 2
    assert "hit" in status(await ask(this, ["a", "bb", "ccc"]))
    model.odd = False
    assert vectors(await ask(this, ["bb"])) == [vector("bb")]
    assert model.calls[-1] == ["bb"]


async def test_a_client_that_leaves_ends_what_is_its_alone(rig: MakeRig) -> None:
    """The call ends with the last client that has a use for one of its items."""
    gone = asyncio.Event()
    model = Encoder()
    model.hold.clear()

    async def watched(peer: Peer, message: Message) -> None:
        held = asyncio.ensure_future(model(peer, message))
        try:
            await peer.ended()
            gone.set()
        finally:
            held.cancel()

    this = await rig(watched)
    one, other = await this.client(), await this.client()
    one.ask("POST", "/v1/embeddings", body=orjson.dumps(question(["a", "bb"])))
    await until(lambda: len(model.calls) == 1)
    other.ask("POST", "/v1/embeddings", body=orjson.dumps(question("a")))
    await until(lambda: this.cache.flights and any(
        len(flight._waiting) > 1 for flight in this.cache.flights.values()
    ))  # fmt: skip
    one.abort()
    await until(lambda: any(len(f._waiting) == 1 for f in this.cache.flights.values()))
    assert not gone.is_set()
    other.abort()
    async with asyncio.timeout(5):
        await gone.wait()
    await until(lambda: not this.cache.flights)


async def test_wishes_hold_for_items(rig: MakeRig) -> None:
    """`only-if-cached` gives what is known or 504; `no-store` and `no-cache` go past the items."""
    model = Encoder()
    this = await rig(model)
    await ask(this, ["a", "bb"])
    only = "cache-control: only-if-cached"
    assert vectors(await ask(this, ["bb", "a"], only)) == [vector("bb"), vector("a")]
    assert (await ask(this, ["bb", "new"], only)).status == 504
    await ask(this, ["bb", "a"], "cache-control: no-store")
    await ask(this, ["bb", "a"], "cache-control: no-cache")
    assert model.calls == [["a", "bb"], ["bb", "a"], ["bb", "a"]]


async def test_items_grow_old(rig: MakeRig) -> None:
    """Each by itself: the age told is the oldest one's, and one that is over is asked anew."""
    model = Encoder()
    this = await rig(model, ttl=10)
    await ask(this, "a")
    this.clock.advance(6)
    await ask(this, "bb")
    this.clock.advance(1)
    got = await ask(this, ["a", "bb"])
    assert (got["age"], "hit" in status(got)) == ("7", True)
    this.clock.advance(4)
    await ask(this, ["a", "bb"])
    assert model.calls == [["a"], ["bb"], ["a"]]


async def test_tenants_have_items_of_their_own(rig: MakeRig) -> None:
    """A credential's items are nobody else's."""
    model = Encoder()
    this = await rig(model)
    await ask(this, ["a", "bb"], "authorization: Bearer alice")
    await ask(this, ["a", "bb"], "authorization: Bearer bob")
    assert model.calls == [["a", "bb"], ["a", "bb"]]


async def test_it_can_be_switched_off(rig: MakeRig) -> None:
    """Then a call is one thing, as it came, and nothing else knows its items."""
    model = Encoder()
    this = await rig(model, items=False)
    for texts in (["a", "bb"], ["bb", "a"], ["a", "bb"], "a", ["a"]):
        await ask(this, texts)
    assert model.calls == [["a", "bb"], ["bb", "a"], ["a"], ["a"]]


async def test_other_parameters_are_other_items(rig: MakeRig) -> None:
    """A text for another model, or in base64, is another question."""
    model = Encoder()
    this = await rig(model)
    await ask(this, ["a", "bb"])
    for more in ({"model": "n"}, {"dimensions": 8}, {"encoding_format": "base64"}):
        body = {**question(["a", "bb"]), **more}
        await this.ask(body)
    assert len(model.calls) == 4


async def test_a_server_of_another_shape_is_asked_once(
    rig: MakeRig, caplog: pytest.LogCaptureFixture
) -> None:
    """After ODD_ANSWERS answers that cannot be taken apart calls go on whole, and are cached so."""
    this = await rig()
    for number in range(ODD_ANSWERS + 2):
        await this.ask(question([str(number), "x"]))
    assert this.origin.count == 2 * ODD_ANSWERS + 2
    assert "looks whole calls of their target and model up" in caplog.text
    for number in range(ODD_ANSWERS + 2):
        assert "hit" in status(await this.ask(question([str(number), "x"])))


async def test_a_model_of_another_shape_is_no_other_models_business(rig: MakeRig) -> None:
    """Calls of other models on the route, and of other targets, are looked up by item still."""
    model = Encoder()
    model.odd = True
    this = await rig(model)
    for number in range(ODD_ANSWERS):
        await ask(this, [str(number), "x"])
    model.odd = False
    other = question(["a", "b"]) | {"model": "other"}
    for target, body in (("/v1/embeddings", other), ("/v1/embeddings?v=2", question(["a", "b"]))):
        body = orjson.dumps(body)
        await (await this.client()).exchange("POST", target, body=body)
        again = orjson.dumps(orjson.loads(body) | {"input": ["b"]})
        got = await (await this.client()).exchange("POST", target, body=again)
        assert "hit" in status(got)
    await ask(this, ["c", "d"])
    assert "hit" not in status(await ask(this, ["d"]))


async def test_kinds_of_calls_of_another_shape_are_few(
    rig: MakeRig, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Clients choose them: so many are remembered, then all are forgotten."""
    monkeypatch.setattr("middleware.cache.item_calls.MAX_ODD", 2)
    this = await rig()
    for number in range(3 * ODD_ANSWERS):
        await this.ask(question(["a", f"b{number}"]) | {"model": f"{number % 3}"})
    before = this.origin.count
    await this.ask(question(["a", "c"]) | {"model": "0"})
    assert this.origin.count == before + 2


async def test_an_answer_that_is_too_large_is_not_taken_in(
    rig: MakeRig, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Beyond MAX_ANSWER the client gets a 502, and the next call is served."""
    this = await rig(Encoder())
    monkeypatch.setattr("middleware.cache.items.MAX_ANSWER", 400)
    got = await ask(this, [f"a long text {number}" for number in range(2000)])
    assert (got.status, got["x-remora-error"]) == (502, "upstream_answer_too_large")
    assert vectors(await ask(this, ["a", "bb"])) == [vector("a"), vector("bb")]
