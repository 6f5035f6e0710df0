"""tritonclient many times at once in every form: prints what each was told, as JSON.

usage: triton_merged_client.py HOST:PORT CLIENTS. Run by the Python of the `triton` environment.
"""

from __future__ import annotations

import itertools
import json
import sys
from concurrent.futures import ThreadPoolExecutor
from threading import Barrier
from typing import Any

import numpy
import tritonclient.http as triton

FORMS = list(itertools.product((False, True), repeat=2))


def ask(client: Any, text: str, name: str, sent: bool, wanted: bool) -> Any:
    given = triton.InferInput("text", [1, 1], "BYTES")
    rows = numpy.array([[text.encode()]], dtype=numpy.object_)
    given.set_data_from_numpy(rows, binary_data=sent)
    answer = client.infer(
        "encoder",
        [given],
        outputs=[triton.InferRequestedOutput("vector", binary_data=wanted)],
        request_id=name,
    )
    vector = answer.as_numpy("vector")
    return {"id": answer.get_response()["id"], "vector": vector.tolist()}


def main() -> None:
    address, count = sys.argv[1], int(sys.argv[2])
    ready = Barrier(count)

    def work(number: int) -> list[Any]:
        # A client belongs to the thread that made it.
        client = triton.InferenceServerClient(address, network_timeout=30)
        try:
            told = []
            for sent, wanted in FORMS:
                ready.wait(30)
                text = f"client {number} asks " + "kelp " * number
                told.append(ask(client, text, f"{number}-{sent}-{wanted}", sent, wanted))
            return told
        finally:
            client.close()

    with ThreadPoolExecutor(count) as pool:
        json.dump(list(pool.map(work, range(count))), sys.stdout)


if __name__ == "__main__":
    main()
