"""Faults as people write them."""

import pytest

from stellwerk.sim.faults import MEANINGS, Fault, FaultError, Kind, fault, parse, parse_placed


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("wedge", Fault(Kind.WEDGE, 0.0)),
        ("slow", Fault(Kind.SLOW, 2.0)),
        ("slow=4", Fault(Kind.SLOW, 4.0)),
        ("error=503@0.2", Fault(Kind.ERROR, 503.0, 0.2)),
        ("error@0.2/10", Fault(Kind.ERROR, 500.0, 0.2, 10.0)),
        ("metrics-huge=1/0.5", Fault(Kind.METRICS_HUGE, 1.0, 1.0, 0.5)),
    ],
)
def test_a_fault_is_read(text: str, expected: Fault) -> None:
    assert parse(text) == expected


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("wegde", "did you mean 'wedge'"),
        ("", "cannot read"),
        ("slow=", "cannot read"),
        ("slow=fast", "value of fault 'slow=fast' is not a number: 'fast'"),
        ("slow=0", "factor of fault 'slow' is 0"),
        ("error=200", "status of fault 'error' is 200: it must be 400 to 599"),
        ("error@2", "rate of fault 'error' is 2"),
        ("hang=5", "takes no value"),
        ("hang/0", "must be more than 0"),
        ("slow=nan", "must be"),
    ],
)
def test_what_cannot_be_is_explained(text: str, words: str) -> None:
    with pytest.raises(FaultError, match=words.replace("(", r"\(")):
        parse(text)


def test_a_fault_is_placed_on_one_server_or_all() -> None:
    assert parse_placed("1:wedge", 3) == ((1,), fault("wedge"))
    assert parse_placed("all:slow=3", 3) == ((0, 1, 2), fault("slow", 3.0))


@pytest.mark.parametrize("text", ["wedge", "3:wedge", "-1:wedge", "x:wedge", "²:wedge"])
def test_a_server_that_is_not_there_is_refused(text: str) -> None:
    with pytest.raises(FaultError, match="server"):
        parse_placed(text, 3)


def test_every_kind_has_a_meaning_whose_default_is_allowed() -> None:
    assert MEANINGS.keys() == set(Kind)
    for kind in Kind:
        assert fault(kind.value).value == MEANINGS[kind].default
