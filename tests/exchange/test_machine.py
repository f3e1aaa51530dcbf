"""Playbooks: what the proxy and the engine say, and what the exchange wants done."""

from collections.abc import Callable

import pytest

from stellwerk.exchange.command import (
    Abort,
    Adjust,
    Commands,
    Continue,
    Extend,
    Finish,
    Forward,
    Mode,
    ReplaceBody,
    Reply,
    SendBody,
    Slot,
    Watch,
)
from stellwerk.exchange.machine import Exchange, Phase
from stellwerk.exchange.settings import ExchangeSettings
from stellwerk.model.catalog import Pool
from stellwerk.model.event import Ask, Finished, Prefilled, Released, TurnedAway, Used, Withdrawn
from stellwerk.model.outcome import Answered, Refused
from stellwerk.model.reason import Reason
from stellwerk.model.report import GAP_BOUNDS, Usage
from tests.kit.exchanges import (
    BODY,
    OK_EVENTS,
    OK_JSON,
    TICKET,
    exchange,
    foreign,
    forwarded,
    head,
    limits,
    own,
    picked,
    the_ask,
)

CONTINUE_REQUEST = (Continue(Slot.REQUEST_HEADERS),)
CONTINUE_RESPONSE = (Continue(Slot.RESPONSE_HEADERS),)
RENAMED = BODY.replace(b"public", b"served-by-us")


def reply_of(commands: Commands) -> Reply:
    """The one answer to the client among `commands`."""
    (reply,) = (command for command in commands if isinstance(command, Reply))
    return reply


class TestBufferedRequest:
    def test_headers_are_answered_at_once_and_the_body_gets_the_decision(self) -> None:
        one = exchange()
        assert one.request_headers(head(), False, 0.0) == CONTINUE_REQUEST
        ask = the_ask(one.request_body(BODY, True, 0.1))
        assert (ask.ticket, ask.request.model, ask.request.size_bytes) == (TICKET, "public", len(BODY))
        assert one.decided(picked(), 0.1) == (Forward(Slot.REQUEST_BODY, picked()),)
        assert one.response_headers(OK_EVENTS, False, 0.2) == CONTINUE_RESPONSE
        assert one.closed(0.9) == (Released(TICKET),)
        assert one.closed(1.0) == ()

    def test_the_answer_is_asked_for_where_objects_may_rename_the_model(self) -> None:
        assert exchange(own(renames_models=True)).request_headers(head(), False, 0.0) == (Watch(),)

    @pytest.mark.parametrize("name", ["x-llm-d-model-name-rewrite", "x-gateway-model-name-rewrite"])
    def test_the_answer_is_asked_for_where_a_header_renames_the_model(self, name: str) -> None:
        assert exchange().request_headers(head(headers={name: "other"}), False, 0.0) == (Watch(),)

    def test_a_foreign_proxy_shows_answers_as_it_likes(self) -> None:
        one = exchange(foreign(renames_models=True), Mode.BUFFERED, Mode.NONE)
        assert one.request_headers(head(), False, 0.0) == CONTINUE_REQUEST

    def test_a_body_whose_end_is_said_by_trailers_is_whole_all_the_same(self) -> None:
        one = exchange()
        one.request_headers(head(), False, 0.0)
        the_ask(one.request_body(BODY, False, 0.1))
        assert one.request_trailers(0.1) == ()
        assert one.decided(picked(), 0.2) == (
            Forward(Slot.REQUEST_BODY, picked()),
            Continue(Slot.REQUEST_TRAILERS),
        )

    def test_a_request_without_a_body_is_decided_on_the_headers(self) -> None:
        one = exchange()
        ask = the_ask(one.request_headers(head("/anything", "GET"), True, 0.0))
        assert ask.request.path == "/anything"
        assert one.decided(picked(None), 0.0) == (Forward(Slot.REQUEST_HEADERS, picked(None)),)

    def test_a_request_of_trailers_only_is_decided_on_the_trailers(self) -> None:
        one = exchange()
        one.request_headers(head("/anything", "GET"), False, 0.0)
        the_ask(one.request_trailers(0.0))
        assert one.decided(picked(None), 0.0) == (Forward(Slot.REQUEST_TRAILERS, picked(None)),)

    def test_a_body_without_headers_is_decided_all_the_same(self) -> None:
        one = exchange()
        the_ask(one.request_body(b"", True, 0.0))
        assert one.decided(picked(None), 0.0) == (Forward(Slot.REQUEST_BODY, picked(None)),)

    def test_only_a_new_model_name_replaces_the_body(self) -> None:
        one = exchange()
        one.request_headers(head(), False, 0.0)
        one.request_body(BODY, True, 0.0)
        decision = picked(target_model="served-by-us")
        assert one.decided(decision, 0.0) == (
            Forward(Slot.REQUEST_BODY, decision, body=RENAMED, content_length=len(RENAMED)),
        )

    def test_a_target_that_is_the_public_name_leaves_the_body_alone(self) -> None:
        one = exchange()
        one.request_headers(head(), False, 0.0)
        one.request_body(BODY, True, 0.0)
        decision = picked(target_model="public")
        assert one.decided(decision, 0.0) == (Forward(Slot.REQUEST_BODY, decision),)

    def test_a_body_that_names_no_model_is_given_the_target_and_the_answer_keeps_its_name(self) -> None:
        one = exchange(None, Mode.BUFFERED, Mode.STREAMED)
        one.request_headers(head(), False, 0.0)
        one.request_body(b'{"messages": []}', True, 0.0)
        decision = picked(None, target_model="served-by-us")
        body = b'{"model":"served-by-us","messages": []}'
        assert one.decided(decision, 0.0) == (
            Forward(Slot.REQUEST_BODY, decision, body=body, content_length=len(body)),
        )
        assert one.response_headers(OK_JSON, False, 1.0)[0] == Continue(Slot.RESPONSE_HEADERS)
        assert one.response_body(ANSWER, False, 1.0)[0] == Continue(Slot.RESPONSE_BODY)

    def test_the_body_of_a_question_about_a_model_is_left_alone(self) -> None:
        one = exchange()
        one.request_headers(head("/v1/models/public", "GET"), False, 0.0)
        one.request_body(b"{}", True, 0.0)
        decision = picked(target_model="served-by-us")
        assert one.decided(decision, 0.0) == (Forward(Slot.REQUEST_BODY, decision),)

    def test_headers_for_the_picker_are_hidden_from_model_servers_where_they_are(self) -> None:
        one = exchange()
        headers = {"x-gateway-inference-objective": "batch", "x-llm-d-inference-fairness-id": "me", "x-mine": "stays"}
        one.request_headers(head(headers=headers), False, 0.0)
        one.request_body(BODY, True, 0.0)
        (forward,) = one.decided(picked(), 0.0)
        assert isinstance(forward, Forward)
        assert forward.removed == ("x-gateway-inference-objective", "x-llm-d-inference-fairness-id")


