"""Endpoints about the server itself: models, adapters, tokenizer, version, health, metrics."""

import msgspec

from stellwerk.sim import errors, fields, prompts, tokens
from stellwerk.sim.connection import Exchange
from stellwerk.sim.errors import JSON, ApiError
from stellwerk.sim.serving import Serving
from stellwerk.sim.settings import VERSION

METRICS_TYPE = "text/plain; version=1.0.0; charset=utf-8"
_MAX_ADAPTERS = 10_000


def _reply(exchange: Exchange, value: object) -> None:
    exchange.reply(200, msgspec.json.encode(value), JSON)


def health(serving: Serving, exchange: Exchange) -> None:
    """`GET /health`, `/ping`."""
    exchange.reply(200, b"")


def version(serving: Serving, exchange: Exchange) -> None:
    """`GET /version`."""
    _reply(exchange, {"version": VERSION})


def metrics(serving: Serving, exchange: Exchange) -> None:
    """`GET /metrics`."""
    exchange.reply(200, serving.page().encode(), METRICS_TYPE)


def models(serving: Serving, exchange: Exchange) -> None:
    """`GET /v1/models`."""
    _reply(exchange, {"object": "list", "data": serving.cards()})


def model(serving: Serving, exchange: Exchange, name: str) -> None:
    """`GET /v1/models/NAME`."""
    card = next((one for one in serving.cards() if one["id"] == name), None)
    if card is None:
        raise errors.unknown_model(name, serving.settings.models)
    _reply(exchange, card)


def tokenize(serving: Serving, exchange: Exchange) -> None:
    """`POST /tokenize`: `prompt` or `messages`."""
    body = fields.read(exchange.request.body)
    serving.model_of(body)
    if "messages" in body:
        found = prompts.chat(fields.messages(body), body.get("tools"))
    else:
        prompt = fields.required(body, "prompt")
        if not isinstance(prompt, str):
            raise errors.complaint("string_type", "prompt", "Input should be a valid string", body)
        found = tokens.encode(prompt)
    words = None
    if fields.flag(body, "return_token_strs"):
        words = [tokens.decode(found[i : i + tokens.TOKEN_BYTES]) for i in range(0, len(found), tokens.TOKEN_BYTES)]
    answer = {"count": tokens.count(found), "max_model_len": serving.settings.max_model_tokens}
    _reply(exchange, {**answer, "tokens": tokens.to_ids(found), "token_strs": words})


def detokenize(serving: Serving, exchange: Exchange) -> None:
    """`POST /detokenize`."""
    body = fields.read(exchange.request.body)
    serving.model_of(body)
    try:
        found = tokens.from_ids(fields.required(body, "tokens"))
    except (TypeError, OverflowError):
        raise errors.complaint("list_type", "tokens", "Input should be a valid list of token ids", body) from None
    _reply(exchange, {"prompt": tokens.decode(found)})


def count_tokens(serving: Serving, exchange: Exchange) -> None:
    """`POST /v1/messages/count_tokens`."""
    body = fields.read(exchange.request.body)
    serving.model_of(body)
    prompt = prompts.chat(fields.messages(body), body.get("tools"), body.get("system"))
    _reply(exchange, {"input_tokens": tokens.count(prompt)})


def load_adapter(serving: Serving, exchange: Exchange) -> None:
    """`POST /v1/load_lora_adapter`."""
    body = fields.read(exchange.request.body)
    name, path = fields.string(body, "lora_name"), fields.string(body, "lora_path")
    if not name or not path:
        raise ApiError(400, "Both 'lora_name' and 'lora_path' must be provided.", "InvalidUserInput")
    if not serving.settings.shape.max_adapters:
        raise ApiError(500, "LoRA is not enabled: start the server with --max-loras.", "InternalServerError")
    if name in serving.settings.models or len(serving.adapters) >= _MAX_ADAPTERS:
        raise ApiError(400, f"The lora adapter name '{name}' cannot be used here.", "InvalidUserInput")
    if name in serving.adapters and not fields.flag(body, "load_inplace"):
        message = (
            f"The lora adapter '{name}' has already been loaded. If you want to load the adapter in place, set "
            "'load_inplace' to True."
        )
        raise ApiError(400, message, "InvalidUserInput")
    serving.adapters[name] = path
    exchange.reply(200, f"Success: LoRA adapter '{name}' added successfully.".encode(), "text/plain; charset=utf-8")


def unload_adapter(serving: Serving, exchange: Exchange) -> None:
    """`POST /v1/unload_lora_adapter`."""
    body = fields.read(exchange.request.body)
    name = fields.string(body, "lora_name")
    if not name:
        raise ApiError(400, "'lora_name' needs to be provided to unload a LoRA adapter.", "InvalidUserInput")
    if name not in serving.adapters:
        raise ApiError(404, f"The lora adapter '{name}' cannot be found.", "NotFoundError")
    del serving.adapters[name]
    serving.engine.model.adapters.unload(name)
    exchange.reply(200, f"Success: LoRA adapter '{name}' removed successfully.".encode(), "text/plain; charset=utf-8")
