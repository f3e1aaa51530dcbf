import pytest

from stellwerk.exchange.body import read
from stellwerk.exchange.head import Head
from stellwerk.exchange.limits import BodyLimits
from stellwerk.model.outcome import Refused
from stellwerk.model.reason import Reason
from stellwerk.model.request import Api, Request
from tests.kit.bodies import FORM, form, part, reading, refusal, request

JSON_APIS = [api for api in Api if api not in (Api.MODELS, Api.MODEL, Api.OTHER)]


def test_a_request_carries_what_its_head_says() -> None:
    head = Head("POST", "/v1/chat/completions?x", {}, "id-1", 12.5)
    found = read(head, Api.CHAT, b'{"model":"llama"}', BodyLimits())

    assert found == Request(
        id="id-1",
        api=Api.CHAT,
        method="POST",
        path="/v1/chat/completions?x",
        received_at=12.5,
        model="llama",
        size_bytes=17,
    )


@pytest.mark.parametrize("api", JSON_APIS)
def test_every_known_api_has_a_model_a_stream_flag_and_a_salt(api: Api) -> None:
    found = request(b'{"stream":true,"model":"llama","cache_salt":"s"}', api)

    assert (found.model, found.is_stream, found.cache_salt) == ("llama", True, b'"s"')


@pytest.mark.parametrize("body", [b"{}", b'{"model":null}', b'{"model":"a","model":null}'])
def test_a_missing_model_is_left_to_the_engine(body: bytes) -> None:
    assert request(body).model is None


def test_the_last_of_several_models_counts_as_in_the_servers_parsers() -> None:
    assert request(b'{"model":"a","mod\\u0065l":"b"}').model == "b"


@pytest.mark.parametrize(
    ("spelling", "is_stream"),
    [("true", True), ("false", False), ("null", False), ("1", True), ("0", False), ('"true"', True), ("[1]", False)],
)
def test_the_stream_flag_is_read_as_lenient_servers_do(spelling: str, is_stream: bool) -> None:
    assert request(f'{{"stream":{spelling}}}'.encode()).is_stream is is_stream


@pytest.mark.parametrize("path", ["/x", "/v1/responses/r1"])
def test_a_body_of_an_unknown_path_is_not_looked_into(path: str) -> None:
    found = reading(b'{"model":', Api.OTHER, path=path)

    assert isinstance(found, Request)
    assert (found.model, found.size_bytes, found.prompts) == (None, 9, ())


def test_the_model_of_a_question_about_it_is_in_the_path() -> None:
    found = reading(b"", Api.MODEL, path="/v1/models/meta%2Fllama/3?x")

    assert isinstance(found, Request)
    assert found.model == "meta/llama/3"


@pytest.mark.parametrize(
    ("body", "message", "param"),
    [
        (b"", "the request has no body: send a JSON object", None),
        (b" ", "the body is not valid JSON: it ends too early, or within an escape", None),
        (b"{", "the body is not valid JSON: it ends too early, or within an escape", None),
        (b'{"a":secret}', "the body is not valid JSON: invalid character (byte 5)", None),
        (b'{"a":1} secret', "the body is not valid JSON: trailing characters (byte 9)", None),
        (b'{"a":"\0"}', "the body is not valid JSON: invalid character (byte 6)", None),
        (b'{"a":NaN}', "the body is not valid JSON: invalid character (byte 5)", None),
        (b'{"a":"\\ud800', "the body is not valid JSON: it ends too early, or within an escape", None),
        (b'{"a":"\\ud800", secret}', "the body is not valid JSON: object keys must be strings (byte 15)", None),
        (b'{"a":"\\ud800","model":7}', "model is of type int: send a string", "model"),
        (b'{"a":"\\ud800","model":"\xff"}', "model is not valid UTF-8", "model"),
        (
            b'{"model":"\\ud800abcdefgh"}',
            "model holds half of a surrogate pair, such as \\ud83d alone: send whole characters",
            "model",
        ),
        (
            b'{"a":"%b"}' % (b"\\ud83d" * 4097),
            "the body has more than 4096 escapes that are half of a surrogate pair, such as \\ud83d alone",
            None,
        ),
        (b"[]", "the body is of JSON type array: send a JSON object", None),
        (b'"secret"', "the body is of JSON type str: send a JSON object", None),
        (b"null", "the body is of JSON type null: send a JSON object", None),
        ('{"model":"a"}'.encode("utf-16"), "the body is not valid JSON: it is UTF-16 or UTF-32; send UTF-8", None),
        ('{"model":"a"}'.encode("utf-16-le"), "the body is not valid JSON: it is UTF-16 or UTF-32; send UTF-8", None),
        ('{"model":"a"}'.encode("utf-32-be"), "the body is not valid JSON: it is UTF-16 or UTF-32; send UTF-8", None),
        (b'{"model":7}', "model is of type int: send a string", "model"),
        (b'{"model":["secret"]}', "model is of type array: send a string", "model"),
        (b'{"model":""}', "model is empty: name the model to use", "model"),
        (b'{"model":"\xff"}', "model is not valid UTF-8", "model"),
        (b'{"model":"\xed\xa0\x80"}', "model is not valid UTF-8", "model"),
    ],
)
def test_a_malformed_body_is_refused_without_telling_its_content(body: bytes, message: str, param: str | None) -> None:
    assert refusal(body) == Refused(Reason.MALFORMED_BODY, message, param)


