"""What is said: length, repeatability, stop strings; and that it costs the tokens it is billed."""

from hypothesis import given
from hypothesis import strategies as st

from stellwerk.sim import tokens
from stellwerk.sim.answers import AnswerLength, AnswerLimits, answer

KEYS = st.integers(0, (1 << 64) - 1)


@given(KEYS, st.integers(1, 40_000))
def test_an_answer_costs_its_tokens_and_says_why_it_ended(key: int, most: int) -> None:
    said = answer(key, AnswerLength(), AnswerLimits(most))
    assert 1 <= said.tokens <= most
    assert tokens.count(tokens.encode(said.text)) == said.tokens
    assert "".join(said.piece(i, i + 1) for i in range(min(said.tokens, 300))) == said.text[:1200]
    assert (said.finish_reason == "length") == (
        said.tokens == most and said != answer(key, AnswerLength(), AnswerLimits(most + 1))
    )
    assert said == answer(key, AnswerLength(), AnswerLimits(most))


@given(KEYS)
def test_limits_are_kept(key: int) -> None:
    length = AnswerLength(mean_tokens=20)
    assert answer(key, length, AnswerLimits(500, ignores_end=True)).tokens == 500
    assert answer(key, length, AnswerLimits(500, ignores_end=True)).finish_reason == "length"
    assert answer(key, length, AnswerLimits(500, min_tokens=300)).tokens >= 300
    assert answer(key, AnswerLength(20, 0.0), AnswerLimits(500)).tokens == 20


def test_the_mean_length_is_what_was_asked_for() -> None:
    lengths = [
        answer(tokens.seed_of(str(i)), AnswerLength(200, 0.5), AnswerLimits(100_000)).tokens for i in range(2_000)
    ]
    assert 190 < sum(lengths) / len(lengths) < 210


def test_a_stop_string_ends_the_answer_before_it() -> None:
    whole = answer(5, AnswerLength(), AnswerLimits(50, ignores_end=True))
    word = whole.piece(7, 8).strip()
    cut = answer(5, AnswerLength(), AnswerLimits(50, ignores_end=True, stops=("nowhere", word)))
    assert cut.text == whole.text[: whole.text.index(word)]
    assert (cut.finish_reason, cut.stop_reason) == ("stop", word)
    assert cut.tokens <= 8
