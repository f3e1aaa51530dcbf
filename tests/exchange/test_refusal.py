"""What a client reads when the gateway says no."""

import json

import pytest

from stellwerk.exchange.refusal import render, render_answer
from stellwerk.model.outcome import Refused
from stellwerk.model.reason import Reason
from stellwerk.model.request import Api


@pytest.mark.parametrize("reason", Reason)
@pytest.mark.parametrize("api", Api)
def test_every_reason_has_a_typed_answer_for_every_api(reason: Reason, api: Api) -> None:
    rendered = render(Refused(reason, "why", "model"), api, "request-1")
    headers = dict(rendered.headers)
    rule = reason.rule
    assert rendered.status == rule.status
    assert headers["content-type"] == "application/json"
    assert headers["x-request-id"] == "request-1"
    assert headers.get("x-llm-d-request-dropped-reason") == rule.dropped_reason
    document = json.loads(rendered.body)
    if api in (Api.MESSAGES, Api.COUNT_TOKENS):
        error = {"type": rule.anthropic_type, "message": "why"}
        assert document == {"type": "error", "error": error, "request_id": "request-1"}
    else:
        error = {"message": "why", "type": rule.openai_type, "param": "model", "code": reason.value}
        assert document == {"error": error}


@pytest.mark.parametrize("reason", [reason for reason in Reason if reason.rule.status in (429, 503)])
def test_429_and_503_say_when_to_come_back(reason: Reason) -> None:
    headers = dict(render(Refused(reason, "why"), Api.CHAT, "r").headers)
    assert reason is Reason.WITHDRAWN or int(headers["retry-after"]) > 0
    assert dict(render(Refused(reason, "why", None, 30), Api.CHAT, "r").headers)["retry-after"] == "30"


def test_a_message_that_is_no_unicode_is_still_json() -> None:
    body = render(Refused(Reason.UNKNOWN_MODEL, 'no "\ud800"'), Api.CHAT, "r").body
    assert json.loads(body)["error"]["message"] == 'no "?"'


def test_a_request_without_an_id_gets_no_empty_header() -> None:
    assert "x-request-id" not in dict(render(Refused(Reason.INTERNAL, "why"), Api.CHAT, "").headers)


def test_an_answer_of_the_gateway_is_json() -> None:
    rendered = render_answer(200, b"{}", "r")
    assert (rendered.status, rendered.body, dict(rendered.headers)["content-type"]) == (200, b"{}", "application/json")