@pytest.mark.parametrize("half", [b"\\ud83d", b"\\uDE00", b"\\\\\\ud83d"])
def test_an_emoji_that_was_cut_in_two_is_the_servers_business(half: bytes) -> None:
    body = b'{"messages":[{"content":"cut %b"}],"model":"a\\ud83d\\ude00","%b":["%b x"],"max_tokens":7}' % ((half,) * 3)
    found = request(body)

    assert (found.model, found.max_output_tokens, found.size_bytes) == ("a\U0001f600", 7, len(body))
    assert len(found.prompts[0]) == len(b'[{"content":"cut %b"}]' % half)
    assert request(b'{"model":"\\ufffd","model":"\\ufffd","x":"%b"}' % half).model == "\ufffd"
    assert request(b'\xef\xbb\xbf{"model":"\\ud83d","model":"b"}').model == "b"
    assert request(b'{"input":["%b",[1]]}' % half, Api.EMBEDDINGS).prompt_tokens > 1


def test_a_cut_emoji_hides_no_depth() -> None:
    body = b'{"model":"a","x":"\\ud83d","y":' + b"[" * 128 + b"]" * 128 + b"}"
    assert refusal(body).message.startswith("the body nests deeper than the 128 levels")


def test_the_content_type_is_named_when_it_may_explain_the_failure() -> None:
    refused = refusal(b"model=secret", content_type="application/x-www-form-urlencoded")

    assert refused.message.endswith("its content type is 'application/x-www-form-urlencoded'")
    assert "secret" not in refused.message


@pytest.mark.parametrize("content_type", ["", "text/plain", "application/json; charset=utf-8"])
def test_json_is_read_whatever_the_content_type_says(content_type: str) -> None:
    assert request(b'{"model":"a"}', content_type=content_type).model == "a"


def test_an_encoded_body_is_refused_by_the_name_of_its_coding() -> None:
    headers = {"content-type": "application/json", "content-encoding": "gzip"}
    head = Head(method="POST", path="/v1/chat/completions", headers=headers, id="r", received_at=0.0)
    refused = read(head, Api.CHAT, b"\x1f\x8b\x08\0\0", BodyLimits())
    assert isinstance(refused, Refused)
    assert "('gzip'): send plain JSON" in refused.message


def test_a_byte_order_mark_is_skipped() -> None:
    assert request(b'\xef\xbb\xbf{"model":"a"}').model == "a"


@pytest.mark.parametrize(
    "value", [b"1e999", b"-1e-999", b"9" * 5000, b'"\xff"', b'"\\u0000"', b"1.5", b"{}", b"[]", b'"x"', b"-1", b"true"]
)
def test_odd_values_of_other_fields_are_the_servers_business(value: bytes) -> None:
    body = b'{"model":"a","messages":%b,"max_tokens":%b,"stream":%b,"tools":%b,"x":%b}' % ((value,) * 5)

    assert request(body).model == "a"


def test_the_body_limit_is_named() -> None:
    limits = BodyLimits(max_body_bytes=20)

    assert isinstance(reading(b'{"model":"abcdefgh"}', limits=limits), Request)
    refused = refusal(b'{"model":"abcdefghi"}', limits=limits)
    assert refused == Refused(Reason.BODY_TOO_LARGE, "the body has 21 bytes, more than the 20 allowed (max-body-bytes)")
    assert isinstance(reading(b"x" * 21, Api.OTHER, limits=limits), Refused)


@pytest.mark.parametrize("depth", [129, 500, 100_000])
def test_the_depth_limit_is_named(depth: int) -> None:
    inside = depth - 1
    assert refusal(b'{"x":' + b"[" * inside + b"]" * inside + b"}").message == (
        "the body nests deeper than the 128 levels allowed (max-body-depth)"
    )
    assert refusal(b'{"a":' * depth + b"1" + b"}" * depth).reason is Reason.MALFORMED_BODY


def test_the_deepest_body_allowed_passes_from_a_deep_stack() -> None:
    body = b'{"x":' + b"[" * 127 + b"]" * 127 + b"}"

    def deeper(levels: int) -> Request | Refused:
        return deeper(levels - 1) if levels else reading(body)

    assert isinstance(deeper(300), Request)


