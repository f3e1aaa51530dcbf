"""Anthropic's Messages API in vLLM's words."""

from collections.abc import Sequence
from typing import Any

import msgspec

from stellwerk.sim.answers import Answer
from stellwerk.sim.generation import Usage

_encode = msgspec.json.encode
_STOP_REASONS = {"stop": "end_turn", "length": "max_tokens"}


def _event(kind: str, **fields: Any) -> bytes:
    return f"event: {kind}\ndata: ".encode() + _encode({"type": kind, **fields}) + b"\n\n"


def _usage(usage: Usage, output_tokens: int) -> dict[str, int]:
    return {"input_tokens": usage.prompt_tokens, "output_tokens": output_tokens}


def _stop_reason(answer: Answer) -> str:
    return "stop_sequence" if answer.stop_reason is not None else _STOP_REASONS[answer.finish_reason]


class MessagesFormat:
    """`/v1/messages`."""

    def __init__(self, answer_id: str, model: str) -> None:
        self._id = answer_id
        self._model = model

    def begin(self, usage: Usage) -> list[bytes]:
        """Nothing comes before the first token."""
        return []

    def first(self, index: int, usage: Usage) -> list[bytes]:
        """The message and its text block open."""
        message: dict[str, Any] = {
            "id": self._id,
            "type": "message",
            "role": "assistant",
            "content": [],
            "model": self._model,
            "stop_reason": None,
            "stop_sequence": None,
            "usage": _usage(usage, 0),
        }
        block = {"type": "text", "text": ""}
        return [_event("message_start", message=message), _event("content_block_start", content_block=block, index=0)]

    def piece(self, index: int, text: str, usage: Usage, ended: Answer | None) -> bytes:
        """A delta of the text block."""
        return (
            b"event: content_block_delta\n"
            b'data: {"type":"content_block_delta","delta":{"type":"text_delta","text":"%b"},"index":0}\n\n'
            % text.encode()
        )

    def end(self, answers: Sequence[Answer], usage: Usage) -> list[bytes]:
        """The block and the message close."""
        delta = {"stop_reason": _stop_reason(answers[0]), "stop_sequence": answers[0].stop_reason}
        return [
            _event("content_block_stop", index=0),
            _event("message_delta", delta=delta, usage=_usage(usage, usage.completion_tokens)),
            _event("message_stop"),
        ]

    def whole(self, answers: Sequence[Answer], usage: Usage) -> bytes:
        """The whole answer."""
        answer = answers[0]
        message: dict[str, Any] = {
            "id": self._id,
            "type": "message",
            "role": "assistant",
            "content": [{"type": "text", "text": answer.text}],
            "model": self._model,
            "stop_reason": _stop_reason(answer),
        }
        if answer.stop_reason is not None:
            message["stop_sequence"] = answer.stop_reason
        message["usage"] = _usage(usage, usage.completion_tokens)
        return _encode(message)
