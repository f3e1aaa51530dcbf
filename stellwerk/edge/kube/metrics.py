"""The metrics of following an API server, by kind."""

from collections.abc import Iterable, Iterator

from stellwerk.edge.kube.lease import Election
from stellwerk.edge.kube.reflector import Reflector
from stellwerk.telemetry.render import Family, counter, gauge

_COUNTS = (
    ("lists", "Lists asked for."),
    ("watches", "Watches asked for."),
    ("events", "Watch events received."),
    ("errors", "Lists and watches that failed."),
    ("expired", "Times that the API server no longer knew our version (410)."),
    ("stale_lists", "Lists refused because they were older than what was seen."),
)


def families(reflectors: Iterable[Reflector]) -> Iterator[Family]:
    """Several reflectors of one kind (Pods of several pools) are one row: the oldest age, the sums of the rest."""
    by_kind: dict[str, list[Reflector]] = {}
    for reflector in reflectors:
        by_kind.setdefault(str(reflector.resource), []).append(reflector)
    kinds = sorted(by_kind.items())
    yield Family(
        "stellwerk_kube_age_seconds",
        "gauge",
        "How old the copy of the API server's objects may be: 0 while it is watched and the server answers.",
        ("resource",),
        tuple(((kind,), max(one.age_seconds for one in members)) for kind, members in kinds),
    )
    yield Family(
        "stellwerk_kube_objects",
        "gauge",
        "Objects in the copy.",
        ("resource",),
        tuple(((kind,), sum(len(one.objects) for one in members)) for kind, members in kinds),
    )
    for name, text in _COUNTS:
        rows = tuple(((kind,), sum(getattr(one.counts, name) for one in members)) for kind, members in kinds)
        yield Family(f"stellwerk_kube_{name}_total", "counter", text, ("resource",), rows)


def election_families(election: Election) -> Iterator[Family]:
    """Who leads, and how renewing goes."""
    yield gauge("stellwerk_leader", "1 while this replica leads.", election.is_leader)
    yield counter(
        "stellwerk_leader_renewals_total", "Times that the lease was acquired or renewed.", election.counts.renewals
    )
    yield counter("stellwerk_leader_failures_total", "Attempts at the lease that failed.", election.counts.failures)
    yield counter("stellwerk_leader_changes_total", "Times that leading began or ended.", election.counts.changes)
