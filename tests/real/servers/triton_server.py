"""A real Triton with one model, `echo`: run by the Python of the `triton` environment.

text [1] BYTES and numbers [3] FP32 in; upper (the text in capitals) and doubled (the numbers
times two) out. At most 8 rows a request.
"""

from __future__ import annotations

import argparse

import numpy
from pytriton.decorators import batch
from pytriton.model_config import ModelConfig, Tensor
from pytriton.triton import Triton, TritonConfig


@batch
def echo(text: numpy.ndarray, numbers: numpy.ndarray) -> dict[str, numpy.ndarray]:
    # numpy's own upper() of bytes changes ASCII alone, so any other byte comes back as it went.
    return {"upper": numpy.char.upper(text.astype(bytes)), "doubled": numbers * numpy.float32(2)}


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--grpc-port", type=int, required=True)
    parser.add_argument("--metrics-port", type=int, required=True)
    arguments = parser.parse_args()
    config = TritonConfig(
        http_address="127.0.0.1",
        http_port=arguments.port,
        grpc_address="127.0.0.1",
        grpc_port=arguments.grpc_port,
        metrics_address="127.0.0.1",
        metrics_port=arguments.metrics_port,
        http_thread_count=2,
    )
    with Triton(config=config) as triton:
        triton.bind(
            model_name="echo",
            infer_func=echo,
            inputs=[
                Tensor(name="text", dtype=bytes, shape=(1,)),
                Tensor(name="numbers", dtype=numpy.float32, shape=(3,)),
            ],
            outputs=[
                Tensor(name="upper", dtype=bytes, shape=(1,)),
                Tensor(name="doubled", dtype=numpy.float32, shape=(3,)),
            ],
            config=ModelConfig(max_batch_size=8),
        )
        triton.serve()


if __name__ == "__main__":
    main()
