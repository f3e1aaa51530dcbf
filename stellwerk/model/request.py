"""A request as the engine sees it: what the exchange took from headers and body, and nothing of the transport."""

from enum import Enum

from msgspec import Struct


class Api(Enum):
    """What the path asks for. The value is the label in traces and logs."""

    CHAT = "chat"
    COMPLETIONS = "completions"
    EMBEDDINGS = "embeddings"
    RESPONSES = "responses"
    MESSAGES = "messages"
    COUNT_TOKENS = "count_tokens"
    RERANK = "rerank"
    SCORE = "score"
    TOKENIZE = "tokenize"
    AUDIO = "audio"
    IMAGES = "images"
    MODELS = "models"
    """`GET /v1/models`: answered by the gateway itself."""
    MODEL = "model"
    """`GET /v1/models/NAME`: likewise; `Request.model` is NAME."""
    OTHER = "other"
    """A path we do not know: passes through to the default pool, if there is one."""


class Request(Struct, frozen=True, gc=False):
    """One request, complete: made when its last byte (or the end of its headers) has arrived.

    `prompts` holds, for each prompt of the request, the bytes that decide about prefix sharing, in the order in
    which the engine sees them (a chat: tools, then messages). They are raw slices of the body, not decoded text: equal
    bytes mean an equal prefix, and nothing is parsed twice. `prompt_tokens` is exact where the client sent token ids,
    else an estimate of four bytes to a token.
    """

    id: str
    api: Api
    method: str
    path: str
    received_at: float
    model: str | None = None
    is_stream: bool = False
    prompts: tuple[bytes | memoryview, ...] = ()
    prompt_tokens: int = 0
    max_output_tokens: int | None = None
    cache_salt: bytes = b""
    size_bytes: int = 0
    objective: str | None = None
    fairness_id: str | None = None
    model_override: str | None = None
    """Header `x-llm-d-model-name-rewrite`: the target that the caller wants; a rewrite rule outranks it."""
    subset: tuple[str, ...] | None = None
    """Addresses `ip:port` from the proxy's subset hint. None: no hint. Empty: a hint that names nobody, hence 503."""
    pool_hint: str | None = None
    """The pool chosen by the proxy (picker behind a foreign gateway); None where we choose by model name."""
    ttft_slo_seconds: float | None = None
    tpot_slo_seconds: float | None = None
    timeout_seconds: float | None = None
