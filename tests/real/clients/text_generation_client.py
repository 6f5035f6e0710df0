"""PyPI's text-generation client against one server: prints what came back, as JSON.

usage: text_generation_client.py URL PART... Run by the Python of the `text-generation` environment.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from typing import Any

import text_generation
from text_generation import errors


def raised(call: Callable[[], Any]) -> dict[str, str]:
    try:
        call()
    except Exception as error:
        own = type(error) is getattr(errors, type(error).__name__, None)
        name = type(error).__name__ if own else f"{type(error).__module__}.{type(error).__name__}"
        return {"class": name, "message": str(error)}
    return {"class": "", "message": "nothing was raised"}


def main() -> None:
    client = text_generation.Client(sys.argv[1], timeout=20)
    wanted = sys.argv[2:]
    told: dict[str, Any] = {}
    if "generate" in wanted:
        answer = client.generate("What is a remora?", max_new_tokens=12, seed=7)
        told["generate"] = answer.model_dump(mode="json")
    if "stream" in wanted:
        events = client.generate_stream("What is a remora?", max_new_tokens=12, seed=7)
        told["stream"] = [event.model_dump(mode="json") for event in events]
    if "invalid" in wanted:
        told["invalid"] = raised(lambda: client.generate("hello", max_new_tokens=0))
        told["invalid_stream"] = raised(
            lambda: list(client.generate_stream("hello", max_new_tokens=0))
        )
    if "broken" in wanted:
        seen: list[str] = []

        def read() -> None:
            for event in client.generate_stream("hello", max_new_tokens=12):
                seen.append(event.token.text)

        told["broken"] = {**raised(read), "seen": seen}
    if "refused" in wanted:
        told["refused"] = raised(lambda: client.generate("hello"))
    json.dump(told, sys.stdout)


if __name__ == "__main__":
    main()
