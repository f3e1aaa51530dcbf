import json
from typing import Any

import pytest

from stellwerk.exchange.content import MAX_LISTED_PROMPTS
from stellwerk.model.request import Api
from tests.kit.bodies import request

MESSAGES = '[{"role":"user","content":"hi"}]'
TOOLS = '[{"name":"t"}]'


def prompts(body: str, api: Api) -> list[str]:
    return [bytes(prompt).decode() for prompt in request(body.encode(), api).prompts]


@pytest.mark.parametrize(
    ("api", "body", "expected"),
    [
        (Api.CHAT, f'{{"messages":{MESSAGES}}}', MESSAGES),
        (Api.CHAT, f'{{"messages":{MESSAGES},"tools":{TOOLS}}}', TOOLS + MESSAGES),
        (Api.CHAT, f'{{"messages":{MESSAGES},"tools":null}}', MESSAGES),
        (Api.COMPLETIONS, '{"prompt":"hi"}', '"hi"'),
        (Api.COMPLETIONS, '{"prompt":[1, 2]}', "[1, 2]"),
        (Api.EMBEDDINGS, '{"input":"hi"}', '"hi"'),
        (Api.EMBEDDINGS, f'{{"messages":{MESSAGES}}}', MESSAGES),
        (Api.RESPONSES, f'{{"input":"hi","tools":{TOOLS},"instructions":"be"}}', f'"be"{TOOLS}"hi"'),
        (Api.MESSAGES, f'{{"messages":{MESSAGES},"system":"be","tools":{TOOLS}}}', f'{TOOLS}"be"{MESSAGES}'),
        (Api.COUNT_TOKENS, f'{{"messages":{MESSAGES}}}', MESSAGES),
        (Api.RERANK, '{"documents":["a","b"],"query":"q"}', '"q"["a","b"]'),
        (Api.SCORE, '{"text_2":"b","text_1":"a"}', '"a""b"'),
        (Api.SCORE, '{"queries":"a","documents":["b"]}', '"a"["b"]'),
        (Api.TOKENIZE, '{"prompt":"hi"}', '"hi"'),
        (Api.TOKENIZE, f'{{"messages":{MESSAGES}}}', MESSAGES),
        (Api.AUDIO, '{"input":"say"}', '"say"'),
        (Api.IMAGES, '{"prompt":"a cat"}', '"a cat"'),
    ],
)
def test_a_prompt_is_what_the_engine_sees_in_its_order(api: Api, body: str, expected: str) -> None:
    assert prompts(body, api) == [expected]


@pytest.mark.parametrize("api", [Api.COMPLETIONS, Api.EMBEDDINGS])
@pytest.mark.parametrize(
    ("value", "expected", "tokens"),
    [
        (["a", "b[,"], ['"a"', '"b[,"'], 3),
        ([[1, 2], [3]], ["[1,2]", "[3]"], 3),
        ([1, 2, 3], ["[1,2,3]"], 3),
        ([], ["[]"], 0),
        ([[]], ["[]"], 0),
        (["x" * 100], ['"' + "x" * 100 + '"'], 26),
        ([7] * 50_000, [json.dumps([7] * 50_000, separators=(",", ":"))], 50_000),
        ([[1], "ab"], ["[1]", '"ab"'], 2),
        (None, [], 0),
        ({"a": 1}, ['{"a":1}'], 2),
    ],
)
def test_lists_are_several_prompts_and_token_ids_are_counted(
    api: Api, value: Any, expected: list[str], tokens: int
) -> None:
    field = "prompt" if api is Api.COMPLETIONS else "input"
    found = request(json.dumps({"model": "m", field: value}, separators=(",", ":")).encode(), api)

    assert [bytes(prompt).decode() for prompt in found.prompts] == expected
    assert found.prompt_tokens == tokens


def test_whitespace_does_not_hide_a_list_of_prompts() -> None:
    assert prompts('{"prompt" : [ \n "a" ,\t"b" ] }', Api.COMPLETIONS) == ['"a"', '"b"']


def test_only_the_first_prompts_of_very_many_are_told_apart() -> None:
    found = request(json.dumps({"prompt": ["four"] * 10_000}).encode(), Api.COMPLETIONS)

    assert len(found.prompts) == MAX_LISTED_PROMPTS
    assert found.prompt_tokens == pytest.approx(20_000, rel=0.02)


def test_text_is_estimated_at_four_bytes_to_a_token() -> None:
    assert request(b'{"prompt":"' + b"x" * 398 + b'"}', Api.COMPLETIONS).prompt_tokens == 100


def test_a_prompt_is_a_view_of_the_body() -> None:
    (prompt,) = request(b'{"messages":[1]}').prompts

    assert isinstance(prompt, memoryview)


@pytest.mark.parametrize(
    ("api", "body", "cap"),
    [
        (Api.CHAT, '{"max_tokens":5}', 5),
        (Api.CHAT, '{"max_tokens":5,"max_completion_tokens":7}', 7),
        (Api.CHAT, '{"max_tokens":5,"max_completion_tokens":null}', 5),
        (Api.CHAT, "{}", None),
        (Api.COMPLETIONS, '{"max_tokens":0}', 0),
        (Api.RESPONSES, '{"max_output_tokens":9,"max_tokens":1}', 9),
        (Api.MESSAGES, '{"max_tokens":3}', 3),
        (Api.EMBEDDINGS, '{"max_tokens":3}', None),
        (Api.CHAT, '{"max_tokens":-1}', None),
        (Api.CHAT, '{"max_tokens":1.5}', None),
        (Api.CHAT, '{"max_tokens":1e999}', None),
        (Api.CHAT, '{"max_tokens":"5"}', None),
        (Api.CHAT, '{"max_tokens":1234567890}', None),
        (Api.CHAT, '{"max_tokens":[1]}', None),
    ],
)
def test_the_cap_of_the_answer_is_a_plain_number(api: Api, body: str, cap: int | None) -> None:
    assert request(body.encode(), api).max_output_tokens == cap


@pytest.mark.parametrize(("salt", "expected"), [('"s"', b'"s"'), ("null", b""), ("7", b"7")])
def test_a_salt_only_has_to_be_told_from_others(salt: str, expected: bytes) -> None:
    assert request(f'{{"cache_salt":{salt}}}'.encode()).cache_salt == expected
