"""CPU and size of each content coding on a chat answer, an embeddings answer and a stream:

python -m tests.bench.compress
"""

from __future__ import annotations

import random
import time

import orjson

from middleware.compress.codings import CODINGS, encoder


def bodies() -> dict[str, list[bytes]]:
    """Pieces of each body; a stream is flushed behind every one."""
    rng = random.Random(1)
    words = [f"w{rng.randrange(4000)}" for _ in range(600)]
    vectors = [[rng.gauss(0, 0.05) for _ in range(384)] for _ in range(32)]
    chat = {"id": "x", "choices": [{"message": {"content": " ".join(words)}}]}
    event = {"id": "chatcmpl-1", "object": "chat.completion.chunk", "model": "m"}
    events = [
        b"data: " + orjson.dumps({**event, "choices": [{"delta": {"content": word}}]}) + b"\n\n"
        for word in words
    ]
    return {
        "chat, whole": [orjson.dumps(chat)],
        "32 x 384 floats": [orjson.dumps({"data": [{"embedding": one} for one in vectors]})],
        "chat, 600 events": events,
    }


def main() -> None:
    for name, pieces in bodies().items():
        size = sum(map(len, pieces))
        for coding in CODINGS:
            rounds = 0
            started = time.process_time()
            while time.process_time() - started < 0.5:
                work = encoder(coding)
                out = 0
                for piece in pieces:
                    out += len(work.feed(piece))
                    if len(pieces) > 1:
                        out += len(work.flush())
                out += len(work.end())
                rounds += 1
            spent = (time.process_time() - started) / rounds * 1e6
            each = f", {spent / len(pieces):.1f} us an event" if len(pieces) > 1 else ""
            print(f"{name:18} {coding:5} {size:7} -> {out:7} bytes {spent:8.0f} us{each}")


if __name__ == "__main__":
    main()