class TestDuplexRequest:
    def test_nothing_is_answered_before_the_body_is_complete(self) -> None:
        one = exchange(foreign())
        assert one.request_headers(head(), False, 0.0) == ()
        assert one.request_body(BODY[:10], False, 0.1) == ()
        the_ask(one.request_body(BODY[10:], True, 0.2))
        assert one.decided(picked(), 0.2) == (
            Forward(Slot.REQUEST_HEADERS, picked()),
            SendBody(Slot.REQUEST_BODY, BODY, True),
        )

    def test_trailers_end_the_body_and_are_answered_last(self) -> None:
        one = exchange(foreign())
        one.request_headers(head(), False, 0.0)
        one.request_body(BODY, False, 0.1)
        the_ask(one.request_trailers(0.2))
        assert one.decided(picked(), 0.2) == (
            Forward(Slot.REQUEST_HEADERS, picked()),
            SendBody(Slot.REQUEST_BODY, BODY, False),
            Continue(Slot.REQUEST_TRAILERS),
        )

    def test_an_empty_body_is_one_empty_last_chunk(self) -> None:
        one = exchange(foreign())
        one.request_headers(head("/anything"), False, 0.0)
        the_ask(one.request_body(b"", True, 0.1))
        assert one.decided(picked(), 0.1) == (
            Forward(Slot.REQUEST_HEADERS, picked()),
            SendBody(Slot.REQUEST_BODY, b"", True),
        )

    def test_without_a_body_there_is_nothing_to_send_back(self) -> None:
        one = exchange(foreign())
        the_ask(one.request_headers(head("/anything", "GET"), True, 0.0))
        assert one.decided(picked(), 0.0) == (Forward(Slot.REQUEST_HEADERS, picked()),)

    def test_a_renamed_body_goes_back_with_its_new_length(self) -> None:
        one = exchange(foreign())
        one.request_headers(head(), False, 0.0)
        one.request_body(BODY, True, 0.1)
        decision = picked(target_model="served-by-us")
        assert one.decided(decision, 0.1) == (
            Forward(Slot.REQUEST_HEADERS, decision, content_length=len(RENAMED)),
            SendBody(Slot.REQUEST_BODY, RENAMED, True),
        )

    def test_a_body_that_names_no_model_goes_back_with_the_target(self) -> None:
        one = exchange(foreign())
        one.request_headers(head(), False, 0.0)
        one.request_body(b"{}", True, 0.1)
        decision = picked(None, target_model="x")
        assert one.decided(decision, 0.1) == (
            Forward(Slot.REQUEST_HEADERS, decision, content_length=13),
            SendBody(Slot.REQUEST_BODY, b'{"model":"x"}', True),
        )

    def test_the_body_limit_ends_the_request_while_it_arrives(self) -> None:
        one = exchange(foreign(limits=limits(max_body_bytes=100)))
        one.request_headers(head(), False, 0.0)
        assert one.request_body(b"x" * 100, False, 0.0) == ()
        assert one.buffered_bytes == 100
        reply = reply_of(one.request_body(b"x", False, 0.0))
        assert (reply.rendered.status, reply.details) == (413, "stellwerk_body_too_large")
        assert one.buffered_bytes == 0
        assert one.request_body(b"x", True, 0.0) == ()

    def test_a_body_before_its_headers_breaks_the_protocol(self) -> None:
        (abort,) = exchange(foreign()).request_body(b"x", True, 0.0)
        assert isinstance(abort, Abort)


