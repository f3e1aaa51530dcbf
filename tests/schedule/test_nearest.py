import pytest

from stellwerk.schedule.nearest import MAX_KNOWN, Nearest

KNOWN = ("food-review", "food-preview", "llama-3.1-8b", "chat")


@pytest.mark.parametrize(
    ("typed", "meant"),
    [
        ("food-revue", "food-review"),
        ("Llama-3.1-8B", "llama-3.1-8b"),
        ("llama-3-8b", "llama-3.1-8b"),
        ("chatt", "chat"),
        ("food_review", "food-review"),
    ],
)
def test_small_mistakes_find_what_was_meant(typed: str, meant: str) -> None:
    assert Nearest(KNOWN).to(typed)[0] == meant


def test_other_names_find_nothing() -> None:
    assert Nearest(KNOWN).to("gpt-4o") == []
    assert Nearest(()).to("x") == []
    assert Nearest(("",)).to("") == [""]


def test_only_so_many_names_are_looked_at() -> None:
    assert Nearest([*map(str, range(10_000, 10_000 + MAX_KNOWN)), "food"]).to("food") == []
