import pytest

from stellwerk.model.fleet import Fleet
from stellwerk.model.report import Report
from stellwerk.model.trace import Trace
from stellwerk.telemetry.aftermath import learn
from stellwerk.telemetry.health import HealthSettings
from stellwerk.telemetry.ledger import Entry
from tests.kit.fleet import endpoint

A, B, C = endpoint("a"), endpoint("b"), endpoint("c")


def states(report: Report, fleet: Fleet | None = None) -> str:
    """The first letters of the states of a, b, c after a report on an exchange that was sent to a, then b, then c."""
    first = Fleet([A, B, C])
    entry = Entry(first.members[0], 0, 0, Trace("r", 0.0, "chat"), (A, B, C), None)
    fleet = fleet or Fleet([A, B, C], first)
    learn(entry, report, fleet, 5.0, HealthSettings())
    return "".join(member.health.value[0] for member in fleet.members)


@pytest.mark.parametrize(
    ("served", "flags", "status", "after"),
    [
        (A.address, "", 200, "huu"),
        (A.address, "-", 404, "huu"),
        (A.address, "-", 503, "uuu"),
        (B.address, "", 200, "shu"),
        (C.address, "-", 200, "ssh"),
        (A.address, "UF", 503, "suu"),
        (B.address, "UF,URX", 503, "ssu"),
        (None, "UF", 503, "suu"),
        (A.address, "UC", 503, "suu"),
        (A.address, "DC", 0, "uuu"),
        (A.address, "UT", 504, "uuu"),
        (None, "", 0, "uuu"),
        ("10.9.9.9:1", "UF", 503, "suu"),
    ],
)
def test_reports_tell_who_was_tried_in_vain_and_who_answered(
    served: str | None, flags: str, status: int, after: str
) -> None:
    assert states(Report(status=status, served=served, flags=flags)) == after


def test_an_endpoint_that_was_replaced_learns_nothing() -> None:
    replaced = Fleet([endpoint("a", host="10.7.7.7"), B, C])
    assert states(Report(status=503, served=A.address, flags="UF"), replaced) == "uuu"