class TestModesWithoutABody:
    @pytest.mark.parametrize("mode", [Mode.NONE, Mode.STREAMED])
    def test_headers_alone_decide_and_chunks_pass(self, mode: Mode) -> None:
        one = exchange(foreign(), mode, Mode.NONE)
        the_ask(one.request_headers(head(), False, 0.0))
        assert one.decided(picked(), 0.0) == (Forward(Slot.REQUEST_HEADERS, picked()),)
        assert one.request_body(b"x", False, 0.0) == (Continue(Slot.REQUEST_BODY),)
        assert one.request_body(b"", True, 0.0) == (Continue(Slot.REQUEST_BODY),)
        assert one.request_trailers(0.0) == (Continue(Slot.REQUEST_TRAILERS),)

    def test_a_chunk_after_the_last_one_breaks_the_protocol(self) -> None:
        one = exchange(foreign(), Mode.STREAMED, Mode.NONE)
        one.request_headers(head(), False, 0.0)
        one.decided(picked(), 0.0)
        one.request_body(b"x", True, 0.0)
        released, abort = one.request_body(b"x", True, 0.0)[-2:]
        assert released == Released(TICKET)
        assert isinstance(abort, Abort)

    def test_chunks_that_come_before_the_decision_are_answered_after_it(self) -> None:
        one = exchange(foreign(), Mode.STREAMED, Mode.NONE)
        the_ask(one.request_headers(head(), False, 0.0))
        assert one.request_body(b"x", False, 0.0) == ()
        assert one.request_body(b"x", True, 0.0) == ()
        assert one.decided(picked(), 0.0) == (
            Forward(Slot.REQUEST_HEADERS, picked()),
            Continue(Slot.REQUEST_BODY),
            Continue(Slot.REQUEST_BODY),
        )


