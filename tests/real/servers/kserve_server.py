"""A KServe model that computes next to nothing: run by the Python of the `kserve` environment.

V1: an instance is a list of 4 numbers, its prediction their weighted sum and the largest of them.
`--http_port N --enable_grpc false`: KServe reads its own options, as it is imported.
"""

from __future__ import annotations

from typing import Any

import numpy
from kserve import Model, ModelServer

WEIGHTS = numpy.array([0.5, -1.25, 2.0, 0.125])


class Cheap(Model):  # type: ignore[misc]
    def load(self) -> bool:
        self.ready = True
        return True

    def predict(self, payload: dict[str, Any], headers: Any = None, **_: Any) -> dict[str, Any]:
        rows = numpy.array(payload["instances"], numpy.float64)
        answers = numpy.stack([rows @ WEIGHTS, rows.max(1)], 1)
        return {"predictions": answers.tolist()}


if __name__ == "__main__":
    cheap = Cheap("cheap")
    cheap.load()
    ModelServer().start([cheap])
