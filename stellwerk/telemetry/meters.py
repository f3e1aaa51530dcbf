"""Plain counters of the request path, written by the engine; `families` turns them into metrics when asked.

Names, labels and buckets are the reference picker's (`llm_d_epp_*`); what it does not have is `stellwerk_*`. A request
costs one look-up of its row and a few additions. Rows are bounded in number, their labels in length (`labels`).
"""

from collections.abc import Iterable, Iterator

from stellwerk.model.reason import Reason
from stellwerk.model.report import Report
from stellwerk.model.trace import Trace
from stellwerk.telemetry import buckets
from stellwerk.telemetry.labels import OTHER, Guard, bounded
from stellwerk.telemetry.render import Family, Histogram, gauge
from stellwerk.telemetry.rows import LABELS, Answers, Labels, Row, answer_families, request_families

MAX_MODELS = 1000
MAX_FAIRNESS_IDS = 1000
MAX_ROWS = 1000
"""Combinations of model, target, tenant and priority. A row is up to 200 lines of the page."""
MAX_UNRESOLVED = 100
"""Names that clients asked for and nobody serves: few, so that they cannot displace those that exist."""
MAX_PICKED = 10_000
DEFAULT_FAIRNESS_ID = "default-flow"
INDEX_LABELS = ("plugin_name", "plugin_type")
INDEX = ("approx-prefix-cache-producer", "approx-prefix-cache-producer")

_MAX_KEY_LENGTH = 256
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

_NOBODY = Trace(request_id="", at=0.0, api="")
"""Of a request that was never asked about nothing is known that a label could show."""

_Key = tuple[str | None, str | None, str | None, int]