class TestRefusals:
    @pytest.mark.parametrize("settings", [own(), foreign()], ids=["own", "foreign"])
    def test_the_engines_refusal_reaches_the_client_and_ends_the_conversation(self, settings: object) -> None:
        one = exchange(settings)  # type: ignore[arg-type]
        one.request_headers(head(), False, 0.0)
        one.request_body(BODY, True, 0.0)
        (reply,) = one.decided(Refused(Reason.SATURATED, "busy"), 0.0)
        assert isinstance(reply, Reply)
        assert (reply.rendered.status, reply.details) == (429, "stellwerk_saturated")
        assert one.phase is Phase.SILENT
        assert one.closed(1.0) == ()

    def test_an_answer_of_our_own_needs_no_server(self) -> None:
        one = exchange()
        the_ask(one.request_headers(head("/v1/models", "GET"), True, 0.0))
        reply = reply_of(one.decided(Answered(200, b'{"data":[]}'), 0.0))
        assert (reply.rendered.status, reply.rendered.body) == (200, b'{"data":[]}')
        assert ("content-type", "application/json") in reply.rendered.headers

    def test_a_head_request_is_answered_without_a_body(self) -> None:
        one = exchange()
        the_ask(one.request_headers(head("/anything", "HEAD"), True, 0.0))
        assert reply_of(one.decided(Refused(Reason.NO_ENDPOINTS, "none"), 0.0)).rendered.body == b""

    def test_a_malformed_body_is_refused_without_asking_and_the_engine_hears_of_it_after_the_client(self) -> None:
        one = exchange()
        one.request_headers(head(), False, 0.0)
        reply, turned_away = one.request_body(b"{", True, 0.0)
        assert isinstance(reply, Reply)
        assert reply.rendered.status == 400
        assert turned_away == TurnedAway(TICKET, Reason.MALFORMED_BODY)
        assert one.closed(1.0) == ()

    @pytest.mark.parametrize("settings", [own, foreign])
    def test_a_body_that_turns_out_too_large_is_told_to_the_engine(
        self, settings: Callable[..., ExchangeSettings]
    ) -> None:
        one = exchange(settings(limits=limits(max_body_bytes=10)))
        one.request_headers(head(), False, 0.0)
        reply, turned_away = one.request_body(b"x" * 11, False, 0.0)
        assert isinstance(reply, Reply)
        assert turned_away == TurnedAway(TICKET, Reason.BODY_TOO_LARGE)

    @pytest.mark.parametrize("settings", [own(), foreign()], ids=["own", "foreign"])
    @pytest.mark.parametrize(
        ("headers", "method", "status"),
        [
            ({"content-length": "16777217"}, "POST", 413),
            ({"content-length": "9" * 400}, "POST", 413),
            ({"upgrade": "websocket"}, "GET", 501),
            ({}, "CONNECT", 501),
        ],
    )
    def test_what_the_headers_settle_is_answered_at_the_headers(
        self, settings: object, headers: dict[str, str], method: str, status: int
    ) -> None:
        one = exchange(settings)  # type: ignore[arg-type]
        reply, turned_away = one.request_headers(head("/x", method, headers), False, 0.0)
        assert isinstance(reply, Reply)
        assert isinstance(turned_away, TurnedAway)
        assert reply.rendered.status == turned_away.reason.rule.status == status

    def test_an_offer_of_http2_is_no_upgrade(self) -> None:
        assert exchange().request_headers(head(headers={"upgrade": "h2c"}), False, 0.0) == CONTINUE_REQUEST

    def test_a_length_that_is_no_number_is_the_proxys_business(self) -> None:
        assert exchange().request_headers(head(headers={"content-length": "²"}), False, 0.0) == CONTINUE_REQUEST


class TestTime:
    def test_a_late_decision_asks_the_proxy_for_patience_once(self) -> None:
        one = exchange(own(decision_seconds=20.0))
        one.request_headers(head(), False, 0.0)
        one.request_body(BODY, True, 0.0)
        assert one.undecided() == (Extend(21.0),)
        assert one.undecided() == ()

    def test_no_more_patience_is_asked_for_than_the_proxy_allows(self) -> None:
        one = exchange(own(decision_seconds=500.0))
        one.request_headers(head(), False, 0.0)
        one.request_body(BODY, True, 0.0)
        assert one.undecided() == (Extend(120.0),)

    def test_a_duplex_proxy_has_no_timer_to_extend(self) -> None:
        one = exchange(foreign())
        one.request_headers(head(), False, 0.0)
        one.request_body(BODY, True, 0.0)
        assert one.undecided() == ()

    @pytest.mark.parametrize("settings", [own(), foreign()], ids=["own", "foreign"])
    def test_a_decision_that_does_not_come_is_a_typed_504(self, settings: object) -> None:
        one = exchange(settings)  # type: ignore[arg-type]
        one.request_headers(head(), False, 0.0)
        one.request_body(BODY, True, 1.0)
        assert one.next_deadline == 6.0
        assert one.expire(5.9) == ()
        withdrawn, reply, turned_away = one.expire(6.0)
        assert withdrawn == Withdrawn(TICKET)
        assert turned_away == TurnedAway(TICKET, Reason.DEADLINE)
        assert isinstance(reply, Reply)
        assert reply.rendered.status == 504
        assert one.decided(picked(), 6.1) == (Released(TICKET),)
        assert one.closed(7.0) == ()

    def test_what_is_answered_has_no_deadline_any_more(self) -> None:
        assert forwarded().next_deadline is None

    def test_an_upload_that_stalls_is_a_typed_504(self) -> None:
        one = exchange(foreign())
        one.request_headers(head(), False, 0.0)
        assert one.next_deadline == 15.0
        one.request_body(b"x", False, 10.0)
        assert one.next_deadline == 25.0
        commands = one.expire(25.0)
        assert reply_of(commands).rendered.status == 504
        assert commands[1:] == (TurnedAway(TICKET, Reason.DEADLINE),)
        assert one.buffered_bytes == 0

    def test_an_upload_that_trickles_ends_all_the_same(self) -> None:
        one = exchange(foreign(upload_seconds=20.0))
        one.request_headers(head(), False, 0.0)
        one.request_body(b"x", False, 14.0)
        assert one.next_deadline == 20.0

    def test_a_buffered_upload_is_the_proxys_to_bound(self) -> None:
        one = exchange()
        one.request_headers(head(), False, 0.0)
        assert one.next_deadline is None


