"""Chat messages as one prompt, for a server that takes no messages.

The formats are those that the models were trained on, as their chat templates on the Hugging Face
hub have them; a model of another kind needs a mapping of its own. The token that begins every text
(`<s>`, `<|begin_of_text|>`) is in none of them: TGI puts it before each prompt.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

from .spoken import Untranslatable, refuse

CONTENT = "{content}"


class Template(NamedTuple):
    """begin: before everything. roles: text with {content} for each role. ask: what the model goes
    on from. joins: what the system says stands at the head of what the user says next.
    """

    begin: str
    roles: Mapping[str, str]
    ask: str
    joins: bool = False

    def prompt(self, messages: Any) -> str:
        """Raises Untranslatable where a message has no text, or a role that is not known here."""
        if not isinstance(messages, list) or not messages:
            raise Untranslatable("`messages` must be a list of messages")
        parts, joined = [self.begin], ""
        for message in messages:
            if not isinstance(message, dict):
                raise Untranslatable("each of `messages` must be an object")
            role = message.get("role")
            if role == "developer":
                role = "system"
            around = self.roles.get(str(role))
            if around is None:
                raise Untranslatable(f"messages with the role `{str(role)[:40]}` are not known")
            refuse(message, ("tool_calls", "function_call"), "TGI's generate")
            content = _text(message.get("content"))
            if self.joins and role == "system":
                joined += around.replace(CONTENT, content)
                continue
            if role == "user":
                content, joined = joined + content, ""
            parts.append(around.replace(CONTENT, content))
        if joined:
            raise Untranslatable("a system message must be followed by one of the user here")
        return "".join(parts) + self.ask


def _text(content: Any) -> str:
    """A string, or the text parts of a list (OpenAI's content parts)."""
    if isinstance(content, str):
        return content
    texts = []
    for part in content if isinstance(content, list) else [None]:
        text = part.get("text") if isinstance(part, dict) and part.get("type") == "text" else None
        if not isinstance(text, str):
            raise Untranslatable("only text can be in a message's `content` here")
        texts.append(text)
    return "".join(texts)


def _alike(around: str) -> dict[str, str]:
    return {role: around.replace("{role}", role) for role in ("system", "user", "assistant")}


TEMPLATES: Mapping[str, Template] = {
    "chatml": Template(
        "", _alike("<|im_start|>{role}\n{content}<|im_end|>\n"), "<|im_start|>assistant\n"
    ),
    "llama3": Template(
        "",
        _alike("<|start_header_id|>{role}<|end_header_id|>\n\n{content}<|eot_id|>"),
        "<|start_header_id|>assistant<|end_header_id|>\n\n",
    ),
    "mistral": Template(
        "",
        {
            "system": "{content}\n\n",
            "user": "[INST] {content} [/INST]",
            "assistant": " {content}</s>",
        },
        "",
        joins=True,
    ),
    "zephyr": Template("", _alike("<|{role}|>\n{content}</s>\n"), "<|assistant|>\n"),
    "plain": Template("", _alike("{role}: {content}\n"), "assistant:"),
}
"""By the name in the file."""
