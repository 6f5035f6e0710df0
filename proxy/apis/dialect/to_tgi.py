"""OpenAI's chat and completions for a server that speaks TGI's own API.

Sources: OpenAI's API reference, and the OpenAPI document of Text Generation Inference 3.
"""

from __future__ import annotations

import time
import uuid
from typing import TYPE_CHECKING, Any

from ..prompt import prompt_of
from .spoken import Call, Untranslatable, flag_of, number_of, refuse, texts_of
from .tgi_answers import Models, ToChat, ToCompletion

if TYPE_CHECKING:
    from ...exchange import Request
    from .template import Template

COMPLETION_TOKENS = 16
"""What OpenAI's completions write where `max_tokens` is left out; TGI would write 100."""

_COMPLETIONS = (b"/v1/completions", b"/completions")
_CHAT = (b"/v1/chat/completions", b"/chat/completions")
PATHS = (*_COMPLETIONS, *_CHAT)
MODELS = b"/v1/models"

# What asks for nothing where it is empty; all else that is not known here is refused as well.
_NONE = ("logit_bias", "tools", "functions", "suffix", "presence_penalty", "min_p")
# What changes nothing of an answer: who asks, and how the service is to treat it.
_IGNORED = (
    "user", "metadata", "store", "service_tier", "safety_identifier", "prompt_cache_key",
    "prompt_cache_options", "prompt_cache_retention", "parallel_tool_calls",
)  # fmt: skip
# And these where they are no more than what is taken for granted.
_DEFAULTS: dict[str, tuple[Any, ...]] = {
    "n": (1,), "best_of": (1,), "modalities": (["text"],), "tool_choice": ("none", "auto"),
    "function_call": ("none", "auto"),
}  # fmt: skip
_OF_CHAT = ("messages", "top_logprobs")
_OF_COMPLETIONS = ("prompt", "echo")
# TGI's own, which clients send besides, as to other servers of this API.
_SAME = ("frequency_penalty", "repetition_penalty", "truncate", "watermark")
# With one of these TGI samples, whatever else is said.
_OF_SAMPLING = ("top_k", "typical_p")

_READ = (
    "model", "stream", "stream_options", "temperature", "top_p", "max_tokens",
    "max_completion_tokens", "stop", "seed", "logprobs", "response_format",
)  # fmt: skip
_KNOWN = frozenset(
    (*_NONE, *_IGNORED, *_DEFAULTS, *_OF_CHAT, *_OF_COMPLETIONS, *_SAME, *_OF_SAMPLING, *_READ)
)


def for_tgi(request: Request, template: Template) -> ToChat | ToCompletion | Models | None:
    """None for anything but chat, completions and the list of models. Raises Untranslatable."""
    path = request.path
    if request.method == b"GET" and path == MODELS:
        return Models()
    if request.method != b"POST" or path not in PATHS:
        return None
    body = request.json()
    if not isinstance(body, dict):
        raise Untranslatable("the body must be a JSON object")
    for name in body.keys() - _KNOWN:
        if body[name] is not None:
            raise Untranslatable(
                f"`{name[:80]}` has no counterpart in TGI's generate; leave it out"
            )
    chat = path in _CHAT
    refuse(body, (*_NONE, *(_OF_COMPLETIONS if chat else _OF_CHAT)), "TGI's generate")
    for name, values in _DEFAULTS.items():
        if body.get(name) is not None and body[name] not in values:
            told = " or ".join(str(value) for value in values)
            raise Untranslatable(f"`{name}` must be {told} for TGI's generate")
    prompt = template.prompt(body.get("messages")) if chat else _prompt(body.get("prompt"))
    stops = texts_of(body, "stop")
    parameters = {"details": True, **_sampling(body), **_length(body, chat)}
    if stops:
        parameters["stop"] = stops
    echo = flag_of(body, "echo")
    likeliest = _likeliest(body, chat)
    if echo and likeliest is not None:
        raise Untranslatable("`echo` with `logprobs` has no counterpart in TGI's generate")
    if likeliest:
        parameters["top_n_tokens"] = likeliest
    if (grammar := _grammar(body.get("response_format"))) is not None:
        parameters["grammar"] = grammar
    streams = flag_of(body, "stream")
    call = Call(
        b"POST",
        b"/generate_stream" if streams else b"/generate",
        {"inputs": prompt, "parameters": parameters},
        streams,
    )
    options = body.get("stream_options")
    made = ToChat if chat else ToCompletion
    return made(
        call=call,
        ident=("chatcmpl-" if chat else "cmpl-") + uuid.uuid4().hex,
        created=int(time.time()),
        model=request.api.model(request) or "tgi",
        prompt=prompt,
        prompt_tokens=prompt_of(prompt).tokens,
        stops=stops,
        echo=echo,
        logprobs=likeliest is not None,
        usage=isinstance(options, dict) and flag_of(options, "include_usage"),
    )


def _prompt(prompt: Any) -> str:
    if isinstance(prompt, list) and len(prompt) == 1:
        prompt = prompt[0]
    if not isinstance(prompt, str):
        raise Untranslatable("`prompt` must be one string: TGI's generate takes no more at once")
    return prompt


def _sampling(body: dict[str, Any]) -> dict[str, Any]:
    """OpenAI samples at temperature 1 unless told; TGI is greedy unless told, and refuses 0."""
    parameters: dict[str, Any] = {name: body[name] for name in _SAME if body.get(name) is not None}
    temperature = number_of(body, "temperature")
    if temperature != 0:
        parameters["do_sample"] = True
        parameters |= {name: body[name] for name in _OF_SAMPLING if body.get(name) is not None}
        if temperature not in (None, 1):
            parameters["temperature"] = temperature
        top_p = number_of(body, "top_p")
        if top_p is not None and top_p < 1:
            parameters["top_p"] = top_p
    if (seed := body.get("seed")) is not None:
        if isinstance(seed, bool) or not isinstance(seed, int) or seed < 0:
            raise Untranslatable("`seed` must be a whole number of 0 or more for TGI")
        parameters["seed"] = seed
    return parameters


def _length(body: dict[str, Any], chat: bool) -> dict[str, Any]:
    for name in ("max_completion_tokens", "max_tokens"):
        if (most := number_of(body, name)) is not None:
            return {"max_new_tokens": most}
    # Null is as many as fit, which a chat may take; left out, TGI stops after 100.
    return {"max_new_tokens": None if chat else COMPLETION_TOKENS}


def _likeliest(body: dict[str, Any], chat: bool) -> float | None:
    """How many likelier tokens are asked for with each; None: no logprobs at all."""
    if not chat:
        return number_of(body, "logprobs")
    likeliest = number_of(body, "top_logprobs")
    if flag_of(body, "logprobs"):
        return likeliest or 0
    if likeliest:
        raise Untranslatable("`top_logprobs` needs `logprobs: true`")
    return None


def _grammar(form: Any) -> dict[str, Any] | None:
    if form is None or (isinstance(form, dict) and form.get("type") == "text"):
        return None
    schema = form.get("json_schema") if isinstance(form, dict) else None
    if isinstance(schema, dict) and isinstance(schema.get("schema"), dict):
        return {"type": "json", "value": schema["schema"]}
    raise Untranslatable("`response_format` must be `text` or a `json_schema` for TGI")