class TestLeaving:
    def test_a_client_that_leaves_before_the_decision_withdraws_its_question(self) -> None:
        one = exchange()
        one.request_headers(head(), False, 0.0)
        one.request_body(BODY, True, 0.0)
        assert one.closed(1.0) == (Withdrawn(TICKET),)

    def test_a_decision_that_crosses_a_client_that_left_is_given_back(self) -> None:
        one = exchange()
        one.request_headers(head(), False, 0.0)
        one.request_body(BODY, True, 0.0)
        one.closed(1.0)
        assert one.decided(picked(), 1.0) == (Released(TICKET),)
        assert one.decided(Refused(Reason.EXPIRED, "late"), 1.0) == ()

    def test_a_proxy_that_half_closes_still_gets_its_answer(self) -> None:
        one = exchange()
        one.request_headers(head(), False, 0.0)
        one.request_body(BODY, True, 0.0)
        assert one.half_closed(0.0) == ()
        assert one.decided(picked(), 0.1) == (Forward(Slot.REQUEST_BODY, picked()), Finish())

    def test_a_proxy_that_half_closes_after_the_decision_is_done(self) -> None:
        one = forwarded()
        assert one.half_closed(0.0) == (Finish(),)
        assert one.closed(0.1) == (Released(TICKET),)

    def test_a_local_reply_of_the_proxy_withdraws_the_question(self) -> None:
        one = exchange()
        one.request_headers(head(), False, 0.0)
        one.request_body(BODY, True, 0.0)
        commands = one.response_headers({":status": "504"}, False, 1.0)
        assert commands == (Withdrawn(TICKET), Continue(Slot.RESPONSE_HEADERS))
        assert one.phase is Phase.PASSED
        assert one.next_deadline is None

    def test_a_response_that_comes_first_is_answered(self) -> None:
        one = exchange()
        assert one.response_headers({":status": "413"}, False, 0.0) == CONTINUE_RESPONSE
        assert one.request_body(b"x", True, 0.0) == ()

    def test_a_bug_gives_back_what_is_reserved_and_tells_the_client(self) -> None:
        one = forwarded()
        released, reply, turned_away = one.fail(1.0)
        assert released == Released(TICKET)
        assert isinstance(reply, Reply)
        assert reply.rendered.status == 500
        assert turned_away == TurnedAway(TICKET, Reason.INTERNAL, was_decided=True)
        assert one.fail(1.0) == ()

    @pytest.mark.parametrize(
        ("settings", "status", "is_told"),
        [(own(), "200", True), (own(), "500", True), (foreign(), "200", False), (foreign(), "500", True)],
    )
    def test_a_bug_in_an_answer_is_told_to_the_engine_where_no_report_says_that_the_exchange_failed(
        self, settings: object, status: str, is_told: bool
    ) -> None:
        one = forwarded(settings)  # type: ignore[arg-type]
        one.response_headers({":status": status}, False, 0.5)
        turned_away = [command for command in one.fail(1.0) if isinstance(command, TurnedAway)]
        assert turned_away == ([] if is_told else [TurnedAway(TICKET, Reason.INTERNAL, was_decided=True)])


