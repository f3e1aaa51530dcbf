"""Endpoints that compute without generating: embeddings, rerank, score."""

import base64
import struct
import time
from collections.abc import Callable, Sequence
from typing import Any

import msgspec
import xxhash

from stellwerk.sim import errors, fields, prompts, tokens
from stellwerk.sim.connection import Exchange
from stellwerk.sim.errors import JSON
from stellwerk.sim.fields import Body
from stellwerk.sim.job import Finished, Job
from stellwerk.sim.serving import Serving

_DIMENSIONS = 64
_MAX_DIMENSIONS = 4_096
_MAX_PROMPTS = 2_048


class _Pooling:
    """The prompts of one request; when all are computed `answer()` is sent."""

    def __init__(self, serving: Serving, exchange: Exchange, answer: Callable[[], object]) -> None:
        self._engine = serving.engine
        self._exchange = exchange
        self._answer = answer
        self._jobs: set[int] = set()

    def start(self, serving: Serving, body: Body, found: Sequence[bytes]) -> None:
        """Submit the prompts."""
        context = serving.settings.max_model_tokens
        if any(tokens.count(prompt) > context for prompt in found):
            raise errors.prompt_too_long(context)
        adapter = serving.adapter_of(body)
        seed = tokens.seed_of(adapter, "")
        self._exchange.on_closed = self._abort
        for prompt in found:
            job_id = self._engine.drive.next_id()
            self._jobs.add(job_id)
            hashes = tokens.block_hashes(prompt, serving.settings.shape.block_size, seed)
            job = Job(job_id, max(tokens.count(prompt), 1), 0, hashes, adapter)
            self._engine.drive.submit(job, self, is_stream=False)
        self._engine.drive.pump()

    def progressed(self, tokens: int) -> None:
        """Nothing comes before the end."""

    def finished(self, event: Finished) -> None:
        """One prompt is computed."""
        self._jobs.discard(event.id)
        self._engine.metrics.ended("stop")
        if not self._jobs:
            self._exchange.reply(200, msgspec.json.encode(self._answer()), JSON)

    def _abort(self) -> None:
        for job_id in self._jobs:
            if self._engine.drive.abort(job_id):
                self._engine.metrics.ended("abort")
        self._engine.drive.pump()


def _usage(found: Sequence[bytes]) -> dict[str, object]:
    total = sum(tokens.count(prompt) for prompt in found)
    return {"prompt_tokens": total, "total_tokens": total, "completion_tokens": 0, "prompt_tokens_details": None}


def _vector(prompt: bytes, dimensions: int) -> list[float]:
    """A unit vector drawn from the prompt's hash."""
    seed = xxhash.xxh3_64_intdigest(prompt)
    raw = [xxhash.xxh3_64_intdigest(i.to_bytes(4, "little"), seed) / 2**63 - 1.0 for i in range(dimensions)]
    length = sum(value * value for value in raw) ** 0.5 or 1.0
    return [value / length for value in raw]


def embeddings(serving: Serving, exchange: Exchange) -> None:
    """`POST /v1/embeddings`: `input` in four forms, or `messages`."""
    body = fields.read(exchange.request.body)
    model = serving.model_of(body)
    if "messages" in body:
        found: list[bytes] | None = [prompts.chat(fields.messages(body))]
    else:
        found = prompts.completions(fields.required(body, "input"))
    if not found or len(found) > _MAX_PROMPTS:
        raise errors.complaint("prompt_type", "input", "Input should be a text, token ids, or a list of either", body)
    dimensions = fields.integer(body, "dimensions", _DIMENSIONS) or _DIMENSIONS
    if not 1 <= dimensions <= _MAX_DIMENSIONS:
        raise errors.bad(f"dimensions must be 1 to {_MAX_DIMENSIONS}, got {dimensions}.", "dimensions")
    is_base64 = body.get("encoding_format") == "base64"

    def answer() -> object:
        data: list[dict[str, Any]] = []
        for index, prompt in enumerate(found):
            vector = _vector(prompt, dimensions)
            packed = base64.b64encode(struct.pack(f"<{dimensions}f", *vector)).decode() if is_base64 else vector
            data.append({"index": index, "object": "embedding", "embedding": packed})
        head = {"id": f"embd-{serving.answer_id(exchange)}", "object": "list", "created": int(time.time())}
        return {**head, "model": model, "data": data, "usage": _usage(found)}

    _Pooling(serving, exchange, answer).start(serving, body, found)


def _texts(body: Body, name: str) -> list[str]:
    value = fields.required(body, name)
    texts = [value] if isinstance(value, str) else value
    texts = [one.get("text") if isinstance(one, dict) else one for one in texts] if isinstance(texts, list) else None
    if not texts or len(texts) > _MAX_PROMPTS or not all(isinstance(one, str) for one in texts):
        raise errors.complaint("string_type", name, "Input should be a valid string or list of strings", body)
    return texts


def _relevance(query: str, document: str) -> float:
    """Share of the query's words that the document has, with a little of its hash to break ties."""
    words = set(query.lower().split())
    share = len(words & set(document.lower().split())) / len(words) if words else 0.0
    return 0.9 * share + 0.1 * xxhash.xxh3_64_intdigest(tokens.encode(query + "\n" + document)) / 2**64


def rerank(serving: Serving, exchange: Exchange) -> None:
    """`POST /rerank`, `/v1/rerank`, `/v2/rerank`."""
    body = fields.read(exchange.request.body)
    query = fields.string(body, "query")
    if query is None:
        raise errors.missing("query", body)
    documents = _texts(body, "documents")
    model = serving.model_of(body)
    top = fields.integer(body, "top_n", 0) or len(documents)
    found = [tokens.encode(query + document) for document in documents]

    def answer() -> object:
        scores = sorted(((_relevance(query, one), i) for i, one in enumerate(documents)), key=lambda pair: -pair[0])
        results = [
            {"index": i, "document": {"text": documents[i], "multi_modal": None}, "relevance_score": score}
            for score, i in scores[: max(top, 0)]
        ]
        used = _usage(found)
        usage = {"prompt_tokens": used["prompt_tokens"], "total_tokens": used["total_tokens"]}
        return {"id": f"rerank-{serving.answer_id(exchange)}", "model": model, "usage": usage, "results": results}

    _Pooling(serving, exchange, answer).start(serving, body, found)


def score(serving: Serving, exchange: Exchange) -> None:
    """`POST /score`, `/v1/score`: one text against one or many, or pairs."""
    body = fields.read(exchange.request.body)
    names = ("text_1", "text_2") if "text_1" in body else ("queries", "documents")
    left, right = _texts(body, names[0]), _texts(body, names[1])
    model = serving.model_of(body)
    if len(left) not in (1, len(right)):
        raise errors.bad(f"Input lengths must be either 1:1, 1:N or N:N, got {len(left)}:{len(right)}")
    pairs = list(zip(left * len(right) if len(left) == 1 else left, right, strict=True))
    found = [tokens.encode(one + other) for one, other in pairs]

    def answer() -> object:
        data = [{"index": i, "object": "score", "score": _relevance(*pair)} for i, pair in enumerate(pairs)]
        head = {"id": f"score-{serving.answer_id(exchange)}", "object": "list", "created": int(time.time())}
        return {**head, "model": model, "data": data, "usage": _usage(found)}

    _Pooling(serving, exchange, answer).start(serving, body, found)
