"""OpenAI's Responses API in vLLM's words."""

from collections.abc import Mapping, Sequence
from typing import Any

import msgspec

from stellwerk.sim.answers import Answer
from stellwerk.sim.generation import Usage

_encode = msgspec.json.encode


def _usage(usage: Usage) -> dict[str, Any]:
    return {
        "input_tokens": usage.prompt_tokens,
        "input_tokens_details": {
            "cached_tokens": usage.cached_tokens,
            "cache_write_tokens": 0,
            "input_tokens_per_turn": [],
            "cached_tokens_per_turn": [],
        },
        "output_tokens": usage.completion_tokens,
        "output_tokens_details": {
            "reasoning_tokens": 0,
            "tool_output_tokens": 0,
            "output_tokens_per_turn": [],
            "tool_output_tokens_per_turn": [],
        },
        "total_tokens": usage.prompt_tokens + usage.completion_tokens,
    }


class ResponsesFormat:
    """`/v1/responses`. `asked` holds the request's fields that the answer repeats."""

    def __init__(self, suffix: str, created: int, model: str, asked: Mapping[str, Any]) -> None:
        self._id = f"resp_{suffix}"
        self._item = f"msg_{suffix}"
        self._created = created
        self._model = model
        self._asked = asked
        self._sequence = 0

    def _response(self, status: str, answer: Answer | None, usage: Usage | None) -> dict[str, Any]:
        asked = self._asked
        is_cut = answer is not None and answer.finish_reason == "length"
        return {
            "id": self._id,
            "created_at": self._created,
            "incomplete_details": {"reason": "max_output_tokens"} if is_cut else None,
            "instructions": asked.get("instructions"),
            "metadata": asked.get("metadata"),
            "model": self._model,
            "object": "response",
            "output": [] if answer is None else [self._message(answer)],
            "parallel_tool_calls": True,
            "temperature": asked.get("temperature", 1.0),
            "tool_choice": asked.get("tool_choice", "none"),
            "tools": asked.get("tools", []),
            "top_p": asked.get("top_p", 1.0),
            "background": False,
            "max_output_tokens": asked.get("max_output_tokens"),
            "max_tool_calls": None,
            "previous_response_id": None,
            "prompt": None,
            "reasoning": asked.get("reasoning"),
            "service_tier": "auto",
            "status": "incomplete" if is_cut else status,
            "text": asked.get("text"),
            "top_logprobs": None,
            "truncation": "disabled",
            "usage": None if usage is None else _usage(usage),
            "user": asked.get("user"),
            "presence_penalty": 0.0,
            "frequency_penalty": 0.0,
            "kv_transfer_params": None,
            "ec_transfer_params": None,
            "input_messages": None,
            "output_messages": None,
        }

    def _part(self, answer: Answer) -> dict[str, Any]:
        return {"annotations": [], "text": answer.text, "type": "output_text", "logprobs": None}

    def _message(self, answer: Answer) -> dict[str, Any]:
        head = {"id": self._item, "content": [self._part(answer)], "role": "assistant"}
        return {**head, "status": "completed", "type": "message", "phase": None}

    def _event(self, kind: str, fields: Mapping[str, Any]) -> bytes:
        """One event; the fields come in alphabetical order, as vLLM sends them."""
        body = {**fields, "sequence_number": self._sequence, "type": kind}
        self._sequence += 1
        ordered = {name: body[name] for name in sorted(body)}
        return f"event: {kind}\ndata: ".encode() + _encode(ordered) + b"\n\n"

    def begin(self, usage: Usage) -> list[bytes]:
        """The response exists."""
        kinds = ("response.created", "response.in_progress")
        return [self._event(kind, {"response": self._response("in_progress", None, None)}) for kind in kinds]

    def first(self, index: int, usage: Usage) -> list[bytes]:
        """The message and its part open."""
        head = {"id": self._item, "content": [], "role": "assistant"}
        item = {**head, "status": "in_progress", "type": "message", "phase": None}
        part = {"annotations": [], "text": "", "type": "output_text", "logprobs": []}
        return [
            self._event("response.output_item.added", {"item": item, "output_index": 0}),
            self._event("response.content_part.added", {**self._place(), "part": part}),
        ]

    def _place(self) -> dict[str, Any]:
        return {"content_index": 0, "item_id": self._item, "output_index": 0}

    def piece(self, index: int, text: str, usage: Usage, ended: Answer | None) -> bytes:
        """A delta."""
        return self._event("response.output_text.delta", {**self._place(), "delta": text, "logprobs": []})

    def end(self, answers: Sequence[Answer], usage: Usage) -> list[bytes]:
        """Everything closes, from the inside out."""
        answer = answers[0]
        whole = self._response("completed", answer, usage)
        return [
            self._event("response.output_text.done", {**self._place(), "text": answer.text, "logprobs": []}),
            self._event("response.content_part.done", {**self._place(), "part": self._part(answer)}),
            self._event("response.output_item.done", {"item": self._message(answer), "output_index": 0}),
            self._event("response.completed", {"response": whole}),
        ]

    def whole(self, answers: Sequence[Answer], usage: Usage) -> bytes:
        """The whole answer."""
        return _encode(self._response("completed", answers[0], usage))
