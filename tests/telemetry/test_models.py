"""Model lists as servers write them."""

from hypothesis import given, settings
from hypothesis import strategies as st

from stellwerk.telemetry.models import MAX_MODELS, Unreadable, read


def test_adapters_name_their_base_model() -> None:
    body = b'{"object":"list","data":[{"id":"tiny","parent":null,"root":"tiny","max_model_len":4096},'
    body += b'{"id":"sql-lora","object":"model","parent":"tiny","permission":[{"id":"x"}]}]}'
    assert read(body) == {"tiny": None, "sql-lora": "tiny"}


def test_a_model_that_is_its_own_parent_is_a_base_model() -> None:
    assert read(b'{"data":[{"id":"m","parent":"m"}]}') == {"m": None}


def test_entries_that_are_no_models_are_left_out() -> None:
    names = b'{"data":[{"id":1},{"name":"x"},"y",null,{"id":""},{"id":"%s"},{"id":"good"},{"id":"good","parent":"z"}]}'
    assert read(names % (b"x" * 300)) == {"good": None}


def test_what_is_no_list_is_told_and_not_quoted() -> None:
    for body in (b"", b"not found", b"[]", b'{"data":{}}', b"\xff\xfe", b'{"data":' + b"[" * 100_000):
        answer = read(body)
        assert isinstance(answer, Unreadable)
        assert answer.reason == "the answer is not a JSON list of models"


def test_the_number_of_models_is_bounded() -> None:
    body = b'{"data":[' + b",".join(b'{"id":"m%d"}' % index for index in range(MAX_MODELS + 1)) + b"]}"
    answer = read(body)
    assert isinstance(answer, Unreadable)
    assert str(MAX_MODELS) in answer.reason


@given(
    st.one_of(st.binary(max_size=60), st.text(max_size=40).map(lambda text: f'{{"data":[{{"id":"{text}"}}]}}'.encode()))
)
@settings(deadline=None, max_examples=200)
def test_no_answer_raises(body: bytes) -> None:
    answer = read(body)
    assert isinstance(answer, Unreadable) or all(answer)
