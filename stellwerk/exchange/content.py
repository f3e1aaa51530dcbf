"""What a JSON body says to the gateway, API by API: one struct per kind of body.

Values that only the model server needs stay raw: msgspec skips them in C and keeps a view of the body, so a long prompt
costs one pass and no copy. Types of fields other than `model` are the server's business: a wrong one is ignored here.
"""

from collections.abc import Mapping

import msgspec
import numpy as np
from msgspec import Raw, Struct

from stellwerk.model.request import Api

Prompts = tuple[bytes | memoryview, ...]

MAX_LISTED_PROMPTS = 64
"""Prompts of one request that are told apart; the rest only count as tokens."""
_BYTES_PER_TOKEN = 4
_MAX_CAP_DIGITS = 9
_NUMPY_PAYS_OFF_BYTES = 4096
_ABSENT = Raw()
_TRUTHS = frozenset((b"true", b"1", b"1.0", b'"true"', b'"True"', b'"TRUE"', b'"1"', b'"on"', b'"yes"', b'"t"', b'"y"'))
"""What lenient validators take for true, as JSON."""
_BRACKET, _NULL = ord("["), ord("n")
_LEADING_BYTES = 64
"""Where the first element of an array is expected; one that starts later is taken for a token id."""


class Content(Struct, gc=False):
    """Fields that every API has; `Request` documents what the methods return."""

    model: str | None = None
    stream: Raw = _ABSENT
    cache_salt: Raw = _ABSENT

    @property
    def is_stream(self) -> bool:
        return self.stream is not _ABSENT and bytes(self.stream) in _TRUTHS

    @property
    def salt(self) -> bytes:
        """Raw, quotes included: it only has to tell salts apart."""
        return bytes(self.cache_salt) if _is_present(self.cache_salt) else b""

    def max_output_tokens(self) -> int | None:
        return None

    def prompts(self) -> tuple[Prompts, int]:
        """The prompts and how many tokens they are together."""
        return (), 0


class Chat(Content, gc=False):
    messages: Raw = _ABSENT
    tools: Raw = _ABSENT
    max_tokens: Raw = _ABSENT
    max_completion_tokens: Raw = _ABSENT

    def max_output_tokens(self) -> int | None:
        cap = _small_int(self.max_completion_tokens)
        return _small_int(self.max_tokens) if cap is None else cap

    def prompts(self) -> tuple[Prompts, int]:
        return _one(self.tools, self.messages)


class Completion(Content, gc=False):
    prompt: Raw = _ABSENT
    max_tokens: Raw = _ABSENT

    def max_output_tokens(self) -> int | None:
        return _small_int(self.max_tokens)

    def prompts(self) -> tuple[Prompts, int]:
        return _several(self.prompt)


class Response(Content, gc=False):
    input: Raw = _ABSENT
    instructions: Raw = _ABSENT
    tools: Raw = _ABSENT
    max_output: Raw = msgspec.field(default=_ABSENT, name="max_output_tokens")

    def max_output_tokens(self) -> int | None:
        return _small_int(self.max_output)

    def prompts(self) -> tuple[Prompts, int]:
        return _one(self.instructions, self.tools, self.input)


class Messages(Content, gc=False):
    messages: Raw = _ABSENT
    system: Raw = _ABSENT
    tools: Raw = _ABSENT
    max_tokens: Raw = _ABSENT

    def max_output_tokens(self) -> int | None:
        return _small_int(self.max_tokens)

    def prompts(self) -> tuple[Prompts, int]:
        return _one(self.tools, self.system, self.messages)


class Input(Content, gc=False):
    """Embeddings, pooling and classification; speech has its text in `input`, too."""

    input: Raw = _ABSENT
    messages: Raw = _ABSENT

    def prompts(self) -> tuple[Prompts, int]:
        return _several(self.input) if _is_present(self.input) else _one(self.messages)


class Ranking(Content, gc=False):
    query: Raw = _ABSENT
    documents: Raw = _ABSENT

    def prompts(self) -> tuple[Prompts, int]:
        return _one(self.query, self.documents)