class TestHints:
    def asked(self, one: Exchange, hints: list[tuple[str, ...] | None]) -> Ask:
        if hints[0] is not None:
            one.hint(hints[0])
        one.request_headers(head(), False, 0.0)
        if hints[1] is not None:
            one.hint(hints[1])
        return the_ask(one.request_body(BODY, True, 0.0))

    @pytest.mark.parametrize("settings", [own(), foreign()], ids=["own", "foreign"])
    @pytest.mark.parametrize(
        ("hints", "subset"),
        [
            ([None, None], None),
            ([("10.0.0.1:80",), None], ("10.0.0.1:80",)),
            ([None, ("10.0.0.1:80",)], ("10.0.0.1:80",)),
            ([("10.0.0.1:80",), ("10.0.0.2:80",)], ("10.0.0.2:80",)),
            ([(), None], ()),
        ],
    )
    def test_a_hint_on_any_message_counts(self, settings: object, hints: object, subset: object) -> None:
        assert self.asked(exchange(settings), hints).request.subset == subset  # type: ignore[arg-type]

    def test_the_steering_header_outranks_the_hint_where_it_is_accepted(self) -> None:
        steered = head(headers={"test-epp-endpoint-selection": "10.0.0.3, 10.0.0.4:80 ,"})
        for accepts, subset in ((True, ("10.0.0.3", "10.0.0.4:80")), (False, ("10.0.0.1:80",))):
            one = exchange(foreign(accepts_steering=accepts))
            one.hint(("10.0.0.9:80",))
            one.request_headers(steered, False, 0.0)
            one.hint(("10.0.0.1:80",))
            assert the_ask(one.request_body(BODY, True, 0.0)).request.subset == subset

    def test_the_pool_of_a_foreign_gateway_is_told_to_the_engine(self) -> None:
        assert (
            self.asked(exchange(foreign(pool_hint="default/llama")), [None, None]).request.pool_hint == "default/llama"
        )


ANSWER = b'{"id": "1", "model": "served-by-us", "usage": {"prompt_tokens": 3, "completion_tokens": 5}}'
RESTORED = ANSWER.replace(b"served-by-us", b"public")
EVENTS = (
    b'data: {"model": "served-by-us", "choices": []}\n\n'
    b'data: {"model": "served-by-us", "usage": {"prompt_tokens": 3, "completion_tokens": 5}}\n\ndata: [DONE]\n\n'
)


def renamed(restores: bool | None = None) -> Exchange:
    """An exchange whose model name was rewritten."""
    pool = Pool(name="default/llama", restores_streamed_model=restores)
    return forwarded(decision=picked(target_model="served-by-us", pool=pool))


class TestOwnAnswer:
    def test_a_small_json_answer_gets_the_public_name_back(self) -> None:
        one = renamed()
        headers = {**OK_JSON, "content-length": str(len(ANSWER))}
        assert one.response_headers(headers, False, 1.0) == (Adjust(Mode.BUFFERED), Prefilled(TICKET))
        assert one.response_body(ANSWER, True, 1.0) == (
            ReplaceBody(RESTORED, True),
            Used(TICKET, Usage(3, None, 5)),
            Released(TICKET),
        )
        assert one.closed(1.1) == ()

    @pytest.mark.parametrize("length", [{}, {"content-length": "65537"}])
    def test_a_longer_json_answer_passes_in_chunks_when_its_name_has_to_be_restored(
        self, length: dict[str, str]
    ) -> None:
        one = renamed()
        adjust = one.response_headers({**OK_JSON, **length}, False, 1.0)[0]
        assert adjust == Adjust(Mode.STREAMED, removes_content_length=bool(length))
        first = one.response_body(ANSWER[:20], False, 1.0)[0]
        second = one.response_body(ANSWER[20:], False, 1.0)[0]
        last = one.response_body(b"", True, 1.0)[0]
        passed = b"".join(
            command.chunk if isinstance(command, ReplaceBody) else original
            for command, original in ((first, ANSWER[:20]), (second, ANSWER[20:]), (last, b""))
        )
        assert passed == RESTORED

    @pytest.mark.parametrize(
        "headers",
        [
            {**OK_JSON, "content-length": "100"},
            {**OK_JSON, "content-length": "65537"},
            OK_JSON,
            {**OK_JSON, "content-length": "9" * 30},
            {**OK_JSON, "content-length": "100", "content-encoding": "gzip"},
            {**OK_JSON, ":status": "503", "content-length": "100"},
            {**OK_JSON, ":status": "abc", "content-length": "100"},
            {":status": "200", "content-type": "text/html", "content-length": "100"},
            {":status": "200", "content-length": "100"},
            OK_EVENTS,
            {},
        ],
    )
    def test_other_answers_stay_with_the_proxy(self, headers: dict[str, str]) -> None:
        assert Continue(Slot.RESPONSE_HEADERS) in forwarded().response_headers(headers, False, 1.0)

    def test_an_error_is_credited_to_no_server(self) -> None:
        error = {":status": "503", "content-type": "application/json"}
        assert forwarded().response_headers(error, False, 1.0) == CONTINUE_RESPONSE
        one = exchange(foreign(), Mode.BUFFERED, Mode.DUPLEX)
        one.request_headers(head(), False, 0.0)
        one.request_body(BODY, True, 0.0)
        one.decided(picked(), 0.0)
        one.response_headers(error, False, 1.0)
        _, finished, _ = one.response_body(b"{}", True, 1.0)
        assert isinstance(finished, Finished)
        assert (finished.report.status, finished.report.served) == (503, None)

    def test_streams_pass_only_where_the_pool_says_so(self) -> None:
        assert renamed(restores=None).response_headers(OK_EVENTS, False, 1.0) == CONTINUE_RESPONSE
        assert renamed(restores=False).response_headers(OK_EVENTS, False, 1.0) == CONTINUE_RESPONSE
        assert forwarded().response_headers(OK_EVENTS, False, 1.0) == CONTINUE_RESPONSE
        one = renamed(restores=True)
        assert one.response_headers(OK_EVENTS, False, 1.0) == (Adjust(Mode.STREAMED),)
        (replaced, prefilled) = reversed(one.response_body(EVENTS, False, 1.0)[:2])
        assert {type(replaced), type(prefilled)} == {ReplaceBody, Prefilled}

    def test_an_answer_without_a_body_is_over_with_its_headers(self) -> None:
        one = forwarded()
        assert one.response_headers({":status": "204"}, True, 1.0) == (*CONTINUE_RESPONSE, Released(TICKET))


