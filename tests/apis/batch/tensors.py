"""A server of the Open Inference Protocol as a pure function of each row, in both encodings."""

from __future__ import annotations

import json
import math
import struct
from collections.abc import Sequence
from typing import Any

from proxy.exchange import Request, Response

from .servers import Style, seed, write

SIZES = {
    "INT64": "q", "INT32": "i", "UINT8": "B", "FP32": "f", "FP64": "d", "BOOL": "?", "FP16": "e",
}  # fmt: skip
SPLIT = "Inference-Header-Content-Length"


def flat(values: Any) -> list[Any]:
    return (
        [one for inner in values for one in flat(inner)] if isinstance(values, list) else [values]
    )


def packed(datatype: str, values: Sequence[Any]) -> bytes:
    if datatype == "BYTES":
        raws = [one.encode() for one in values]
        return b"".join(struct.pack("<I", len(raw)) + raw for raw in raws)
    return struct.pack(f"<{len(values)}{SIZES[datatype]}", *values)


def unpacked(datatype: str, raw: bytes) -> list[Any]:
    if datatype != "BYTES":
        form = SIZES[datatype]
        return list(struct.unpack(f"<{len(raw) // struct.calcsize('<' + form)}{form}", raw))
    values = []
    while raw:
        size = int.from_bytes(raw[:4], "little")
        values.append(raw[4 : 4 + size].decode())
        raw = raw[4 + size :]
    return values


def nested(values: Sequence[Any], shape: Sequence[int]) -> Any:
    if len(shape) == 1:
        return list(values)
    each = len(values) // shape[0]
    return [nested(values[at : at + each], shape[1:]) for at in range(0, len(values), each)]


def told(body: bytes, size: bytes | None) -> tuple[Any, dict[str, list[Any]]]:
    """The text, and each tensor's elements; whichever encoding they have."""
    head, rest = (body, b"") if size is None else (body[: int(size)], body[int(size) :])
    text = json.loads(head)
    held = {}
    for one in text["inputs" if "inputs" in text else "outputs"]:
        length = one.get("parameters", {}).get("binary_data_size")
        if length is None:
            held[one["name"]] = flat(one["data"])
        else:
            held[one["name"]] = unpacked(one["datatype"], rest[:length])
            rest = rest[length:]
        assert len(held[one["name"]]) == math.prod(one["shape"])
    assert not rest
    return text, held


def tensor(
    name: str, datatype: str, shape: Sequence[int], values: Sequence[Any], form: str
) -> tuple[dict[str, Any], bytes]:
    """form: flat, nested or binary."""
    one: dict[str, Any] = {"name": name, "shape": list(shape), "datatype": datatype}
    if form == "binary":
        raw = packed(datatype, values)
        return one | {"parameters": {"k": 1, "binary_data_size": len(raw)}}, raw
    return one | {"data": nested(values, shape) if form == "nested" else list(values)}, b""


def message(
    text: dict[str, Any], key: str, tensors: Sequence[tuple[dict[str, Any], bytes]], style: Style
) -> tuple[list[tuple[bytes, bytes]], bytes]:
    """Head and body of a request or an answer."""
    text = {**text, key: [one for one, _ in tensors]}
    head = write(text, style).encode()
    tail = b"".join(raw for _, raw in tensors)
    headers = []
    if any("parameters" in one for one, _ in tensors):
        headers.append((SPLIT.encode(), b"%d" % len(head)))
    return headers, head + tail


def infer(request: Request, style: Style, out: str = "flat", steps: bool = False) -> Response:
    """Each row gives two numbers and a text; with steps, also a number of each of its steps.

    A step that the mask leaves out gives what no caller should see.
    """
    assert isinstance(request.body, bytes)
    text, held = told(request.body, request.header(SPLIT.lower().encode()))
    rows = text["inputs"][0]["shape"][0]
    split = {name: nested(values, [rows, len(values) // rows]) for name, values in held.items()}
    mask = split.get("mask")
    pairs, words, each = [], [], []
    for row in range(rows):
        own: Any = [values[row] for name, values in sorted(split.items()) if name != "mask"]
        if mask is not None:
            own = [[v for v, m in zip(one, mask[row], strict=True) if m] for one in own]
        pairs += [seed(own) % 1000 / 8, seed(own, 1) % 1000 / 8]
        words.append(f"],[{seed(own, 2) % 99}\u00e9")
        if steps:
            ids = split["ids"][row]
            each += [7 * v if m else 666 for v, m in zip(ids, mask[row], strict=True)]  # type: ignore[index]
    outputs = [
        tensor("pair", "FP32", [rows, 2], pairs, out),
        tensor("word", "BYTES", [rows, 1], words, out),
    ]
    if steps:
        outputs.append(tensor("each", "INT64", [rows, len(each) // rows], each, out))
    echoed = {"id": text["id"]} if text.get("id") else {}
    headers, body = message({**echoed, "model_name": "m"}, "outputs", outputs, style)
    return Response(200, [(b"Content-Type", b"application/json"), *headers], body)