@pytest.mark.parametrize("model", ["a" * 256, "é" * 128])
def test_the_limit_of_a_models_name_counts_utf_8(model: str) -> None:
    assert request(f'{{"model":"{model}"}}'.encode()).model == model
    refused = refusal(f'{{"model":"{model}x"}}'.encode())
    assert refused.message == "model is longer than the 256 bytes allowed (max-model-bytes)"
    assert refused.param == "model"


class TestForms:
    FILE = part("file", b"\0\r\n--not-it\r\n" * 100, "a.wav")

    @pytest.mark.parametrize("api", [Api.AUDIO, Api.IMAGES])
    def test_model_and_stream_are_fields(self, api: Api) -> None:
        found = request(form(self.FILE, part("model", b"whisper"), part("stream", b"True")), api, FORM)

        assert (found.model, found.is_stream, found.prompts) == ("whisper", True, ())

    def test_the_last_of_several_models_counts(self) -> None:
        assert request(form(part("model", b"a"), part("model", b"b")), Api.AUDIO, FORM).model == "b"

    def test_a_form_without_a_model_is_left_to_the_engine(self) -> None:
        assert request(form(self.FILE), Api.AUDIO, FORM).model is None

    @pytest.mark.parametrize(
        ("body", "message"),
        [
            (form(part("model", b"a", "m.txt")), "model is sent as a file: send it as a plain form field"),
            (form(part("model", b"")), "model is empty: name the model to use"),
            (form(part("model", b"\xff")), "model is not valid UTF-8"),
            (form(part("model", b"a" * 257)), "model is longer than the 256 bytes allowed (max-model-bytes)"),
            (form(part("stream", b"a" * 257)), "stream is no boolean"),
        ],
    )
    def test_a_model_that_servers_may_not_read_alike_is_refused(self, body: bytes, message: str) -> None:
        assert refusal(body, Api.AUDIO, FORM).message == message

    def test_a_malformed_form_is_refused(self) -> None:
        assert refusal(b"", Api.AUDIO, FORM).message == (
            "the body is not valid multipart/form-data: the boundary of its content type does not occur in it"
        )

    def test_too_many_parts_are_refused(self) -> None:
        body = form(*[part("a", b"1")] * 128)
        assert request(body, Api.AUDIO, FORM).model is None
        assert "max-multipart-parts" in refusal(part("b", b"2") + body, Api.AUDIO, FORM).message

    def test_other_apis_take_no_forms(self) -> None:
        assert refusal(form(part("model", b"a")), Api.CHAT, FORM).reason is Reason.MALFORMED_BODY

    def test_apis_that_take_forms_take_json_too(self) -> None:
        assert request(b'{"model":"tts","input":"hello"}', Api.AUDIO).model == "tts"


class TestHeaders:
    def test_objective_tenant_override_and_slos_are_taken(self) -> None:
        found = request(
            b"{}",
            x_llm_d_inference_objective="batch",
            x_llm_d_inference_fairness_id="team-a",
            x_llm_d_model_name_rewrite="llama-b",
            x_llm_d_slo_ttft_ms="250",
            x_llm_d_slo_tpot_ms="12.5",
        )
        assert (found.objective, found.fairness_id, found.model_override) == ("batch", "team-a", "llama-b")
        assert (found.ttft_slo_seconds, found.tpot_slo_seconds) == (0.25, 0.0125)

    def test_the_new_name_outranks_the_old_one(self) -> None:
        found = request(b"{}", x_gateway_inference_objective="old", x_slo_ttft_ms="1", x_slo_tpot_ms="2")
        assert (found.objective, found.ttft_slo_seconds, found.tpot_slo_seconds) == ("old", 0.001, 0.002)
        found = request(
            b"{}",
            x_gateway_inference_objective="old",
            x_llm_d_inference_objective="new",
            x_slo_ttft_ms="1",
            x_llm_d_slo_ttft_ms="3",
        )
        assert (found.objective, found.ttft_slo_seconds) == ("new", 0.003)

    @pytest.mark.parametrize("value", ["", "x", "-1", "0", "0.0", "nan", "inf", "1e3", "1_0", " 5", "٣", "9" * 400])
    def test_a_bad_number_counts_as_missing(self, value: str) -> None:
        assert request(b"{}", x_llm_d_slo_ttft_ms=value).ttft_slo_seconds is None

    def test_empty_and_endless_names_count_as_missing(self) -> None:
        found = request(b"{}", x_llm_d_inference_objective="", x_llm_d_inference_fairness_id="a" * 257)
        assert (found.objective, found.fairness_id) == (None, None)

    def test_names_are_utf_8(self) -> None:
        assert request(b"{}", x_llm_d_model_name_rewrite="modèle".encode().decode("latin-1")).model_override == "modèle"
        assert request(b"{}", x_llm_d_model_name_rewrite="\xff").model_override == "\ufffd"
