"""An MLServer runtime that computes next to nothing: loaded by the `mlserver` environment.

v2: `numbers` [n, 4] FP64 in, `answer` [n, 2] FP64 out: a row's weighted sum and its largest number.
"""

from __future__ import annotations

import numpy
from mlserver import MLModel
from mlserver.codecs import NumpyCodec
from mlserver.types import InferenceRequest, InferenceResponse

WEIGHTS = numpy.array([0.5, -1.25, 2.0, 0.125])


class Cheap(MLModel):  # type: ignore[misc]
    async def predict(self, payload: InferenceRequest) -> InferenceResponse:
        rows = NumpyCodec.decode_input(payload.inputs[0])
        answers = numpy.stack([rows @ WEIGHTS, rows.max(1)], 1)
        output = NumpyCodec.encode_output(name="answer", payload=answers)
        return InferenceResponse(model_name=self.name, outputs=[output])
