"""The table of refusals: every reason has a row, and the row is one that clients understand."""

import pytest

from stellwerk.model.reason import RULES, Reason


@pytest.mark.parametrize("reason", Reason)
def test_every_reason_has_a_row_with_an_error_status(reason: Reason) -> None:
    assert 400 <= reason.rule.status < 600
    assert reason.rule.openai_type
    assert reason.rule.anthropic_type


def test_no_row_is_without_a_reason() -> None:
    assert set(RULES) == set(Reason)


@pytest.mark.parametrize("reason", [reason for reason in Reason if reason.rule.status == 429])
def test_contended_capacity_says_when_to_come_back_and_why_it_was_dropped(reason: Reason) -> None:
    assert reason.rule.retry_after_seconds
    assert reason.rule.dropped_reason in ("rejected-saturated", "rejected-ttl-expired")


def test_codes_are_unique() -> None:
    assert len({reason.value for reason in Reason}) == len(Reason)
