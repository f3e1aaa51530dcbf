"""The reference picker's metrics of its ext_proc streams, and of its own work on requests and answers."""

from collections.abc import Iterator

from stellwerk.edge.extproc.settings import Counts
from stellwerk.telemetry.render import Family, gauge


def families(counts: Counts) -> Iterator[Family]:
    """As `counts` stands now."""
    yield gauge("llm_d_epp_extproc_streams_inflight", "ext_proc streams that are open.", counts.open)
    yield Family(
        "llm_d_epp_extproc_streams_total",
        "counter",
        "ext_proc streams that are over, by gRPC code; Canceled: the proxy ended them.",
        ("code",),
        tuple(((status.shown,), count) for status, count in counts.ended.items()),
    )
    for name, help, histogram in (
        ("extproc_stream_duration_seconds", "How long ext_proc streams were open.", counts.stream_seconds),
        ("scheduler_e2e_duration_seconds", "Time for one scheduling decision.", counts.scheduling_seconds),
        (
            "request_processing_duration_seconds",
            "From the beginning of a request to its decision, its upload included.",
            counts.request_seconds,
        ),
        (
            "response_processing_duration_seconds",
            "Work on one answer, over all its messages; of answers that pass the picker.",
            counts.answer_seconds,
        ),
    ):
        yield Family(f"llm_d_epp_{name}", "histogram", help, (), (((), histogram),))