class TestDuplexAnswer:
    def flowing(self, restores: bool | None = None, target: str | None = None) -> Exchange:
        one = exchange(foreign())
        one.request_headers(head(), False, 0.0)
        one.request_body(BODY, True, 0.0)
        one.decided(picked(target_model=target, pool=Pool("p", restores_streamed_model=restores)), 0.0)
        return one

    def test_every_chunk_goes_back_and_the_end_is_reported(self) -> None:
        one = self.flowing()
        one.serve("127.0.0.1:9002")
        assert one.response_headers(OK_EVENTS, False, 1.0) == CONTINUE_RESPONSE
        assert one.response_body(EVENTS[:50], False, 2.0) == (
            SendBody(Slot.RESPONSE_BODY, EVENTS[:50], False),
            Prefilled(TICKET),
        )
        assert one.response_body(EVENTS[50:], False, 3.0) == (SendBody(Slot.RESPONSE_BODY, EVENTS[50:], False),)
        end, finished, released = one.response_body(b"", True, 4.0)
        assert end == SendBody(Slot.RESPONSE_BODY, b"", True)
        assert released == Released(TICKET)
        assert isinstance(finished, Finished)
        report = finished.report
        assert (report.status, report.served, report.is_stream) == (200, "127.0.0.1:9002", True)
        assert (report.ttft_seconds, report.duration_seconds) == (2.0, 4.0)
        assert (report.request_bytes, report.response_bytes) == (len(BODY), len(EVENTS))
        assert report.usage == Usage(3, None, 5)
        assert report.gaps is not None
        assert (sum(report.gaps.counts), report.gaps.counts[GAP_BOUNDS.index(1.0)], report.gaps.seconds) == (1, 1, 1.0)
        assert one.closed(5.0) == ()

    def test_a_client_that_leaves_in_the_middle_of_a_stream_still_releases_its_endpoint(self) -> None:
        one = self.flowing()
        one.response_headers(OK_EVENTS, False, 1.0)
        one.response_body(EVENTS[:50], False, 2.0)
        finished, released = one.closed(3.0)
        assert isinstance(finished, Finished)
        assert released == Released(TICKET)

    def test_a_json_answer_in_chunks_tells_its_token_counts(self) -> None:
        one = self.flowing()
        one.response_headers(OK_JSON, False, 1.0)
        one.response_body(ANSWER[:30], False, 1.0)
        finished = one.response_body(ANSWER[30:], True, 1.0)[-2]
        assert isinstance(finished, Finished)
        assert finished.report.usage == Usage(3, None, 5)
        assert finished.report.gaps is None

    @pytest.mark.parametrize(("headers", "whole"), [(OK_JSON, ANSWER), (OK_EVENTS, EVENTS)], ids=["json", "events"])
    def test_the_public_name_comes_back_at_every_cut(self, headers: dict[str, str], whole: bytes) -> None:
        for cut in range(len(whole)):
            one = self.flowing(target="served-by-us")
            assert one.response_headers({**headers, "content-length": "9"}, False, 1.0)[0] == Adjust(
                removes_content_length=True
            )
            commands = one.response_body(whole[:cut], False, 1.0) + one.response_body(whole[cut:], True, 1.0)
            back = b"".join([bytes(command.chunk) for command in commands if isinstance(command, SendBody)])
            assert back == whole.replace(b"served-by-us", b"public")

    @pytest.mark.parametrize(("restores", "target"), [(False, "served-by-us"), (None, None), (True, None)])
    def test_a_stream_whose_name_is_unchanged_or_may_leak_passes_uncopied(
        self, restores: bool | None, target: str | None
    ) -> None:
        one = self.flowing(restores, target)
        assert one.response_headers({**OK_EVENTS, "content-length": "9"}, False, 1.0) == CONTINUE_RESPONSE
        for chunk in (EVENTS[:20], EVENTS[20:50]):
            sent = one.response_body(chunk, False, 1.0)[0]
            assert isinstance(sent, SendBody)
            assert sent.chunk is chunk

    def test_what_is_held_back_goes_out_before_the_trailers(self) -> None:
        one = self.flowing(target="served-by-us")
        one.response_headers(OK_EVENTS, False, 1.0)
        cut = EVENTS[:30]
        before = one.response_body(cut, False, 1.0) + one.response_trailers(1.0)
        back = b"".join([bytes(command.chunk) for command in before if isinstance(command, SendBody)])
        assert back == cut
        assert [type(command) for command in before][-3:] == [Continue, Finished, Released]
        assert not any(command.is_last for command in before if isinstance(command, SendBody))

    def test_a_large_chunk_goes_back_in_pieces(self) -> None:
        one = self.flowing()
        one.response_headers(OK_EVENTS, False, 1.0)
        sent = [one for one in one.response_body(b"x" * 124_001, True, 1.0) if isinstance(one, SendBody)]
        assert [(len(piece.chunk), piece.is_last) for piece in sent] == [(62_000, False), (62_000, False), (1, True)]

    def test_conformance_names_the_server(self) -> None:
        one = exchange(foreign(names_served=True), Mode.NONE, Mode.NONE)
        one.serve("10.0.0.1:3000")
        assert one.response_headers(OK_JSON, False, 0.0) == (Adjust(served="10.0.0.1:3000"),)


