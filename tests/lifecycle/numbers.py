"""Reads what /metrics says."""

from __future__ import annotations

from prometheus_client.parser import text_string_to_metric_families

from .client import get

Samples = dict[tuple[str, frozenset[tuple[str, str]]], float]


class Numbers:
    """All samples of one answer. `numbers("name", label="value")`: one, None where it is not."""

    def __init__(self, text: str) -> None:
        self.samples: Samples = {}
        for family in text_string_to_metric_families(text):
            for sample in family.samples:
                key = (sample.name, frozenset(sample.labels.items()))
                assert key not in self.samples, f"{sample} twice"
                self.samples[key] = sample.value

    def __call__(self, name: str, **labels: str) -> float | None:
        return self.samples.get((name, frozenset(labels.items())))


async def numbers(admin: str) -> Numbers:
    """What the admin port at `admin` tells."""
    answer = await get(admin, "/metrics")
    assert answer.status == 200
    return Numbers(answer.body.decode())
