"""What the end of an exchange tells about the endpoints that it was sent to.

Envoy walks the picker's list in order, so whoever stands before the endpoint that answered was tried in vain.
"""

from stellwerk.model.fleet import Fleet, Member
from stellwerk.model.report import Report
from stellwerk.telemetry import health
from stellwerk.telemetry.health import HealthSettings
from stellwerk.telemetry.ledger import Entry

NO_FLAGS = frozenset({"", "-"})
_NOT_CONNECTED = frozenset({"UF", "URX"})
_BROKEN = frozenset({"UC", "UR"})


def learn(entry: Entry, report: Report, fleet: Fleet, now: float, settings: HealthSettings) -> list[Member]:
    """The members whose health changed. An endpoint that left, or whose address is another's now, learns nothing."""
    if report.served == entry.member.address and report.flags in NO_FLAGS and entry.member.row >= 0:
        return [entry.member] if _is_answer(report) and health.answered(entry.member, now) else []
    flags = set(report.flags.split(",")) - NO_FLAGS
    addresses = [endpoint.address for endpoint in entry.endpoints]
    tried = addresses.index(report.served) if report.served in addresses else 0
    changed = []
    for place in range(tried + 1):
        member = fleet.by_key.get(entry.endpoints[place].key)
        if member is None or member.address != addresses[place]:
            continue
        is_changed = False
        if not flags.isdisjoint(_NOT_CONNECTED):
            is_changed = health.refused(member)
        elif place < tried or not flags.isdisjoint(_BROKEN):
            is_changed = health.broke(member, now, settings)
        elif report.served is not None and not flags and _is_answer(report):
            is_changed = health.answered(member, now)
        if is_changed:
            changed.append(member)
    return changed


def _is_answer(report: Report) -> bool:
    """Whether a server spoke for certain: an error from 500 on may have been made on the way."""
    return 0 < report.status < 500
