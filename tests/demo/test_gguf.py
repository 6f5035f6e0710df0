"""The GGUF that the demo writes."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from gguf import GGUFReader

from proxy.demo.gguf import SILENCE, WORDS, write_model


def test_two_processes_write_the_same_bytes(tmp_path: Path) -> None:
    """The model is byte-identical on each run, whatever the process hashes strings with."""
    written = []
    for seed in ("1", "2"):
        path = tmp_path / f"{seed}.gguf"
        subprocess.run(
            [
                sys.executable,
                "-c",
                f"from proxy.demo.gguf import write_model; write_model({str(path)!r})",
            ],
            env={"PYTHONHASHSEED": seed, "PYTHONPATH": str(Path(__file__).parents[2])},
            check=True,
        )
        written.append(path.read_bytes())
    assert written[0] == written[1]


def test_about_one_megabyte(tmp_path: Path) -> None:
    """The model is between 0.8 and 1.2 MB."""
    path = tmp_path / "demo.gguf"
    write_model(path)
    assert 800_000 < path.stat().st_size < 1_200_000


def test_only_words_can_be_said(tmp_path: Path) -> None:
    """Every row of the output matrix that is no whole word holds the bias SILENCE and no more."""
    path = tmp_path / "demo.gguf"
    write_model(path)
    reader = GGUFReader(path)
    tokens = reader.fields["tokenizer.ggml.tokens"].contents()
    output = next(t.data for t in reader.tensors if t.name == "output.weight")
    spoken = {"▁" + word for word in WORDS}
    assert len(spoken) == len(WORDS)
    for token, row in zip(tokens, output, strict=True):
        if token in spoken:
            assert row[0] == 0 and row.any()
        else:
            assert row[0] == SILENCE and not row[1:].any()