class TestOtherAnswerModes:
    def test_a_buffered_answer_is_answered_in_one(self) -> None:
        one = exchange(foreign(), Mode.BUFFERED, Mode.BUFFERED)
        one.request_headers(head(), False, 0.0)
        one.request_body(BODY, True, 0.0)
        one.decided(picked(target_model="served-by-us"), 0.0)
        assert one.response_headers(OK_JSON, False, 1.0)[0] == Continue(Slot.RESPONSE_HEADERS)
        assert one.response_body(ANSWER, False, 1.0)[0] == ReplaceBody(RESTORED, True)

    def test_a_body_of_which_no_headers_were_seen_passes(self) -> None:
        one = exchange(foreign(), Mode.BUFFERED, Mode.STREAMED)
        assert one.response_body(b"x", False, 0.0) == (Continue(Slot.RESPONSE_BODY),)
        assert one.response_body(b"", True, 0.0) == (Continue(Slot.RESPONSE_BODY),)


class TestBrokenOrder:
    @pytest.mark.parametrize("again", ["headers", "body", "trailers"])
    def test_what_was_said_already_ends_the_conversation_and_releases(self, again: str) -> None:
        one = forwarded()
        one.request_trailers(0.0)
        commands = {
            "headers": lambda: one.request_headers(head(), False, 0.0),
            "body": lambda: one.request_body(b"x", True, 0.0),
            "trailers": lambda: one.request_trailers(0.0),
        }[again]()
        released, abort = commands
        assert released == Released(TICKET)
        assert isinstance(abort, Abort)
        assert one.closed(1.0) == ()
