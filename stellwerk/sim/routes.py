"""Which path is answered by what. A handler replies, starts a generation, or raises ApiError."""

from collections.abc import Callable
from urllib.parse import unquote

from stellwerk.sim import catalogue, errors, generate, media, pooling
from stellwerk.sim.connection import Exchange
from stellwerk.sim.errors import JSON, ApiError
from stellwerk.sim.serving import Serving

Endpoint = Callable[[Serving, Exchange], None]

ROUTES: dict[str, dict[str, Endpoint]] = {
    "/v1/chat/completions": {"POST": generate.chat},
    "/v1/completions": {"POST": generate.completions},
    "/v1/messages": {"POST": generate.messages},
    "/v1/messages/count_tokens": {"POST": catalogue.count_tokens},
    "/v1/responses": {"POST": generate.responses},
    "/v1/embeddings": {"POST": pooling.embeddings},
    "/rerank": {"POST": pooling.rerank},
    "/v1/rerank": {"POST": pooling.rerank},
    "/v2/rerank": {"POST": pooling.rerank},
    "/score": {"POST": pooling.score},
    "/v1/score": {"POST": pooling.score},
    "/v1/audio/transcriptions": {"POST": media.transcriptions},
    "/v1/images/generations": {"POST": media.images},
    "/tokenize": {"POST": catalogue.tokenize},
    "/detokenize": {"POST": catalogue.detokenize},
    "/v1/load_lora_adapter": {"POST": catalogue.load_adapter},
    "/v1/unload_lora_adapter": {"POST": catalogue.unload_adapter},
    "/v1/models": {"GET": catalogue.models},
    "/version": {"GET": catalogue.version},
    "/health": {"GET": catalogue.health},
    "/ping": {"GET": catalogue.health, "POST": catalogue.health},
    "/metrics": {"GET": catalogue.metrics},
}
UNCOUNTED = frozenset(("/metrics", "/health", "/ping", "/version"))
"""Paths that the web framework's counters leave out."""
_MODEL = "/v1/models/"


def handler_of(path: str) -> str:
    """The label `handler` of the `http_` metrics."""
    if path in ROUTES:
        return path
    return "/v1/models/{model_id}" if path.startswith(_MODEL) else "none"


def route(serving: Serving, exchange: Exchange) -> None:
    """Answer a request, now or later."""
    path, method = exchange.path, exchange.request.method
    try:
        methods = ROUTES.get(path)
        if methods is None and path.startswith(_MODEL):
            _only_get(method)
            catalogue.model(serving, exchange, unquote(path.removeprefix(_MODEL)))
            return
        if methods is None:
            raise errors.plain(404)
        endpoint = methods.get("GET" if method == "HEAD" else method)
        if endpoint is None:
            raise errors.plain(405)
        endpoint(serving, exchange)
    except ApiError as error:
        is_anthropic = path.startswith("/v1/messages") and error.kind not in ("Bad Request", "Not Found")
        exchange.reply(error.status, error.anthropic_body() if is_anthropic else error.body(), JSON)


def _only_get(method: str) -> None:
    if method not in ("GET", "HEAD"):
        raise errors.plain(405)
