"""The generated pages are those that the code generates."""

from docs.generate import PAGE, page


def test_the_page_of_commands_is_up_to_date() -> None:
    assert PAGE.read_text() == page(), "run `make docs`"
