"""The endpoints that generate text: from body to `Generation`, for each API."""

import time
from collections.abc import Sequence

import xxhash
from msgspec import Struct

from stellwerk.sim import errors, fields, prompts, tokens
from stellwerk.sim.answers import AnswerLimits, answer
from stellwerk.sim.connection import Exchange
from stellwerk.sim.fields import Body
from stellwerk.sim.generation import Choice, Format, Generation
from stellwerk.sim.messages_format import MessagesFormat
from stellwerk.sim.metrics import Asked
from stellwerk.sim.openai_format import ChatFormat, CompletionFormat, Head
from stellwerk.sim.responses_format import ResponsesFormat
from stellwerk.sim.serving import Serving

_COMPLETION_TOKENS = 16
"""The default of the completions API."""
_MAX_PROMPTS = 2_048
_SEED_MASK = (1 << 64) - 1


class _Wanted(Struct):
    """What an API's body came down to."""

    prompts: Sequence[bytes]
    limits: Sequence[AnswerLimits]
    n: int
    form: Format
    is_stream: bool


def chat(serving: Serving, exchange: Exchange) -> None:
    """`POST /v1/chat/completions`."""
    body = fields.read(exchange.request.body)
    messages = fields.messages(body)
    prompt = prompts.chat(messages, body.get("tools"))
    serving.model_of(body)
    most = fields.limits(
        body, tokens.count(prompt), serving.settings.max_model_tokens, None, "max_completion_tokens", "max_tokens"
    )
    is_stream = fields.flag(body, "stream")
    head = _head(serving, exchange, body, "chatcmpl", is_stream)
    _start(serving, exchange, body, _Wanted([prompt], [most], fields.choices(body), ChatFormat(head), is_stream))


def completions(serving: Serving, exchange: Exchange) -> None:
    """`POST /v1/completions`."""
    body = fields.read(exchange.request.body)
    found = prompts.completions(fields.required(body, "prompt"))
    serving.model_of(body)
    if found is None or len(found) > _MAX_PROMPTS:
        raise errors.complaint("prompt_type", "prompt", "Input should be a text, token ids, or a list of either", body)
    if not all(found):
        raise errors.bad("The decoder prompt cannot be empty", "prompt")
    context = serving.settings.max_model_tokens
    limits = [fields.limits(body, tokens.count(one), context, _COMPLETION_TOKENS, "max_tokens") for one in found]
    is_stream, n = fields.flag(body, "stream"), fields.choices(body)
    echoed = [tokens.decode(one) for one in found for _ in range(n)] if fields.flag(body, "echo") else ()
    form = CompletionFormat(_head(serving, exchange, body, "cmpl", is_stream), echoed)
    _start(serving, exchange, body, _Wanted(found, limits, n, form, is_stream))


def messages(serving: Serving, exchange: Exchange) -> None:
    """`POST /v1/messages`."""
    body = fields.read(exchange.request.body)
    prompt = prompts.chat(fields.messages(body), body.get("tools"), body.get("system"))
    if fields.integer(body, "max_tokens") is None:
        raise errors.missing("max_tokens", body)
    model = serving.model_of(body)
    most = fields.limits(body, tokens.count(prompt), serving.settings.max_model_tokens, None, "max_tokens")
    form = MessagesFormat(f"chatcmpl-{serving.answer_id(exchange)}", model)
    _start(serving, exchange, body, _Wanted([prompt], [most], 1, form, fields.flag(body, "stream")))


def responses(serving: Serving, exchange: Exchange) -> None:
    """`POST /v1/responses`."""
    body = fields.read(exchange.request.body)
    fields.required(body, "input")
    model = serving.model_of(body)
    prompt = prompts.responses(body)
    if prompt is None:
        raise errors.complaint("string_type", "input", "Input should be a valid string or list of items", body)
    most = fields.limits(body, tokens.count(prompt), serving.settings.max_model_tokens, None, "max_output_tokens")
    form = ResponsesFormat(serving.answer_id(exchange), int(time.time()), model, body)
    _start(serving, exchange, body, _Wanted([prompt], [most], 1, form, fields.flag(body, "stream")))


def _head(serving: Serving, exchange: Exchange, body: Body, prefix: str, is_stream: bool) -> Head:
    options = body.get("stream_options") or {}
    if not isinstance(options, dict):
        raise errors.complaint("model_attributes_type", "stream_options", "Input should be a valid dictionary", body)
    if options and not is_stream:
        message = "Value error, Stream options can only be defined when `stream=True`."
        raise errors.complaint("value_error", "", message, body)
    includes_usage = fields.flag(options, "include_usage")
    return Head(
        id=f"{prefix}-{serving.answer_id(exchange)}",
        created=int(time.time()),
        model=serving.model_of(body),
        fingerprint=serving.fingerprint,
        includes_usage=includes_usage,
        includes_continuous_usage=includes_usage and fields.flag(options, "continuous_usage_stats"),
        reports_cached_tokens=serving.settings.reports_cached_tokens,
    )


def _start(serving: Serving, exchange: Exchange, body: Body, wanted: _Wanted) -> None:
    adapter = serving.adapter_of(body)
    salt = body.get("cache_salt")
    seed = tokens.seed_of(adapter, salt if isinstance(salt, str) else "")
    speaker = tokens.seed_of(str(serving.settings.seed), serving.model_of(body), str(body.get("seed")))
    choices: list[Choice] = []
    for prompt, limits in zip(wanted.prompts, wanted.limits, strict=True):
        for n in range(wanted.n):
            said = answer(xxhash.xxh3_64_intdigest(prompt, (speaker + n) & _SEED_MASK), serving.settings.answer, limits)
            hashes = tokens.block_hashes(prompt + said.text.encode(), serving.settings.shape.block_size, seed)
            choices.append(Choice(len(choices), tokens.count(prompt), hashes, said))
    generation = Generation(exchange, serving.engine, wanted.form, is_stream=wanted.is_stream)
    prompt_tokens = sum(tokens.count(prompt) for prompt in wanted.prompts)
    generation.start(choices, prompt_tokens, adapter, Asked(wanted.n, wanted.limits[0].max_tokens))
