"""Keys in files and by digest, and what becomes of a change."""

from __future__ import annotations

from hashlib import sha256
from pathlib import Path
from typing import Any

import pytest

from middleware.auth import Auth
from middleware.auth.config import MIN_KEY
from middleware.auth.keys import MAX_FILE, BadKeys, read
from tests.auth.rig import AUTH, BEARER_ONE, ONE, TWO, Server, ask
from tests.conftest import Serve, UpstreamMaker
from tests.road.wire import until


def holding(path: Path, **keys: Any) -> list[dict[str, Any]]:
    return [{AUTH: {"keys": [{"name": "team", "file": str(path)}], "reread": 0.01, **keys}}]


def test_a_file_holds_a_key_or_a_digest_on_each_line(tmp_path: Path) -> None:
    """Comments and empty lines are passed over; white space around a key, and the mark that some
    editors begin a file with, are none of it.
    """
    path = tmp_path / "keys"
    digest = sha256(TWO.encode())
    path.write_text(f"# team\n\n  {ONE} \r\nsha256:{digest.hexdigest()}\n")
    assert read(path) == [sha256(ONE.encode()).digest(), digest.digest()]
    path.write_bytes(b"\xef\xbb\xbf" + ONE.encode() + b"\r\n")
    assert read(path) == [sha256(ONE.encode()).digest()]


@pytest.mark.parametrize(
    ("content", "told"),
    [
        (b"short\n", f"line 1: a key has at least {MIN_KEY}"),
        (b"\nsha256:abc\n", "line 2: 64 hexadecimal"),
        (b"\xff" * 20, "not UTF-8"),
        (b"x" * (MAX_FILE + 1), "more than"),
        (None, "cannot be read"),
    ],
)
def test_a_bad_file_is_told_without_its_keys(
    tmp_path: Path, content: bytes | None, told: str
) -> None:
    """The message has the path, the line and what is wrong there."""
    path = tmp_path / "keys"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(BadKeys, match=told) as caught:
        read(path)
    assert str(path) in str(caught.value)
    assert "short" not in str(caught.value)


async def test_a_digest_is_enough(serve: Serve, upstream: UpstreamMaker) -> None:
    """The file need not hold the key itself."""
    keys = [{"name": "one", "sha256": sha256(ONE.encode()).hexdigest().upper()}]
    running = await serve(await upstream(Server()), chain=[{AUTH: {"keys": keys}}])
    assert (await ask(running, BEARER_ONE)).status == 200
    assert (await ask(running, f"x-api-key: {keys[0]['sha256']}")).status == 401


async def test_a_changed_file_is_taken_up(
    serve: Serve, upstream: UpstreamMaker, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """A new key works without a restart and an old one no more; as a secret is mounted, too,
    where a link is turned to another folder.
    """
    for name, key in (("old", ONE), ("new", TWO)):
        (tmp_path / name).mkdir()
        (tmp_path / name / "key").write_text(key)
    (tmp_path / "data").symlink_to("old")
    running = await serve(await upstream(Server()), chain=holding(tmp_path / "data" / "key"))
    assert (await ask(running, BEARER_ONE)).status == 200
    (tmp_path / "next").symlink_to("new")
    caplog.set_level("INFO", "remora")
    (tmp_path / "next").rename(tmp_path / "data")
    await until(lambda: "took up its keys" in caplog.text)
    assert (await ask(running, BEARER_ONE)).status == 401
    assert (await ask(running, f"authorization: Bearer {TWO}")).status == 200


async def test_a_change_for_the_worse_changes_nothing(
    serve: Serve, upstream: UpstreamMaker, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """The old keys stay, the log says why, and the next good file is taken up."""
    path = tmp_path / "keys"
    path.write_text(ONE)
    running = await serve(await upstream(Server()), chain=holding(path))
    path.write_text("short")
    await until(lambda: "stay as they were" in caplog.text)
    assert (await ask(running, BEARER_ONE)).status == 200
    path.unlink()
    await until(lambda: "cannot be read" in caplog.text)
    assert (await ask(running, BEARER_ONE)).status == 200
    caplog.set_level("INFO", "remora")
    path.write_text(TWO)
    await until(lambda: "took up its keys" in caplog.text)
    assert (await ask(running, BEARER_ONE)).status == 401
    assert "refuses everybody" not in caplog.text
    path.write_text("")  # a way to revoke all of it, which should not go unseen
    await until(lambda: "refuses everybody" in caplog.text)
    assert (await ask(running, f"authorization: Bearer {TWO}")).status == 401


class Watched(Auth):
    """Looks that a test scripts, as numbers, the last one again and again. tried: after which."""

    def __init__(self, config: Any, env: Any) -> None:
        super().__init__(config, env)
        self.looks = iter([1, 2, 3, 3, 3, 4, 4, 4, 5, 5])
        self.seen: list[int] = []
        self.tried: list[int] = []

    def _look(self) -> Any:
        self.seen.append(next(self.looks, 5))
        return self.seen[-1]

    async def _take_up(self) -> None:
        self.tried.append(len(self.seen))
        if self.seen[-1] == 4:
            raise BadKeys("it is bad")


async def test_a_file_is_taken_up_when_it_stands_still(
    serve: Serve, upstream: UpstreamMaker, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """Whoever writes a file in place leaves it empty for a moment, or cut. One that cannot be
    taken up is tried again each time, for a disk may come back; the log says so once.
    """
    chain = holding(tmp_path / "keys")
    chain[0] = {"tests.auth.test_files:Watched": chain[0][AUTH]}
    running = await serve(await upstream(Server()), chain=chain)
    layer = running.layer(Watched)
    await until(lambda: len(layer.seen) > 12)
    assert layer.tried == [1, 4, 7, 8, 10]
    assert caplog.text.count("stay as they were: it is bad") == 1


async def test_a_start_without_its_file_fails(
    serve: Serve, upstream: UpstreamMaker, tmp_path: Path
) -> None:
    """Nobody is to find out by a 401."""
    with pytest.raises(BadKeys, match="cannot be read"):
        await serve(await upstream(Server()), chain=holding(tmp_path / "none"))


async def test_two_holders_of_one_key_are_refused(serve: Serve, upstream: UpstreamMaker) -> None:
    """One of them would be taken for the other."""
    keys = [{"name": "one", "key": ONE}, {"name": "two", "key": ONE}]
    with pytest.raises(BadKeys, match="`one` and `two` have the same key"):
        await serve(await upstream(Server()), chain=[{AUTH: {"keys": keys}}])
