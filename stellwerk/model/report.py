"""How an exchange ended, as told by Envoy's access log or, where the answer passes the picker, by the exchange."""

from msgspec import Struct, field

GAP_BOUNDS = (0.001, 0.005, 0.01, 0.02, 0.04, 0.06, 0.08, 0.1, 0.15, 0.2, 0.3, 0.5, 0.75, 1.0, 2.0)
"""Upper bounds, in seconds, by which gaps are counted: upstream's for the time between tokens."""


class Gaps(Struct, gc=False):
    """How far apart the chunks of a streamed answer came: counts by `GAP_BOUNDS`, longer ones last, and the sum."""

    counts: list[int] = field(default_factory=lambda: [0] * (len(GAP_BOUNDS) + 1))
    seconds: float = 0.0


class Usage(Struct, frozen=True, gc=False):
    """Token counts of an answer. `is_estimate`: derived from the answer's bytes, since the server did not say."""

    prompt_tokens: int | None = None
    cached_tokens: int | None = None
    output_tokens: int | None = None
    is_estimate: bool = False


class Report(Struct, frozen=True, gc=False):
    """One finished exchange. Durations are in seconds and count from the first byte of the request at the proxy."""

    status: int = 0
    """0: there was no answer."""
    served: str | None = None
    """`ip:port` that answered; None if nobody did (a local reply), or if the proxy does not say."""
    has_passed: bool = False
    """Whether the answer's headers passed the picker after its pick: a server's answer, unless the proxy made it up."""
    is_stream: bool = False
    ttft_seconds: float | None = None
    duration_seconds: float | None = None
    request_bytes: int = 0
    response_bytes: int = 0
    usage: Usage | None = None
    gaps: Gaps | None = None
    """None: no stream of two chunks or more passed the picker."""
    flags: str = ""
    """Envoy's response flags, as in `%RESPONSE_FLAGS%`."""
