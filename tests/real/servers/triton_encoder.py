"""The project's encoder in a real Triton, twice: run by the Python of the `triton` environment.

`encoder` computes each request as it comes, `batched` through Triton's own dynamic batcher.
text [1] BYTES in; vector [384] FP32 out. At most 32 rows a request.
"""

from __future__ import annotations

import argparse
from threading import Lock

import numpy
from pytriton.decorators import batch
from pytriton.model_config import DynamicBatcher, ModelConfig, Tensor
from pytriton.triton import Triton, TritonConfig

from proxy.demo.encoder import WIDTH, Encoder


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--grpc-port", type=int, required=True)
    parser.add_argument("--metrics-port", type=int, required=True)
    arguments = parser.parse_args()
    model = Encoder()
    turn = Lock()

    @batch
    def encode(text: numpy.ndarray) -> dict[str, numpy.ndarray]:
        texts = [row.decode() for row in text[:, 0]]
        with turn:
            return {"vector": model.embed(model.read(texts))}

    config = TritonConfig(
        http_address="127.0.0.1",
        http_port=arguments.port,
        grpc_address="127.0.0.1",
        grpc_port=arguments.grpc_port,
        metrics_address="127.0.0.1",
        metrics_port=arguments.metrics_port,
        http_thread_count=4,
    )
    with Triton(config=config) as triton:
        for name, batcher in (("encoder", None), ("batched", DynamicBatcher())):
            triton.bind(
                model_name=name,
                infer_func=encode,
                inputs=[Tensor(name="text", dtype=bytes, shape=(1,))],
                outputs=[Tensor(name="vector", dtype=numpy.float32, shape=(WIDTH,))],
                config=ModelConfig(max_batch_size=32, batcher=batcher),
                strict=True,
            )
        triton.serve()


if __name__ == "__main__":
    main()
