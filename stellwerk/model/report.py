"""How an exchange ended, as told by Envoy's access log or, where the answer passes the picker, by the exchange."""

from msgspec import Struct


class Usage(Struct, frozen=True, gc=False):
    """Token counts of an answer. `is_estimate`: derived from the answer's bytes, since the server did not say."""

    prompt_tokens: int | None = None
    cached_tokens: int | None = None
    output_tokens: int | None = None
    is_estimate: bool = False


class Report(Struct, frozen=True, gc=False):
    """One finished exchange. Durations are in seconds and count from the first byte of the request at the proxy."""

    status: int = 0
    served: str | None = None
    """`ip:port` that answered; None if nobody did (a local reply)."""
    is_stream: bool = False
    ttft_seconds: float | None = None
    duration_seconds: float | None = None
    request_bytes: int = 0
    response_bytes: int = 0
    usage: Usage | None = None
    flags: str = ""
    """Envoy's response flags, as in `%RESPONSE_FLAGS%`."""
