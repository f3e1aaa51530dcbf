"""Plain counters of the request path, written by the engine; `families` turns them into metrics when asked.

Names, labels and buckets are the reference picker's (`llm_d_epp_*`); what it does not have is `stellwerk_*`. A request
costs one look-up of its row and a few additions. Rows are bounded in number, their labels in length (`labels`).
"""

from collections.abc import Iterable, Iterator

from stellwerk.model.reason import Reason
from stellwerk.model.report import Report, Usage
from stellwerk.model.trace import Trace
from stellwerk.telemetry import buckets
from stellwerk.telemetry.labels import OTHER, Guard, bounded
from stellwerk.telemetry.render import Family, Histogram, gauge

MAX_MODELS = 1000
MAX_FAIRNESS_IDS = 1000
MAX_ROWS = 1000
"""Combinations of model, target, tenant and priority. A row is up to 200 lines of the page."""
MAX_UNRESOLVED = 100
"""Names that clients asked for and nobody serves: few, so that they cannot displace those that exist."""
MAX_PICKED = 10_000
DEFAULT_FAIRNESS_ID = "default-flow"

_LABELS = ("model_name", "target_model_name", "fairness_id", "priority")
_MAX_KEY_LENGTH = 256
_MAX_SECONDS = 1e7
_MAX_TOKENS = 1e9
_CALIBRATION = 0.1

_ERROR_CODES = {
    400: "BadRequest",
    401: "Unauthorized",
    403: "Forbidden",
    404: "NotFound",
    412: "PreconditionFailed",
    413: "RequestEntityTooLarge",
    429: "ResourceExhausted",
    501: "Unimplemented",
    503: "ServiceUnavailable",
    504: "DeadlineExceeded",
}
_CODE_OF_REFUSAL = {reason.value: _ERROR_CODES.get(reason.rule.status, "Internal") for reason in Reason}

_Key = tuple[str | None, str | None, str | None, int]


