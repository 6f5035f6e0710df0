"""Whether the parameters of a generation leave anything to chance."""

from __future__ import annotations

from typing import Any

# llama.cpp takes these for "any seed", and vLLM the first.
_ANY_SEED = (-1, 0xFFFFFFFF)

# Where one of these is set, temperature 0 does not mean the likeliest token: llama.cpp's dynatemp
# widens it, XTC strikes out the likeliest ones before it, mirostat takes its place, and `samplers`
# may leave it out.
_CHANCE = ("do_sample", "dynatemp_range", "xtc_probability", "mirostat", "samplers")

# TGI samples as soon as one of these is given, whatever `do_sample` says.
_TGI_CHANCE = ("do_sample", "temperature", "top_k", "top_p", "typical_p")


def seeded(value: Any) -> bool:
    """Whether this is a seed that pins the answer."""
    return (
        isinstance(value, int)
        and not isinstance(value, bool)
        and value >= 0
        and value not in _ANY_SEED
    )


def greedy(parameters: dict[str, Any]) -> bool:
    """Temperature 0, where the default is above it: OpenAI's API and Triton's `generate`."""
    temperature = parameters.get("temperature")
    if isinstance(temperature, bool) or not isinstance(temperature, int | float):
        return False
    return temperature == 0 and not any(map(parameters.get, _CHANCE))


def greedy_by_default(parameters: dict[str, Any]) -> bool:
    """TGI: greedy unless sampling is asked for. Null, or `do_sample: false`, asks for nothing."""
    return all(parameters.get(name) in (None, False) for name in _TGI_CHANCE)
