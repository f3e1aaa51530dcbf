"""What is in flight by endpoint and tenant, read from the ledger when the page is asked for: requests pay nothing.

Names and labels are those of the reference's `inflight-load-producer`.
"""

from collections.abc import Callable, Iterable, Iterator

from stellwerk.telemetry.labels import OTHER, bounded
from stellwerk.telemetry.ledger import Entry
from stellwerk.telemetry.render import Family

MAX_ROWS = 10_000
LABELS = ("endpoint_name", "namespace", "producer_name", "fairness_id", "priority")
PRODUCER = "inflight-load-producer"


def inflight_families(entries: Iterable[Entry], tenant: Callable[[str | None], str]) -> Iterator[Family]:
    """`tenant` bounds the number of fairness ids. An endpoint is named as upstream does, `server-rank-0`."""
    rows: dict[tuple[str, ...], list[int]] = {}
    for entry in entries:
        endpoint = entry.endpoints[0]
        name = f"{endpoint.server}-rank-{endpoint.rank}"
        key = (name, endpoint.namespace, tenant(entry.fairness_id), str(entry.trace.priority))
        if key not in rows and len(rows) >= MAX_ROWS:
            key = (OTHER, OTHER, OTHER, OTHER)
        row = rows.setdefault(key, [0, 0])
        row[0] += 1
        row[1] += entry.prefill_tokens + entry.output_tokens
    for index, (what, help) in enumerate(
        (("requests", "Requests in flight to an endpoint."), ("tokens", "Estimated tokens in flight to an endpoint."))
    ):
        counted = (
            ((bounded(name), namespace, PRODUCER, fairness_id, priority), row[index])
            for (name, namespace, fairness_id, priority), row in rows.items()
        )
        yield Family(f"llm_d_epp_inflight_{what}", "gauge", help, LABELS, tuple(counted))
