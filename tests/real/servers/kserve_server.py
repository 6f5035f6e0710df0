"""Two models in KServe, v1: run by the Python of the `kserve` environment.

`cheap`: an instance is a list of 4 numbers, its prediction their weighted sum and the largest of
them. `forest`: a scikit-learn forest of 100 trees on 4 numbers gives the shares of 3 classes.
`--http_port N --enable_grpc false`: KServe reads its own options, as it is imported.
"""

from __future__ import annotations

from typing import Any

import numpy
from kserve import Model, ModelServer
from sklearn.ensemble import RandomForestClassifier

WEIGHTS = numpy.array([0.5, -1.25, 2.0, 0.125])


class Cheap(Model):  # type: ignore[misc]
    def load(self) -> bool:
        self.ready = True
        return True

    def predict(self, payload: dict[str, Any], headers: Any = None, **_: Any) -> dict[str, Any]:
        rows = numpy.array(payload["instances"], numpy.float64)
        return {"predictions": self.answer(rows).tolist()}

    def answer(self, rows: Any) -> Any:
        return numpy.stack([rows @ WEIGHTS, rows.max(1)], 1)


class Forest(Cheap):
    def load(self) -> bool:
        rows = numpy.random.default_rng(0).normal(size=(500, 4))
        classes = (rows.sum(1) > 0).astype(int) + (rows[:, 0] > 1)
        self.trees = RandomForestClassifier(100, random_state=0, n_jobs=1).fit(rows, classes)
        return super().load()

    def answer(self, rows: Any) -> Any:
        return self.trees.predict_proba(rows)


if __name__ == "__main__":
    models = [Cheap("cheap"), Forest("forest")]
    for one in models:
        one.load()
    ModelServer().start(models)
