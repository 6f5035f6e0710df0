"""The keys that are known, by their digests. No I/O but `read`, which blocks."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from fnmatch import translate
from hashlib import sha256
from pathlib import Path

from proxy.exchange import Identity

from .config import MIN_KEY, Key

MAX_FILE = 64 * 1024
"""Bytes of a file with keys."""

_DIGEST = re.compile(r"sha256:([0-9a-fA-F]{64})")


class BadKeys(OSError):
    """Keys cannot be taken up; the message says why and shows none.

    An OSError: one of those ends the start with its message alone.
    """


@dataclass(frozen=True, slots=True)
class Holder:
    """Whoever has a key. models: what it may use, as one pattern; None for everything."""

    identity: Identity
    models: re.Pattern[str] | None

    @classmethod
    def of(cls, key: Key) -> Holder:
        models = None
        if key.models is not None:
            # Only `*` is special: a model's name may hold brackets and question marks.
            plain = ("".join(map(_escaped, model)) for model in key.models)
            models = re.compile("|".join(translate(one) for one in plain) or r"(?!)")
        limits = None if key.limits is None else tuple(key.limits)
        return cls(Identity(key.name, limits, key.priority), models)


def _escaped(char: str) -> str:
    return f"[{char}]" if char in "?[" else char


def digests(key: Key) -> list[bytes]:
    """SHA-256 of what `key` stands for. Blocks where it is in a file. Raises BadKeys."""
    if key.sha256 is not None:
        return [bytes.fromhex(key.sha256)]
    if key.key is not None:
        return [_digest(key.key.get_secret_value())]
    assert key.file is not None
    return read(Path(key.file))


def read(path: Path) -> list[bytes]:
    """Digests of the keys in a file, one a line; empty lines and `#` comments are passed over."""
    try:
        with path.open("rb") as file:
            content = file.read(MAX_FILE + 1)
    except OSError as error:
        raise BadKeys(f"`{path}` cannot be read: {error.strerror}") from None
    if len(content) > MAX_FILE:
        raise BadKeys(f"`{path}` holds more than {MAX_FILE} bytes")
    try:
        lines = [line.strip() for line in content.decode("utf-8-sig").splitlines()]
    except UnicodeDecodeError:
        raise BadKeys(f"`{path}` is not UTF-8 text") from None
    found = []
    for number, line in enumerate(lines, 1):
        if not line or line.startswith("#"):
            continue
        if (hashed := _DIGEST.fullmatch(line)) is not None:
            found.append(bytes.fromhex(hashed[1]))
        elif line.startswith("sha256:"):
            raise BadKeys(f"`{path}` line {number}: 64 hexadecimal digits follow `sha256:`")
        elif len(line) < MIN_KEY:
            raise BadKeys(f"`{path}` line {number}: a key has at least {MIN_KEY} characters")
        else:
            found.append(_digest(line))
    return found


def _digest(text: str) -> bytes:
    return sha256(text.encode()).digest()


class KeyTable:
    """Finds a holder by a key. Keys are high in entropy, so one SHA-256 of each is what is kept:
    a slow hash would protect nothing and let strangers buy our CPU with wrong keys.
    """

    def __init__(self) -> None:
        self._holders: Mapping[bytes, Holder] = {}

    def take(self, keys: Iterable[tuple[Holder, Iterable[bytes]]]) -> None:
        """Replaces all at once. Raises BadKeys, with nothing changed, where two hold one key."""
        holders: dict[bytes, Holder] = {}
        for holder, known in keys:
            for digest in known:
                other = holders.setdefault(digest, holder)
                if other is not holder:
                    names = f"`{other.identity.name}` and `{holder.identity.name}`"
                    raise BadKeys(f"{names} have the same key: each needs its own")
        self._holders = holders

    def __len__(self) -> int:
        return len(self._holders)

    def find(self, presented: bytes) -> Holder | None:
        """None for a key that nobody has.

        Its time tells nothing of the keys that are known: digests are looked up, which whoever
        asks can neither choose nor see, under SipHash with a secret of this process.
        """
        return self._holders.get(sha256(presented).digest())
