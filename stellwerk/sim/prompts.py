"""From a request's body to the token bytes the engine would see: a chat template that keeps every piece aligned.

Each piece (tools, role, text) starts on a token boundary, so a conversation that grows keeps its prefix.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import msgspec
import xxhash

from stellwerk.sim import tokens

_END = b"</s>"
_ASSISTANT = tokens.encode("<|assistant|>")
_ROLES = {role: tokens.encode(f"<|{role}|>") for role in ("system", "developer", "user", "assistant", "tool")}
_MEDIA_TOKENS = 256


def _text_of(value: object) -> bytes:
    return tokens.encode(value if isinstance(value, str) else msgspec.json.encode(value).decode())


def _media(part: Mapping[str, Any]) -> bytes:
    digest: bytes = xxhash.xxh3_64_digest(msgspec.json.encode(part))
    return digest[:4] * _MEDIA_TOKENS


def content(value: object) -> bytes:
    """Token bytes of a message's content: text, a list of parts, or nothing."""
    if value is None:
        return b""
    if isinstance(value, str):
        return tokens.encode(value)
    if not isinstance(value, list):
        return _text_of(value)
    pieces = []
    for part in value:
        if isinstance(part, str):
            pieces.append(tokens.encode(part))
        elif isinstance(part, dict) and isinstance(part.get("text"), str):
            pieces.append(tokens.encode(part["text"]))
        elif isinstance(part, dict) and ("image" in str(part.get("type")) or "audio" in str(part.get("type"))):
            pieces.append(_media(part))
        else:
            pieces.append(_text_of(part))
    return b"".join(pieces)


def message(value: Mapping[str, Any]) -> bytes:
    """One message with its role and end mark."""
    role = value.get("role")
    head = _ROLES.get(role) if isinstance(role, str) else None
    pieces = [head or _text_of(f"<|{role}|>"), content(value.get("content"))]
    pieces += [_text_of(value[key]) for key in ("tool_calls", "function_call") if value.get(key)]
    pieces.append(_END)
    return b"".join(pieces)


def chat(messages: Sequence[Mapping[str, Any]], tools: object = None, system: object = None) -> bytes:
    """A conversation, ready for the assistant's next turn. `system`: Anthropic's field, Responses' instructions."""
    pieces = []
    if tools:
        pieces.append(_text_of(tools))
    if system:
        pieces += [_ROLES["system"], content(system), _END]
    pieces += [message(one) for one in messages]
    pieces.append(_ASSISTANT)
    return b"".join(pieces)


def completions(prompt: object) -> list[bytes] | None:
    """The prompts of a completions or embeddings request; None if it is none of the four forms."""
    if isinstance(prompt, str):
        return [tokens.encode(prompt)]
    if not isinstance(prompt, list) or not prompt:
        return None
    if all(isinstance(one, str) for one in prompt):
        return [tokens.encode(one) for one in prompt]
    lists = prompt if all(isinstance(one, list) for one in prompt) else [prompt]
    try:
        return [tokens.from_ids(one) for one in lists]
    except (TypeError, OverflowError):
        return None


def responses(body: Mapping[str, Any]) -> bytes | None:
    """The Responses API: `input` is a text or a list of items. None if it is neither."""
    value = body.get("input")
    if isinstance(value, str):
        items: list[Mapping[str, Any]] = [{"role": "user", "content": value}]
    elif isinstance(value, list) and all(isinstance(one, dict) for one in value):
        items = [one if "content" in one else {"role": one.get("type"), "content": [one]} for one in value]
    else:
        return None
    return chat(items, body.get("tools"), body.get("instructions"))