class Meters:
    """Counts what happens. Label values are bounded in length and count; beyond the bound they become `other`."""

    def __init__(self) -> None:
        self._models = Guard(MAX_MODELS)
        self._unresolved = Guard(MAX_UNRESOLVED)
        self._fairness_ids = Guard(MAX_FAIRNESS_IDS)
        self._rows: dict[_Key, Row] = {}
        self._rows_by_labels: dict[Labels, Row] = {}
        self._picked: dict[tuple[str | None, str], int] = {}
        self._not_picked: dict[str | None, int] = {}
        self._rewrites: dict[tuple[str, str, str], int] = {}
        self._refusals: dict[tuple[str, str], int] = {}
        self._mismatches: dict[str, int] = {}
        self._prefix_ratio = Histogram(buckets.RATIO)
        self._prefix_bytes = Histogram(buckets.PREFIX_BYTES)
        self._bytes_per_token: dict[str, float] = {}

    def decided(self, trace: Trace, *, request_bytes: int, fairness_id: str | None) -> None:
        """One decision: picked, refused, or answered by the gateway itself."""
        row = self._rows.get((trace.public_model, trace.target_model, fairness_id, trace.priority))
        if row is None:
            row = self._row_of(trace, fairness_id)
        row.total += 1
        row.request_bytes.observe(request_bytes)
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
        elif trace.refused is not None:
            self._refused(row, trace.pool or "", trace.refused)
            target = row.labels[1]
            self._not_picked[target] = self._not_picked.get(target, 0) + 1

    def turned_away(self, reason: Reason, *, is_counted: bool) -> None:
        """A request was refused without a decision, mostly since it cannot be read. Like the reference, all of them
        count on one row, without a model. `is_counted`: as a request it has been counted before."""
        row = self._row_of(_NOBODY, None)
        if not is_counted:
            row.total += 1
        self._refused(row, "", reason.value)

    def released(self, trace: Trace, *, fairness_id: str | None) -> None:
        """One picked exchange ended."""
        row = self._rows.get((trace.public_model, trace.target_model, fairness_id, trace.priority))
        if row is None:
            row = self._row_of(trace, fairness_id)
        if row.running > 0:
            row.running -= 1

    def finished(self, trace: Trace, report: Report, *, fairness_id: str | None) -> None:
        """One exchange was reported on. Without an answer (the client left) there is nothing to measure: a time or a
        size of it would be the client's patience."""
        if report.status == 0:
            return
        row = self._rows.get((trace.public_model, trace.target_model, fairness_id, trace.priority))
        if row is None:
            row = self._row_of(trace, fairness_id)
        answers = row.answers
        if answers is None:
            answers = row.answers = Answers()
        if report.status >= 400:
            is_servers = report.served is not None or report.has_passed
            row.failed("ModelServerError" if is_servers else _ERROR_CODES.get(report.status, "Internal"))
        answers.count(report)
        if report.is_stream and report.status == 200:
            self._calibrate(row, report)

    def tenant(self, fairness_id: str | None) -> str:
        """The label value of a fairness id."""
        return self._fairness_ids.fold(fairness_id or DEFAULT_FAIRNESS_ID)

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

    def families(self) -> Iterator[Family]:
        """All metrics, read at this moment; the rows of a family that nothing was counted for are left out."""
        rows = tuple(self._rows_by_labels.values())
        yield from request_families(rows)
        yield from answer_families(rows)
        yield from self._decision_families()
        yield from self._own_families(rows)

    def _decision_families(self) -> Iterator[Family]:
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
        for name, help, histogram in (
            ("prefix_indexer_hit_ratio", "Share of the prompt found in the prefix index.", self._prefix_ratio),
            ("prefix_indexer_hit_bytes", "Bytes of the prompt found in the prefix index.", self._prefix_bytes),
        ):
            yield Family(f"llm_d_epp_{name}", "histogram", help, INDEX_LABELS, ((INDEX, histogram),))

    def _own_families(self, rows: tuple[Row, ...]) -> Iterator[Family]:
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
            LABELS,
            tuple((row.labels, row.estimated_tokens) for row in rows if row.estimated_answers),
        )
        yield Family(
            "stellwerk_estimated_answers_total",
            "counter",
            "Streams without usage whose output tokens were estimated.",
            LABELS,
            tuple((row.labels, row.estimated_answers) for row in rows if row.estimated_answers),
        )
        yield gauge("stellwerk_metric_rows", "Label combinations in use.", len(rows))

    def _row_of(self, trace: Trace, fairness_id: str | None) -> Row:
        """The slow way to a row: fold its labels, and remember where a request like this one finds it."""
        is_resolved = trace.target_model is not None or bool(trace.picked)
        models = self._models if is_resolved else self._unresolved
        labels = (
            models.fold(trace.public_model) if trace.public_model else "",
            models.fold(trace.target_model) if trace.target_model else "",
            self.tenant(fairness_id),
            str(trace.priority),
        )
        row = self._rows_by_labels.get(labels)
        if row is None:
            if len(self._rows_by_labels) >= MAX_ROWS:
                labels = self._folded(labels)
            row = self._rows_by_labels.setdefault(labels, Row(labels))
        key = (trace.public_model, trace.target_model, fairness_id, trace.priority)
        if OTHER not in labels and sum(len(part) for part in key[:3] if part is not None) <= _MAX_KEY_LENGTH:
            self._rows[key] = row
        return row

    def _folded(self, labels: Labels) -> Labels:
        """When all rows are taken: a configured model keeps a row for all tenants together, the rest shares one."""
        model, target, _, priority = labels
        if self._models.is_configured(model) and (target == model or self._models.is_configured(target)):
            return (model, target, OTHER, priority)
        return (OTHER, OTHER, OTHER, OTHER)

    def _first_pick(self, key: tuple[str | None, str]) -> None:
        if len(self._picked) >= MAX_PICKED:
            key = (OTHER, OTHER)
        self._picked[key] = self._picked.get(key, 0) + 1

    def _refused(self, row: Row, pool: str, reason: str) -> None:
        row.failed(_CODE_OF_REFUSAL.get(reason, "Internal"))
        refusal = (bounded(pool), bounded(reason))
        self._refusals[refusal] = self._refusals.get(refusal, 0) + 1

    def _rewritten(self, trace: Trace, source: str) -> None:
        kind, _, name = source.partition(" ")
        if kind != "InferenceModelRewrite":
            return
        key = (bounded(name), self._models.fold(trace.public_model or ""), self._models.fold(trace.target_model or ""))
        if key in self._rewrites or len(self._rewrites) < MAX_ROWS:
            self._rewrites[key] = self._rewrites.get(key, 0) + 1

    def _calibrate(self, row: Row, report: Report) -> None:
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


def _picked_labels(target: str | None, endpoint: str) -> Labels:
    """target_model_name, endpoint_name, namespace, port of an endpoint's key `namespace/name:port`."""
    namespace, slash, rest = endpoint.rpartition("/")
    name, colon, port = rest.rpartition(":")
    return (
        bounded(target or ""),
        bounded(name if colon else rest),
        bounded(namespace) if slash else "",
        port if colon else "",
    )
