"""A sentence encoder in numpy with the shape of all-MiniLM-L6-v2 and random weights.

6 layers, 384 wide, 12 heads, 1536 in the feed-forward part; the mean over a text's tokens, at
length 1. Its vectors mean nothing, but they cost what the trained model's do, alone and in a batch.
"""

from __future__ import annotations

import re
import zlib
from collections.abc import Sequence
from typing import Any

import numpy as np

WIDTH = 384
LAYERS = 6
HEADS = 12
FEED_FORWARD = 1536
VOCABULARY = 8192
"""Rows of the table of words; two words may share one."""
MAX_TOKENS = 256
SEED = 20_240_117
TOLERANCE = 1e-5
"""By how much a number may differ between a text alone and the same text in a batch: matrices of
other sizes are added up in another order. 1.7e-6 was seen.
"""

_BEGIN, _END = 0, 1
_WORD = re.compile(r"\w+|[^\w\s]")
_HEAD = WIDTH // HEADS


class BadText(ValueError):
    """A text that cannot be encoded; the message says which and why."""


class Encoder:
    """The weights: the same for one seed and one numpy. Some 14 million numbers, 55 MB."""

    def __init__(self, seed: int = SEED) -> None:
        random = np.random.default_rng(seed)

        def matrix(rows: int, columns: int) -> Any:
            # Scaled so that a layer neither blows its input up nor lets it vanish.
            return random.standard_normal((rows, columns), np.float32) * np.float32(rows**-0.5)

        self._words = random.standard_normal((VOCABULARY, WIDTH), np.float32)
        self._places = random.standard_normal((MAX_TOKENS, WIDTH), np.float32)
        self._layers = [
            (
                matrix(WIDTH, 3 * WIDTH),
                matrix(WIDTH, WIDTH),
                matrix(WIDTH, FEED_FORWARD),
                matrix(FEED_FORWARD, WIDTH),
            )
            for _ in range(LAYERS)
        ]

    def read(self, texts: Sequence[str]) -> list[list[int]]:
        """A number for each word and each sign of punctuation, by its hash; one before, one after.

        Raises BadText where a text has none, or more than MAX_TOKENS in all.
        """
        rows = []
        for index, text in enumerate(texts):
            words = _WORD.findall(text.lower())
            if not words:
                raise BadText(f"text {index} is empty")
            if len(words) + 2 > MAX_TOKENS:
                raise BadText(f"text {index} has {len(words) + 2} tokens, not {MAX_TOKENS} at most")
            hashed = [2 + zlib.crc32(word.encode()) % (VOCABULARY - 2) for word in words]
            rows.append([_BEGIN, *hashed, _END])
        return rows

    def embed(self, rows: Sequence[Sequence[int]]) -> Any:
        """A float32 array of len(rows) x WIDTH, each row of length 1. rows: of `read`.

        Each is padded to the longest, so that a call costs what as many of the longest would.
        """
        count, longest = len(rows), max(map(len, rows))
        tokens = np.zeros((count, longest), np.int64)
        mask = np.zeros((count, longest), np.float32)
        for index, row in enumerate(rows):
            tokens[index, : len(row)] = row
            mask[index, : len(row)] = 1
        hidden = _normal(self._words[tokens] + self._places[:longest]).reshape(-1, WIDTH)
        hide = (mask - 1)[:, None, None, :] * np.float32(1e9)
        for inward, outward, up, down in self._layers:
            parts = (hidden @ inward).reshape(count, longest, 3, HEADS, _HEAD)
            query, key, value = parts.transpose(2, 0, 3, 1, 4)
            seen = _attend(query @ key.transpose(0, 1, 3, 2), hide) @ value
            seen = seen.transpose(0, 2, 1, 3).reshape(-1, WIDTH)
            hidden = _normal(hidden + seen @ outward)
            hidden = _normal(hidden + _gelu(hidden @ up) @ down)
        weights = mask / mask.sum(1, keepdims=True)
        mean = (weights[:, None, :] @ hidden.reshape(count, longest, WIDTH))[:, 0]
        return mean / np.sqrt((mean * mean).sum(1, keepdims=True))


def _attend(scores: Any, hide: Any) -> Any:
    """Softmax over the last dimension; what is hidden gets no weight."""
    scores *= np.float32(_HEAD**-0.5)
    scores += hide
    scores -= scores.max(-1, keepdims=True)
    np.exp(scores, out=scores)
    scores /= scores.sum(-1, keepdims=True)
    return scores


def _normal(rows: Any) -> Any:
    """Mean 0 and variance 1 along the last dimension."""
    rows = rows - rows.mean(-1, keepdims=True)
    rows /= np.sqrt((rows * rows).mean(-1, keepdims=True) + np.float32(1e-12))
    return rows


def _gelu(x: Any) -> Any:
    """Its usual approximation with tanh, in place where it can be."""
    inner = x * x
    inner *= np.float32(0.044715)
    inner += 1
    inner *= x
    inner *= np.float32(0.7978845608)
    np.tanh(inner, out=inner)
    inner += 1
    inner *= x
    inner *= np.float32(0.5)
    return inner
