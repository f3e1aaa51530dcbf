"""Chat completions and completions in OpenAI's words, with vLLM's extra fields in vLLM's order."""

from collections.abc import Sequence
from typing import Any

import msgspec
from msgspec import Struct

from stellwerk.sim.answers import Answer
from stellwerk.sim.generation import Usage

_encode = msgspec.json.encode
DONE = b"data: [DONE]\n\n"


class Head(Struct, frozen=True):
    """What every part of one answer repeats, and what the request wants to know of usage."""

    id: str
    created: int
    model: str
    fingerprint: str
    includes_usage: bool = False
    includes_continuous_usage: bool = False
    reports_cached_tokens: bool = False

    def start(self, kind: str) -> dict[str, Any]:
        """The first fields of any object of this answer."""
        return {"id": self.id, "object": kind, "created": self.created, "model": self.model}


def _event(value: object) -> bytes:
    return b"data: " + _encode(value) + b"\n\n"


def _details(head: Head, usage: Usage) -> dict[str, int] | None:
    return {"cached_tokens": usage.cached_tokens} if head.reports_cached_tokens and usage.cached_tokens else None


def usage_of(head: Head, usage: Usage) -> dict[str, Any]:
    """`usage` of a whole answer."""
    return {
        "prompt_tokens": usage.prompt_tokens,
        "total_tokens": usage.prompt_tokens + usage.completion_tokens,
        "completion_tokens": usage.completion_tokens,
        "prompt_tokens_details": _details(head, usage),
        "completion_tokens_details": None,
    }


class _Stream:
    """What both APIs share when they stream: pieces built from two fixed halves, the usage chunk, the end."""

    _kind = ""

    def __init__(self, head: Head) -> None:
        self._head = head
        self._prefix = b"data: " + _encode(head.start(self._kind))[:-1] + b',"choices":['

    def begin(self, usage: Usage) -> list[bytes]:
        """Nothing comes before the first token."""
        return []

    def _continuous(self, usage: Usage, completion_tokens: int) -> bytes:
        if not self._head.includes_continuous_usage:
            return b""
        prompt = usage.prompt_tokens
        return (
            b',"usage":{"prompt_tokens":%d,"total_tokens":%d,"completion_tokens":%d,"completion_tokens_details":null}'
            % (prompt, prompt + completion_tokens, completion_tokens)
        )

    def _last(self) -> bytes:
        """The fingerprint comes once: on the last chunk, which is the usage chunk if there is one."""
        if self._head.includes_usage:
            return b""
        return b',"system_fingerprint":' + _encode(self._head.fingerprint)

    def end(self, answers: Sequence[Answer], usage: Usage) -> list[bytes]:
        """The usage chunk if it was asked for, and the end mark."""
        if not self._head.includes_usage:
            return [DONE]
        counted: dict[str, Any] = usage_of(self._head, usage)
        counted.pop("completion_tokens_details")
        if counted["prompt_tokens_details"] is None:
            del counted["prompt_tokens_details"]
        chunk = {**self._head.start(self._kind), "choices": [], "usage": counted}
        return [_event({**chunk, "system_fingerprint": self._head.fingerprint}), DONE]


class ChatFormat(_Stream):
    """`/v1/chat/completions`."""

    _kind = "chat.completion.chunk"

    def first(self, index: int, usage: Usage) -> list[bytes]:
        """The role."""
        delta = b'{"index":%d,"delta":{"role":"assistant","content":""},"logprobs":null,"finish_reason":null}]' % index
        rest = b',"prompt_token_ids":null,"prompt_text":null}\n\n'
        return [self._prefix + delta + self._continuous(usage, 0) + rest]

    def piece(self, index: int, text: str, usage: Usage, ended: Answer | None) -> bytes:
        """A delta. Answers are made of plain words, so the text needs no escaping."""
        content = self._prefix + b'{"index":%d,"delta":{"content":"%b"},"logprobs":null,' % (index, text.encode())
        continuous = self._continuous(usage, usage.completion_tokens)
        if ended is None:
            return content + b'"finish_reason":null,"token_ids":null}]' + continuous + b"}\n\n"
        reason = b'"finish_reason":"%b","stop_reason":%b,"token_ids":null}]'
        return (
            content
            + reason % (ended.finish_reason.encode(), _encode(ended.stop_reason))
            + continuous
            + self._last()
            + b"}\n\n"
        )

    def whole(self, answers: Sequence[Answer], usage: Usage) -> bytes:
        """The whole answer."""
        choices = [
            {
                "index": index,
                "message": {
                    "role": "assistant",
                    "content": answer.text,
                    "refusal": None,
                    "annotations": None,
                    "audio": None,
                    "function_call": None,
                    "reasoning": None,
                },
                "logprobs": None,
                "finish_reason": answer.finish_reason,
                "stop_reason": answer.stop_reason,
                "token_ids": None,
                "routed_experts": None,
            }
            for index, answer in enumerate(answers)
        ]
        return _encode(
            {
                **self._head.start("chat.completion"),
                "choices": choices,
                "service_tier": None,
                "system_fingerprint": self._head.fingerprint,
                "usage": usage_of(self._head, usage),
                "prompt_logprobs": None,
                "prompt_token_ids": None,
                "prompt_text": None,
                "kv_transfer_params": None,
                "ec_transfer_params": None,
                "metrics": None,
            }
        )


class CompletionFormat(_Stream):
    """`/v1/completions`. `echoed` holds the prompt's text per choice when the request asks for it back."""

    _kind = "text_completion"

    def __init__(self, head: Head, echoed: Sequence[str] = ()) -> None:
        super().__init__(head)
        self._echoed = echoed

    def first(self, index: int, usage: Usage) -> list[bytes]:
        """The prompt, if it is wanted back."""
        if not self._echoed:
            return []
        return [self._chunk(index, _encode(self._echoed[index]), b"null", b"null", b"")]

    def piece(self, index: int, text: str, usage: Usage, ended: Answer | None) -> bytes:
        """A piece of text."""
        quoted = b'"%b"' % text.encode()
        rest = self._continuous(usage, usage.completion_tokens)
        if ended is None:
            return self._chunk(index, quoted, b"null", b"null", rest)
        reason = b'"%b"' % ended.finish_reason.encode()
        return self._chunk(index, quoted, reason, _encode(ended.stop_reason), rest + self._last())

    def _chunk(self, index: int, text: bytes, reason: bytes, stop_reason: bytes, rest: bytes) -> bytes:
        return (
            self._prefix
            + b'{"index":%d,"text":%b,"logprobs":null,"finish_reason":%b,"stop_reason":%b,'
            % (index, text, reason, stop_reason)
            + b'"prompt_token_ids":null,"token_ids":null}]%b}\n\n' % rest
        )

    def whole(self, answers: Sequence[Answer], usage: Usage) -> bytes:
        """The whole answer."""
        choices = [
            {
                "index": index,
                "text": (self._echoed[index] if self._echoed else "") + answer.text,
                "logprobs": None,
                "finish_reason": answer.finish_reason,
                "stop_reason": answer.stop_reason,
                "token_ids": None,
                "prompt_logprobs": None,
                "prompt_token_ids": None,
                "routed_experts": None,
            }
            for index, answer in enumerate(answers)
        ]
        return _encode(
            {
                **self._head.start("text_completion"),
                "choices": choices,
                "service_tier": None,
                "system_fingerprint": self._head.fingerprint,
                "usage": usage_of(self._head, usage),
                "kv_transfer_params": None,
                "ec_transfer_params": None,
                "metrics": None,
            }
        )
