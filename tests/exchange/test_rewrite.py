import json
from random import Random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from stellwerk.exchange import rewrite
from stellwerk.exchange.rewrite import quoted, spliced, with_model
from tests.kit.bodies import FORM, form, part
from tests.kit.json_text import CHANCES, Pairs, objects, texts, values, written

JSON = "application/json"


@pytest.mark.parametrize(
    ("body", "expected"),
    [
        ('{"model":"a"}', '{"model":"T"}'),
        ('{"model":"a","n":1.0,"b":12345678901234567890123}', '{"model":"T","n":1.0,"b":12345678901234567890123}'),
        (' {\n"x" : 1 , "model"\t:\r\n "a\\"b" } ', ' {\n"x" : 1 , "model"\t:\r\n "T" } '),
        ('{"mod\\u0065l":"a"}', '{"mod\\u0065l":"T"}'),
        ('{"\\u006D\\u006f\\u0064\\u0065\\u006C":"a"}', '{"\\u006D\\u006f\\u0064\\u0065\\u006C":"T"}'),
        ('{"model":"a","model":"b"}', '{"model":"T","model":"T"}'),
        ('{"model":"a","mode\\u006c" : "b","x":{"model":"c"}}', '{"model":"T","mode\\u006c" : "T","x":{"model":"c"}}'),
        ('{"x":{"model":"c"},"model":"a"}', '{"x":{"model":"c"},"model":"T"}'),
        ('{"model":{"model":"c"},"model":"a"}', '{"model":{"model":"c"},"model":"T"}'),
        ('{"model":null,"model":"a"}', '{"model":"T","model":"T"}'),
        ('{"p":"\\"model\\":\\"x\\"","model":"a"}', '{"p":"\\"model\\":\\"x\\"","model":"T"}'),
        ('{"x\\"model":"y","model":"a"}', '{"x\\"model":"y","model":"T"}'),
        ('{"model":null}', '{"model":"T"}'),
        ('{"x":"model","model":"a"}', '{"x":"model","model":"T"}'),
        ('{"Model":"x","model ":"y","model":"a"}', '{"Model":"x","model ":"y","model":"T"}'),
        ('\ufeff{"model":"a","model":"b"}', '\ufeff{"model":"T","model":"T"}'),
        ('{"model":"\\ud83d\\ude00"}', '{"model":"T"}'),
        ('{"x":"\\ud83d","model":"a","y":"\\uDE00"}', '{"x":"\\ud83d","model":"T","y":"\\uDE00"}'),
    ],
)
def test_only_the_names_bytes_change(body: str, expected: str) -> None:
    assert with_model(body.encode(), JSON, "T") == expected.encode()


@pytest.mark.parametrize(
    "body", ["", " ", "{", "[]", '["model"]', '[{"a":1}]', '{"model":"a"', '{"a":1', "\0", '"model"', "7"]
)
def test_what_is_no_object_stays_as_it_is(body: str) -> None:
    assert with_model(body.encode(), JSON, "T") == body.encode()


@pytest.mark.parametrize(
    ("body", "expected"),
    [
        ("{}", '{"model":"T"}'),
        ('{"x":"\\ud83d"}', '{"model":"T","x":"\\ud83d"}'),
        (" \r\n{ \t} ", ' \r\n{"model":"T" \t} '),
        ('{"x":{"model":"a"}}', '{"model":"T","x":{"model":"a"}}'),
        ('\n{\n  "n": 1.0}\n', '\n{"model":"T",\n  "n": 1.0}\n'),
        ('\ufeff{"x":"}"}', '\ufeff{"model":"T","x":"}"}'),
        ("\ufeff { }", '\ufeff {"model":"T" }'),
        ('{"\\"model\\"":"{}","Model":1}', '{"model":"T","\\"model\\"":"{}","Model":1}'),
    ],
)
def test_an_object_without_a_name_gets_one_in_front(body: str, expected: str) -> None:
    assert with_model(body.encode(), JSON, "T") == expected.encode()


