"""One row of counters for each combination of model, target, tenant and priority; and what rows look like as metrics.

Kept apart from `meters`, which finds the row of a request and bounds how many there are.
"""

from collections.abc import Iterator

from stellwerk.model.report import GAP_BOUNDS, Report, Usage
from stellwerk.telemetry import buckets
from stellwerk.telemetry.render import Family, Histogram

Labels = tuple[str, str, str, str]
LABELS = ("model_name", "target_model_name", "fairness_id", "priority")
_MAX_SECONDS = 1e7
_MAX_TOKENS = 1e9


def _plausible(value: float | None, bound: float) -> float | None:
    return value if value is not None and 0 <= value < bound else None


def _observed(histogram: Histogram | None, bounds: tuple[float, ...], value: float) -> Histogram:
    """The histogram, made when it is first needed: most rows never see half of them."""
    if histogram is None:
        histogram = Histogram(bounds)
    histogram.observe(value)
    return histogram


class Answers:
    """What is known of a row's answers."""

    __slots__ = (
        "cached_tokens",
        "duration",
        "input_tokens",
        "itl",
        "ntpot",
        "output_tokens",
        "response_bytes",
        "tpot",
        "ttft",
        "ttft_streaming",
    )

    def __init__(self) -> None:
        self.duration = Histogram(buckets.LATENCY)
        self.response_bytes = Histogram(buckets.RESPONSE_BYTES)
        self.input_tokens: Histogram | None = None
        self.cached_tokens: Histogram | None = None
        self.output_tokens: Histogram | None = None
        self.ntpot: Histogram | None = None
        self.itl: Histogram | None = None
        self.tpot: Histogram | None = None
        self.ttft: Histogram | None = None
        self.ttft_streaming: Histogram | None = None

    def count(self, report: Report) -> None:
        """One answer. What is not plausible (a broken clock, a server that lies) is left out."""
        duration = _plausible(report.duration_seconds, _MAX_SECONDS)
        ttft = _plausible(report.ttft_seconds, _MAX_SECONDS)
        self.response_bytes.observe(report.response_bytes)
        if duration is not None:
            self.duration.observe(duration)
        if ttft is not None and report.is_stream:
            self.ttft_streaming = _observed(self.ttft_streaming, buckets.TTFT, ttft)
        elif ttft is not None:
            self.ttft = _observed(self.ttft, buckets.TTFT, ttft)
        if report.gaps is not None:
            if self.itl is None:
                self.itl = Histogram(GAP_BOUNDS)
            self.itl.add(report.gaps.counts, report.gaps.seconds)
        usage = report.usage
        if usage is not None and not usage.is_estimate:
            self._count_tokens(usage, duration, ttft if report.is_stream else None)

    def _count_tokens(self, usage: Usage, duration: float | None, streaming_ttft: float | None) -> None:
        prompt = _plausible(usage.prompt_tokens, _MAX_TOKENS)
        cached = _plausible(usage.cached_tokens, _MAX_TOKENS)
        output = _plausible(usage.output_tokens, _MAX_TOKENS)
        if prompt is not None:
            self.input_tokens = _observed(self.input_tokens, buckets.TOKENS, prompt)
        if cached is not None:
            self.cached_tokens = _observed(self.cached_tokens, buckets.TOKENS, cached)
        if output is None or output < 1:
            return
        self.output_tokens = _observed(self.output_tokens, buckets.OUTPUT_TOKENS, output)
        if duration is None:
            return
        self.ntpot = _observed(self.ntpot, buckets.NTPOT, duration / output)
        if streaming_ttft is not None and output > 1 and duration >= streaming_ttft:
            self.tpot = _observed(self.tpot, buckets.TPOT, (duration - streaming_ttft) / (output - 1))


class Row:
    """One combination of model, target, tenant and priority."""

    __slots__ = (
        "answers",
        "errors",
        "estimated_answers",
        "estimated_tokens",
        "labels",
        "request_bytes",
        "running",
        "total",
    )

    def __init__(self, labels: Labels) -> None:
        self.labels = labels
        self.total = 0
        self.running = 0
        self.request_bytes = Histogram(buckets.REQUEST_BYTES)
        self.errors: dict[str, int] = {}
        self.answers: Answers | None = None
        self.estimated_tokens = 0.0
        self.estimated_answers = 0

    def failed(self, code: str) -> None:
        """One error, by the reference's name for it."""
        self.errors[code] = self.errors.get(code, 0) + 1


def request_families(rows: tuple[Row, ...]) -> Iterator[Family]:
    """What is known of requests before they are answered."""
    yield Family(
        "llm_d_epp_request_total", "counter", "Requests.", LABELS, tuple((row.labels, row.total) for row in rows)
    )
    yield Family(
        "llm_d_epp_request_error_total",
        "counter",
        "Requests that were refused or failed.",
        (*LABELS, "error_code"),
        tuple(((*row.labels, code), count) for row in rows for code, count in row.errors.items()),
    )
    yield Family(
        "llm_d_epp_request_running",
        "gauge",
        "Requests forwarded and not yet over.",
        LABELS,
        tuple((row.labels, row.running) for row in rows),
    )
    yield Family(
        "llm_d_epp_request_size_bytes",
        "histogram",
        "Size of request bodies.",
        LABELS,
        tuple((row.labels, row.request_bytes) for row in rows),
    )


def answer_families(rows: tuple[Row, ...]) -> Iterator[Family]:
    """What is known of answers; rows without any are left out."""
    answers = tuple((row.labels, row.answers) for row in rows if row.answers is not None)
    for name, help, attribute in (
        ("request_duration_seconds", "Time from the first byte of the request to the end of the answer.", "duration"),
        ("response_size_bytes", "Size of answers.", "response_bytes"),
        ("request_input_tokens", "Prompt tokens, as counted by the server.", "input_tokens"),
        ("request_cached_tokens", "Prompt tokens found in the server's prefix cache.", "cached_tokens"),
        ("request_output_tokens", "Output tokens, as counted by the server.", "output_tokens"),
        ("request_ntpot_seconds", "Duration divided by output tokens.", "ntpot"),
        ("request_streaming_tpot_seconds", "Time for each output token after the first, of streams.", "tpot"),
        ("request_streaming_itl_seconds", "Time between two chunks of a streamed answer.", "itl"),
    ):
        observed = ((labels, getattr(answer, attribute)) for labels, answer in answers)
        seen = tuple((labels, histogram) for labels, histogram in observed if histogram is not None)
        yield Family(f"llm_d_epp_{name}", "histogram", help, LABELS, seen)
    first_bytes = tuple(
        ((*labels, streaming), histogram)
        for labels, answer in answers
        for streaming, histogram in (("true", answer.ttft_streaming), ("false", answer.ttft))
        if histogram is not None
    )
    yield Family(
        "llm_d_epp_request_ttft_seconds",
        "histogram",
        "Time to the first byte of the answer.",
        (*LABELS, "streaming"),
        first_bytes,
    )
