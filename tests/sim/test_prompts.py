"""From bodies to token bytes: conversations keep their prefix, every form of prompt is read."""

from typing import Any

import pytest

from stellwerk.sim import prompts, tokens
from stellwerk.sim.answers import AnswerLength, AnswerLimits, answer


def turn(role: str, content: Any) -> dict[str, Any]:
    """One message."""
    return {"role": role, "content": content}


def test_a_conversation_that_grows_keeps_its_prefix_answers_included() -> None:
    said = answer(3, AnswerLength(), AnswerLimits(9)).text
    first = [turn("system", "Be brief."), turn("user", "Hi")]
    before = prompts.chat(first)
    after = prompts.chat([*first, turn("assistant", said), turn("user", "More")])
    assert after.startswith(before + said.encode())


def test_tools_and_system_come_first() -> None:
    one = prompts.chat([turn("user", "Hi")], tools=[{"name": "f"}], system="Be brief.")
    two = prompts.chat([turn("user", "Ho")], tools=[{"name": "f"}], system=[{"type": "text", "text": "Be brief."}])
    assert one[:-24] == two[:-24]
    assert one != two


@pytest.mark.parametrize(
    "content",
    [None, "", "text", 5, {"a": 1}, [], ["a"], [{"type": "text", "text": "a"}], [{"type": "image_url"}], [None], [[1]]],
)
def test_any_content_gives_whole_tokens(content: object) -> None:
    assert len(prompts.chat([turn("user", content)])) % tokens.TOKEN_BYTES == 0


def test_pictures_cost_tokens_and_differ() -> None:
    one, two = ({"type": "image_url", "image_url": {"url": url}} for url in ("a", "b"))
    assert tokens.count(prompts.content([one])) == 256
    assert prompts.content([one]) != prompts.content([two])


@pytest.mark.parametrize(
    ("prompt", "counts"),
    [("abcdefgh", [2]), (["a", "bcdef"], [1, 2]), ([1, 2, 3], [3]), ([[1], [2, 3]], [1, 2])],
)
def test_prompts_come_in_four_forms(prompt: object, counts: list[int]) -> None:
    found = prompts.completions(prompt)
    assert found is not None
    assert [tokens.count(one) for one in found] == counts


@pytest.mark.parametrize("prompt", [None, 5, [], {}, [None], [1, "a"], [[1], "a"], [-1], [["a"]], [1 << 40]])
def test_anything_else_is_no_prompt(prompt: object) -> None:
    assert prompts.completions(prompt) is None


@pytest.mark.parametrize("value", ["Hi", [{"role": "user", "content": "Hi"}], [{"type": "function_call", "name": "f"}]])
def test_responses_take_text_or_items(value: object) -> None:
    assert prompts.responses({"input": value, "instructions": "Be brief."})


def test_responses_take_nothing_else() -> None:
    assert prompts.responses({"input": 5}) is None
    assert prompts.responses({"input": ["a"]}) is None