@settings(deadline=None, max_examples=100)
@given(objects(values()), texts(), st.sampled_from(("", " ", "\r\n\t", "\ufeff")), CHANCES)
def test_a_name_is_added_and_nothing_else_changes(sent: Pairs, target: str, before: str, chance: Random) -> None:
    sent = Pairs((key, value) for key, value in sent if key != "model")
    body = (before + written(sent, chance)).encode()
    edited = with_model(body, JSON, target)

    assert json.loads(edited) == {"model": target, **json.loads(body)}
    assert _top_level(edited) == [("model", target), *_top_level(body)]
    assert edited.replace(b'"model":' + quoted(target) + (b"," if sent else b""), b"", 1) == body


@pytest.mark.parametrize("target", ['a"b\\c', "modèle", "\n\0", "😀", "\ud800", "a/b:c"])
def test_the_target_is_escaped(target: str) -> None:
    for before in (b'{"model":"a"}', b"{}"):
        body = with_model(before, JSON, target)

        assert json.loads(body) == {"model": target}
        assert body.isascii()


@settings(deadline=None, max_examples=100)
@given(objects(values()), texts(), texts(), CHANCES)
def test_every_top_level_name_is_set_and_nothing_else(sent: Pairs, name: str, target: str, chance: Random) -> None:
    sent.insert(chance.randrange(len(sent) + 1), ("model", name))
    sent = Pairs((k, name if k == "model" and isinstance(v, list) else v) for k, v in sent)
    seed = chance.random()
    body = written(sent, Random(seed)).encode()
    pairs = _top_level(with_model(body, JSON, target))

    assert json.loads(with_model(body, JSON, target)) == {**json.loads(body), "model": target}
    assert [key for key, _ in pairs] == [key for key, _ in sent]
    assert all(value == target for key, value in pairs if key == "model")
    assert _without_names(with_model(body, JSON, target)) == _without_names(body)


def _top_level(body: bytes) -> list[tuple[str, object]]:
    pairs: list[tuple[str, object]] = json.loads(body, object_pairs_hook=lambda inner: Pairs(inner))
    return pairs


def _without_names(body: bytes) -> bytes:
    """`body` without the values of its top-level names: the slow and obvious way."""
    text, kept, at, depth, key = body.decode(), [], 0, 0, ""
    decoder = json.JSONDecoder()
    while at < len(text):
        if text[at] == '"':
            value, end = decoder.raw_decode(text, at)
            is_key = text[end:].lstrip().startswith(":")
            is_name = depth == 1 and not is_key and key == "model"
            kept.append("" if is_name else text[at:end])
            key, at = (value if is_key else key), end
        elif depth == 1 and key == "model" and text[at] in "-0123456789tfn":
            at = decoder.raw_decode(text, at)[1]
        else:
            depth += (text[at] in "[{") - (text[at] in "]}")
            key = "" if text[at] == "," else key
            kept.append(text[at])
            at += 1
    return "".join(kept).encode()


def test_a_flood_of_keys_is_settled_by_the_first_and_the_last(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rewrite, "_MAX_KEYS", 3)
    body = b' {"x":[{"model":1},{"model":2},{"model":3}],"model":"a","model":"b"}'
    edited = with_model(body, JSON, "T")

    names = [value for key, value in _top_level(edited) if key == "model"]
    assert (names[0], names[-1]) == ("T", "T")
    assert json.loads(edited) == {**json.loads(body), "model": "T"}


def test_each_name_in_a_form_is_set() -> None:
    file = part("file", b'{"model":"x"}', "model")
    body = form(part("model", b"a"), file, part("models", b"a"), part("model", b""))

    assert with_model(body, FORM, "modèle") == form(
        part("model", "modèle".encode()), file, part("models", b"a"), part("model", "modèle".encode())
    )


def test_a_form_without_a_name_stays_as_it_is() -> None:
    body = form(part("prompt", b'{"a": 1}'))

    assert with_model(body, FORM, "T") == body


def test_a_malformed_form_stays_as_it_is() -> None:
    body = form(part("model", b"a")).replace(b"--\r\n", b" \r\n")

    assert with_model(body, FORM, "T") == body


def test_json_under_the_content_type_of_a_form_is_json() -> None:
    assert with_model(b'{"model":"a"}', FORM, "T") == b'{"model":"T"}'


def test_splicing_replaces_spans() -> None:
    assert spliced(b"abcdef", ((0, 1), (2, 2), (5, 6)), b"-") == b"-b-cde-"
    assert quoted("é") == b'"\\u00e9"'
