"""A whole TGI generation from the events of its stream, and the other way."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from .base import parse, sse
from .shape import Untold, list_of, object_of, text_of

_DETAILS = ("finish_reason", "generated_tokens", "seed")


def to_events(answer: Any, body: dict[str, Any]) -> list[bytes]:
    """The stream that the client of `body` would have got. Raises Untold.

    With details in the answer it is the server's, token by token, without `input_length`, which
    an answer does not have, nor had the streams of early TGI. Else one event has the whole text,
    in a token with id 0 and no logprob: clients print a token's text, and no others are known.
    """
    if isinstance(answer, list) and len(answer) == 1:
        answer = answer[0]
    answer = object_of(answer)
    asked = parameters_of(body)
    # TGI refuses both in a stream.
    if asked.get("decoder_input_details") or asked.get("best_of") not in (None, 1):
        raise Untold
    text = text_of(answer.get("generated_text"))
    if answer.get("details") is None:
        if asked.get("details"):
            raise Untold
        said, prompt = text, body.get("inputs")
        if asked.get("return_full_text") and isinstance(prompt, str):
            said = text.removeprefix(prompt)
        token = {"id": 0, "text": said, "logprob": None, "special": False}
        return [sse(_event(1, token, {"generated_text": text, "details": None}))]
    details = object_of(answer["details"])
    tokens = [object_of(token) for token in list_of(details.get("tokens"))]
    likeliest = list_of(details.get("top_tokens"))
    if not tokens or len(likeliest) not in (0, len(tokens)):
        raise Untold
    text_of(details.get("finish_reason"))
    events = [
        _event(place, token, {"generated_text": None, "details": None})
        for place, token in enumerate(tokens, 1)
    ]
    for event, top in zip(events, likeliest, strict=False):
        event["top_tokens"] = list_of(top)
    told = {key: details.get(key) for key in _DETAILS}
    events[-1].update(generated_text=text, details=told if asked.get("details") else None)
    return [sse(event) for event in events]


def _event(place: int, token: dict[str, Any], rest: dict[str, Any]) -> dict[str, Any]:
    return {"index": place, "token": token, **rest}


def to_whole(events: Iterable[bytes], body: dict[str, Any]) -> dict[str, Any]:
    """The answer that a whole stream adds up to, with details where `body` asks. Raises Untold."""
    asked = parameters_of(body)
    # The prompt's tokens and the other candidates are in no stream.
    if asked.get("decoder_input_details") or asked.get("best_of") not in (None, 1):
        raise Untold
    tokens: list[dict[str, Any]] = []
    likeliest: list[list[Any]] = []
    last: dict[str, Any] = {}
    for data in events:
        if last or data.startswith(b"[DONE]"):
            break
        event = object_of(parse(data))
        token = object_of(event.get("token"))
        text_of(token.get("text"))
        tokens.append(token)
        if event.get("top_tokens"):
            likeliest.append(list_of(event["top_tokens"]))
        if event.get("generated_text") is not None:
            last = event
    answer: dict[str, Any] = {"generated_text": text_of(last.get("generated_text"))}
    if asked.get("details"):
        told = object_of(last.get("details"))
        details = {key: told.get(key) for key in _DETAILS}
        text_of(details["finish_reason"])
        answer["details"] = {**details, "prefill": [], "tokens": tokens}
        if likeliest:
            answer["details"]["top_tokens"] = likeliest
    return answer


def parameters_of(body: dict[str, Any]) -> dict[str, Any]:
    """What the body asks for; null is nothing. Raises Untold where it is no object."""
    parameters = body.get("parameters")
    return {} if parameters is None else object_of(parameters)
