"""What headers settle by themselves."""

import pytest

from stellwerk.exchange import request_head
from stellwerk.exchange.limits import BodyLimits
from stellwerk.model.reason import Reason
from tests.kit.exchanges import head


@pytest.mark.parametrize(
    ("headers", "method", "reason"),
    [
        ({}, "POST", None),
        ({"content-length": "100"}, "POST", None),
        ({"content-length": "101"}, "POST", Reason.BODY_TOO_LARGE),
        ({"content-length": "1" * 5000}, "POST", Reason.BODY_TOO_LARGE),
        ({"content-length": "-1"}, "POST", None),
        ({"content-length": "١٠٠٠"}, "POST", None),
        ({"upgrade": "websocket"}, "GET", Reason.UNSUPPORTED),
        ({"upgrade": " H2C "}, "GET", None),
        ({}, "CONNECT", Reason.UNSUPPORTED),
    ],
)
def test_what_cannot_be_served_is_known_before_its_body(
    headers: dict[str, str], method: str, reason: Reason | None
) -> None:
    refused = request_head.refusal(head("/x", method, headers), BodyLimits(max_body_bytes=100))
    assert (refused.reason if refused else None) is reason


def test_a_body_that_is_too_large_is_told_the_limit_and_its_flag() -> None:
    message = request_head.too_large(17, BodyLimits(max_body_bytes=16)).message
    assert "17 bytes" in message
    assert "16 bytes" in message
    assert "--max-body-bytes" in message


def test_a_refusal_quotes_no_more_of_a_header_than_it_needs() -> None:
    refused = request_head.refusal(head(headers={"upgrade": "x" * 10_000}), BodyLimits())
    assert refused is not None
    assert len(refused.message) < 200


def test_only_the_pickers_own_headers_are_hidden() -> None:
    assert request_head.control_headers(head()) == ()
    mixed = head(headers={"x-slo-ttft-ms": "1", "authorization": "Bearer", "cookie": "a", "x-llm-d-slo-tpot-ms": "2"})
    assert request_head.control_headers(mixed) == ("x-llm-d-slo-tpot-ms", "x-slo-ttft-ms")


@pytest.mark.parametrize(
    ("value", "steered"),
    [(None, None), ("", None), ("10.0.0.1", ("10.0.0.1",)), ("a:1, b:2,,", ("a:1", "b:2")), (",", ())],
)
def test_the_steering_header_is_a_list_of_addresses(value: str | None, steered: tuple[str, ...] | None) -> None:
    headers = {} if value is None else {"test-epp-endpoint-selection": value}
    assert request_head.steering(head(headers=headers)) == steered
