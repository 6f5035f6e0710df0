"""The two ways in which OpenAI's API writes an embedding: numbers, or base64 of their bytes."""

from __future__ import annotations

import struct
from binascii import b2a_base64
from typing import Any

_EMBEDDINGS = b"/embeddings"


def may_ask_base64(method: bytes, path: bytes) -> bool:
    """Whether this is a call that knows `encoding_format`."""
    return method == b"POST" and path.endswith(_EMBEDDINGS)


def ask_floats(body: Any) -> bool:
    """Takes a request's `base64` out, which leaves the default; False where it has none."""
    if not isinstance(body, dict) or body.get("encoding_format") != "base64":
        return False
    # Not `float` in its place: the request is then the same as one that says nothing.
    del body["encoding_format"]
    return True


def write_base64(answer: Any) -> None:
    """Puts base64 of little-endian float32 in the place of each embedding that is a list.

    Raises ValueError where one holds anything but numbers that float32 can hold.
    """
    data = answer.get("data") if isinstance(answer, dict) else None
    for item in data if isinstance(data, list) else ():
        vector = item.get("embedding") if isinstance(item, dict) else None
        if isinstance(vector, list):
            try:
                packed = struct.pack(f"<{len(vector)}f", *vector)
            except (struct.error, OverflowError):
                raise ValueError("an embedding that float32 cannot hold") from None
            item["embedding"] = b2a_base64(packed, newline=False).decode()