class _Answers:
    """What is known of a row's answers."""

    __slots__ = (
        "cached_tokens",
        "duration",
        "input_tokens",
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
        self.tpot: Histogram | None = None
        self.ttft: Histogram | None = None
        self.ttft_streaming: Histogram | None = None


class _Row:
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

    def __init__(self, labels: tuple[str, str, str, str]) -> None:
        self.labels = labels
        self.total = 0
        self.running = 0
        self.request_bytes = Histogram(buckets.REQUEST_BYTES)
        self.errors: dict[str, int] = {}
        self.answers: _Answers | None = None
        self.estimated_tokens = 0.0
        self.estimated_answers = 0


class Meters:
    """Counts what happens. Label values are bounded in length and count; beyond the bound they become `other`."""

    def __init__(self) -> None:
        self._models = Guard(MAX_MODELS)
        self._unresolved = Guard(MAX_UNRESOLVED)
        self._fairness_ids = Guard(MAX_FAIRNESS_IDS)
        self._rows: dict[_Key, _Row] = {}
        self._rows_by_labels: dict[tuple[str, str, str, str], _Row] = {}
        self._scheduling = Histogram(buckets.SCHEDULING)
        self._picked: dict[tuple[str | None, str], int] = {}
        self._not_picked: dict[str | None, int] = {}
        self._rewrites: dict[tuple[str, str, str], int] = {}
        self._refusals: dict[tuple[str, str], int] = {}
        self._mismatches: dict[str, int] = {}
        self._prefix_ratio = Histogram(buckets.RATIO)
        self._prefix_bytes = Histogram(buckets.PREFIX_BYTES)
        self._bytes_per_token: dict[str, float] = {}
        self._reloads = {True: 0, False: 0}

    def decided(self, trace: Trace, *, request_bytes: int, fairness_id: str | None) -> None:
        """One decision, picked or refused."""
        row = self._rows.get((trace.public_model, trace.target_model, fairness_id, trace.priority))
        if row is None:
            row = self._row_of(trace, fairness_id)
        row.total += 1
        row.request_bytes.observe(request_bytes)
        self._scheduling.observe(trace.took_seconds)
        if trace.picked:
            row.running += 1
            key = (trace.target_model, trace.picked[0])
            count = self._picked.get(key)
            if count is None:
                self._first_pick(key)
            else:
                self._picked[key] = count + 1
            if trace.source is not None:
                self._rewritten(trace, trace.source)
        else:
            self._refused(row, trace)

    def released(self, trace: Trace, *, fairness_id: str | None) -> None:
        """One picked exchange ended."""
        row = self._rows.get((trace.public_model, trace.target_model, fairness_id, trace.priority))
        if row is None:
            row = self._row_of(trace, fairness_id)
        if row.running > 0:
            row.running -= 1

    def finished(self, trace: Trace, report: Report, *, fairness_id: str | None) -> None:
        """One exchange was reported on."""
        row = self._rows.get((trace.public_model, trace.target_model, fairness_id, trace.priority))
        if row is None:
            row = self._row_of(trace, fairness_id)
        answers = row.answers
        if answers is None:
            answers = row.answers = _Answers()
        if report.status >= 400:
            code = "ModelServerError" if report.served is not None else _ERROR_CODES.get(report.status, "Internal")
            row.errors[code] = row.errors.get(code, 0) + 1
        duration, ttft = report.duration_seconds, report.ttft_seconds
        if duration is not None and 0.0 <= duration < _MAX_SECONDS:
            answers.duration.observe(duration)
        else:
            duration = None
        if ttft is not None and 0.0 <= ttft < _MAX_SECONDS:
            if report.is_stream:
                histogram = answers.ttft_streaming = answers.ttft_streaming or Histogram(buckets.TTFT)
            else:
                histogram = answers.ttft = answers.ttft or Histogram(buckets.TTFT)
            histogram.observe(ttft)
        else:
            ttft = None
        answers.response_bytes.observe(report.response_bytes)
        usage = report.usage
        if usage is not None and not usage.is_estimate:
            _count_tokens(answers, usage, duration, ttft if report.is_stream else None)
        if report.is_stream and report.status == 200:
            self._calibrate(row, report)

    def configured(self, models: Iterable[str]) -> None:
        """Public names and targets that the objects name: these never become `other`."""
        self._models.configure(models)

    def mismatched(self, pool: str) -> None:
        """An answer came from another endpoint than the one picked."""
        self._mismatches[pool] = self._mismatches.get(pool, 0) + 1

    def matched(self, *, ratio: float, prefix_bytes: int) -> None:
        """How much of a prompt the picked endpoint had in its prefix cache, as far as the index knows."""
        self._prefix_ratio.observe(ratio)
        self._prefix_bytes.observe(prefix_bytes)

    def reloaded(self, *, is_good: bool) -> None:
        """The objects were read again."""
        self._reloads[is_good] += 1

    def families(self) -> Iterator[Family]:
        """All metrics, read at this moment; the rows of a family that nothing was counted for are left out."""
        rows = tuple(self._rows_by_labels.values())
        yield from _request_families(rows)
        yield from _answer_families(tuple((row.labels, row.answers) for row in rows if row.answers is not None))
        yield from self._decision_families()
        yield from self._own_families(rows)

    def _decision_families(self) -> Iterator[Family]:
        yield Family(
            "llm_d_epp_scheduler_e2e_duration_seconds",
            "histogram",
            "Time from a complete request to its decision, without waiting in a queue.",
            (),
            (((), self._scheduling),),
        )
        yield Family(
            "llm_d_epp_scheduler_attempts_total",
            "counter",
            "Decisions by result and endpoint.",
            ("status", "target_model_name", "endpoint_name", "namespace", "port"),
            (
                *((("success", *_picked_labels(*key)), count) for key, count in self._picked.items()),
                *((("failure", target or "", "", "", ""), count) for target, count in self._not_picked.items()),
            ),
        )
        yield Family(
            "llm_d_epp_model_rewrite_decisions_total",
            "counter",
            "Model names that a rewrite rule replaced.",
            ("model_rewrite_name", "model_name", "target_model"),
            tuple(self._rewrites.items()),
        )
        yield _plain("prefix_indexer_hit_ratio", "Share of the prompt found in the prefix index.", self._prefix_ratio)
        yield _plain("prefix_indexer_hit_bytes", "Bytes of the prompt found in the prefix index.", self._prefix_bytes)

    def _own_families(self, rows: tuple[_Row, ...]) -> Iterator[Family]:
        yield Family(
            "stellwerk_refusals_total",
            "counter",
            "Requests not forwarded, by reason.",
            ("pool", "reason"),
            tuple(self._refusals.items()),
        )
        yield Family(
            "stellwerk_served_elsewhere_total",
            "counter",
            "Answers that came from another endpoint than the one picked.",
            ("pool",),
            tuple(((pool,), count) for pool, count in self._mismatches.items()),
        )
        yield Family(
            "stellwerk_estimated_output_tokens_total",
            "counter",
            "Output tokens of streams without usage, estimated from their bytes.",
            _LABELS,
            tuple((row.labels, row.estimated_tokens) for row in rows if row.estimated_answers),
        )
        yield Family(
            "stellwerk_estimated_answers_total",
            "counter",
            "Streams without usage whose output tokens were estimated.",
            _LABELS,
            tuple((row.labels, row.estimated_answers) for row in rows if row.estimated_answers),
        )
        yield Family(
            "stellwerk_config_reloads_total",
            "counter",
            "Readings of the objects; after a bad one the last good state stays.",
            ("result",),
            ((("good",), self._reloads[True]), (("bad",), self._reloads[False])),
        )
        yield gauge("stellwerk_metric_rows", "Label combinations in use.", len(rows))

    def _row_of(self, trace: Trace, fairness_id: str | None) -> _Row:
        """The slow way to a row: fold its labels, and remember where a request like this one finds it."""
        is_resolved = trace.target_model is not None or bool(trace.picked)
        models = self._models if is_resolved else self._unresolved
        labels = (
            models.fold(trace.public_model) if trace.public_model else "",
            models.fold(trace.target_model) if trace.target_model else "",
            self._fairness_ids.fold(fairness_id or DEFAULT_FAIRNESS_ID),
            str(trace.priority),
        )
        row = self._rows_by_labels.get(labels)
        if row is None:
            if len(self._rows_by_labels) >= MAX_ROWS:
                labels = self._folded(labels)
            row = self._rows_by_labels.setdefault(labels, _Row(labels))
        key = (trace.public_model, trace.target_model, fairness_id, trace.priority)
        if OTHER not in labels and sum(len(part) for part in key[:3] if part is not None) <= _MAX_KEY_LENGTH:
            self._rows[key] = row
        return row

    def _folded(self, labels: tuple[str, str, str, str]) -> tuple[str, str, str, str]:
        """When all rows are taken: a configured model keeps a row for all tenants together, the rest shares one."""
        model, target, _, priority = labels
        if self._models.is_configured(model) and (target == model or self._models.is_configured(target)):
            return (model, target, OTHER, priority)
        return (OTHER, OTHER, OTHER, OTHER)

    def _first_pick(self, key: tuple[str | None, str]) -> None:
        if len(self._picked) >= MAX_PICKED:
            key = (OTHER, OTHER)
        self._picked[key] = self._picked.get(key, 0) + 1

    def _refused(self, row: _Row, trace: Trace) -> None:
        reason = trace.refused or Reason.INTERNAL.value
        code = _CODE_OF_REFUSAL.get(reason, "Internal")
        row.errors[code] = row.errors.get(code, 0) + 1
        refusal = (bounded(trace.pool or ""), bounded(reason))
        self._refusals[refusal] = self._refusals.get(refusal, 0) + 1
        target = row.labels[1]
        self._not_picked[target] = self._not_picked.get(target, 0) + 1

    def _rewritten(self, trace: Trace, source: str) -> None:
        kind, _, name = source.partition(" ")
        if kind != "InferenceModelRewrite":
            return
        key = (bounded(name), self._models.fold(trace.public_model or ""), self._models.fold(trace.target_model or ""))
        if key in self._rewrites or len(self._rewrites) < MAX_ROWS:
            self._rewrites[key] = self._rewrites.get(key, 0) + 1

    def _calibrate(self, row: _Row, report: Report) -> None:
        """Learn a model's bytes per output token from streams that tell; estimate those that do not."""
        usage = report.usage
        model = row.labels[1]
        known = self._bytes_per_token.get(model)
        if usage is not None and usage.output_tokens and not usage.is_estimate:
            ratio = report.response_bytes / usage.output_tokens
            if ratio > 0.0:
                self._bytes_per_token[model] = ratio if known is None else known + _CALIBRATION * (ratio - known)
        elif known and (usage is None or usage.output_tokens is None or usage.is_estimate):
            row.estimated_answers += 1
            row.estimated_tokens += report.response_bytes / known


def _count_tokens(answers: _Answers, usage: Usage, duration: float | None, streaming_ttft: float | None) -> None:
    prompt, cached, output = usage.prompt_tokens, usage.cached_tokens, usage.output_tokens
    if prompt is not None and 0 <= prompt < _MAX_TOKENS:
        histogram = answers.input_tokens = answers.input_tokens or Histogram(buckets.TOKENS)
        histogram.observe(prompt)
    if cached is not None and 0 <= cached < _MAX_TOKENS:
        histogram = answers.cached_tokens = answers.cached_tokens or Histogram(buckets.TOKENS)
        histogram.observe(cached)
    if output is None or not 0 < output < _MAX_TOKENS:
        return
    histogram = answers.output_tokens = answers.output_tokens or Histogram(buckets.OUTPUT_TOKENS)
    histogram.observe(output)
    if duration is None:
        return
    histogram = answers.ntpot = answers.ntpot or Histogram(buckets.NTPOT)
    histogram.observe(duration / output)
    if streaming_ttft is not None and output > 1 and duration >= streaming_ttft:
        histogram = answers.tpot = answers.tpot or Histogram(buckets.TPOT)
        histogram.observe((duration - streaming_ttft) / (output - 1))


def _request_families(rows: tuple[_Row, ...]) -> Iterator[Family]:
    yield Family(
        "llm_d_epp_request_total", "counter", "Requests.", _LABELS, tuple((row.labels, row.total) for row in rows)
    )
    yield Family(
        "llm_d_epp_request_error_total",
        "counter",
        "Requests that were refused or failed.",
        (*_LABELS, "error_code"),
        tuple(((*row.labels, code), count) for row in rows for code, count in row.errors.items()),
    )
    yield Family(
        "llm_d_epp_request_running",
        "gauge",
        "Requests forwarded and not yet over.",
        _LABELS,
        tuple((row.labels, row.running) for row in rows),
    )
    yield Family(
        "llm_d_epp_request_size_bytes",
        "histogram",
        "Size of request bodies.",
        _LABELS,
        tuple((row.labels, row.request_bytes) for row in rows),
    )


def _answer_families(answers: tuple[tuple[tuple[str, ...], _Answers], ...]) -> Iterator[Family]:
    for name, help, attribute in (
        ("request_duration_seconds", "Time from the first byte of the request to the end of the answer.", "duration"),
        ("response_size_bytes", "Size of answers.", "response_bytes"),
        ("request_input_tokens", "Prompt tokens, as counted by the server.", "input_tokens"),
        ("request_cached_tokens", "Prompt tokens found in the server's prefix cache.", "cached_tokens"),
        ("request_output_tokens", "Output tokens, as counted by the server.", "output_tokens"),
        ("request_ntpot_seconds", "Duration divided by output tokens.", "ntpot"),
        ("request_streaming_tpot_seconds", "Time for each output token after the first, of streams.", "tpot"),
    ):
        observed = ((labels, getattr(answer, attribute)) for labels, answer in answers)
        rows = tuple((labels, histogram) for labels, histogram in observed if histogram is not None)
        yield Family(f"llm_d_epp_{name}", "histogram", help, _LABELS, rows)
    rows = tuple(
        ((*labels, streaming), histogram)
        for labels, answer in answers
        for streaming, histogram in (("true", answer.ttft_streaming), ("false", answer.ttft))
        if histogram is not None
    )
    yield Family(
        "llm_d_epp_request_ttft_seconds",
        "histogram",
        "Time to the first byte of the answer.",
        (*_LABELS, "streaming"),
        rows,
    )


def _picked_labels(target: str | None, endpoint: str) -> tuple[str, str, str, str]:
    """target_model_name, endpoint_name, namespace, port of an endpoint's key `namespace/name:port`."""
    namespace, slash, rest = endpoint.rpartition("/")
    name, colon, port = rest.rpartition(":")
    return (
        bounded(target or ""),
        bounded(name if colon else rest),
        bounded(namespace) if slash else "",
        port if colon else "",
    )


def _plain(name: str, help: str, histogram: Histogram) -> Family:
    return Family(f"llm_d_epp_{name}", "histogram", help, (), (((), histogram),))