class Scoring(Content, gc=False):
    """The pair has had three names in vLLM."""

    queries: Raw = _ABSENT
    documents: Raw = _ABSENT
    text_1: Raw = _ABSENT
    text_2: Raw = _ABSENT
    data_1: Raw = _ABSENT
    data_2: Raw = _ABSENT

    def prompts(self) -> tuple[Prompts, int]:
        return _one(self.queries, self.text_1, self.data_1, self.documents, self.text_2, self.data_2)


class Tokenization(Content, gc=False):
    prompt: Raw = _ABSENT
    messages: Raw = _ABSENT
    tools: Raw = _ABSENT

    def prompts(self) -> tuple[Prompts, int]:
        return _one(self.tools, self.prompt, self.messages)


class Drawing(Content, gc=False):
    prompt: Raw = _ABSENT

    def prompts(self) -> tuple[Prompts, int]:
        return _one(self.prompt)


DECODERS: Mapping[Api, msgspec.json.Decoder[Content]] = {
    Api.CHAT: msgspec.json.Decoder(Chat),
    Api.COMPLETIONS: msgspec.json.Decoder(Completion),
    Api.EMBEDDINGS: msgspec.json.Decoder(Input),
    Api.RESPONSES: msgspec.json.Decoder(Response),
    Api.MESSAGES: msgspec.json.Decoder(Messages),
    Api.COUNT_TOKENS: msgspec.json.Decoder(Messages),
    Api.RERANK: msgspec.json.Decoder(Ranking),
    Api.SCORE: msgspec.json.Decoder(Scoring),
    Api.TOKENIZE: msgspec.json.Decoder(Tokenization),
    Api.AUDIO: msgspec.json.Decoder(Input),
    Api.IMAGES: msgspec.json.Decoder(Drawing),
}
"""The known APIs, all called by POST. Every other one has a body that is not read."""

_Elements = msgspec.defstruct(
    "_Elements", [(f"e{index}", Raw, _ABSENT) for index in range(MAX_LISTED_PROMPTS)], array_like=True, gc=False
)
"""The first elements of an array of any length; the others are skipped, and cost no memory."""
_decode_elements = msgspec.json.Decoder(_Elements).decode


def _is_present(value: Raw) -> bool:
    return value is not _ABSENT and memoryview(value)[0] != _NULL


def _one(*parts: Raw) -> tuple[Prompts, int]:
    """One prompt, whose parts the engine sees in this order. Copied only if there are several parts."""
    views = [memoryview(part) for part in parts if _is_present(part)]
    if not views:
        return (), 0
    prompt = views[0] if len(views) == 1 else b"".join(views)
    return (prompt,), _estimate(len(prompt))


def _several(value: Raw) -> tuple[Prompts, int]:
    """A string, a list of strings, a list of token ids, or a list of such lists."""
    if not _is_present(value):
        return (), 0
    view = memoryview(value)
    if view[0] != _BRACKET:
        return (view,), _estimate(len(view))
    if bytes(view[1:_LEADING_BYTES]).lstrip(b" \t\r\n")[:1] in (b'"', b"["):
        return _elements(value, len(view))
    return (view,), _id_count(view)


def _elements(value: Raw, size_bytes: int) -> tuple[Prompts, int]:
    elements = msgspec.structs.astuple(_decode_elements(value))
    prompts = tuple(memoryview(element) for element in elements if element is not _ABSENT)
    tokens = 0
    for prompt in prompts:
        tokens += _id_count(prompt) if prompt[0] == _BRACKET else _estimate(len(prompt))
    unlisted_bytes = size_bytes - sum(map(len, prompts)) if len(prompts) == MAX_LISTED_PROMPTS else 0
    return prompts, tokens + _estimate(unlisted_bytes)


def _id_count(view: memoryview) -> int:
    """Elements of a list of numbers, by its commas: the numbers are never built."""
    if len(view) < _NUMPY_PAYS_OFF_BYTES:
        text = bytes(view)
        return text.count(b",") + 1 if text[1:-1].strip() else 0
    return int(np.count_nonzero(np.frombuffer(view, np.uint8) == ord(","))) + 1


def _estimate(size_bytes: int) -> int:
    return -(-size_bytes // _BYTES_PER_TOKEN)


def _small_int(value: Raw) -> int | None:
    if value is _ABSENT:
        return None
    digits = bytes(value)
    return int(digits) if len(digits) <= _MAX_CAP_DIGITS and digits.isdigit() else None
