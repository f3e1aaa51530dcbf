"""Messages of conditions fit into an object."""

from hypothesis import given
from hypothesis import strategies as st

from stellwerk.control.remark import MAX_MESSAGE, joined


def test_each_message_is_told_once_in_its_order() -> None:
    assert joined(["b", "a", "b"]) == "b; a"
    assert joined([]) == ""


@given(st.lists(st.integers(1, 2 * MAX_MESSAGE).map(lambda length: "x" * length), max_size=40, unique=True))
def test_whatever_there_is_to_say_fits(messages: list[str]) -> None:
    text = joined(messages)
    assert len(text) <= MAX_MESSAGE
    assert "…" in text or text.endswith(" more") or text == "; ".join(messages)


def test_what_is_left_out_is_counted() -> None:
    messages = [f"{number:0>1000}" for number in range(10)]
    assert joined(messages) == f"{'; '.join(messages[:3])}; and 7 more"
