"""Every case of the table, through the whole of reading."""

import pytest

from stellwerk.blueprint import Source, draft
from tests.control.objects_table import BAD, GOOD, Case


@pytest.mark.parametrize("case", GOOD, ids=lambda case: case.name)
def test_good_objects_have_no_problem(case: Case) -> None:
    assert draft([Source("f.yaml", case.text.encode())]).problems == ()


@pytest.mark.parametrize("case", BAD, ids=lambda case: case.name)
def test_bad_objects_have_exactly_the_expected_problems(case: Case) -> None:
    problems = draft([Source("f.yaml", case.text.encode())]).problems
    said = [f"{problem.path}: {problem.message}" for problem in problems]
    assert len(said) == len(case.problems), said
    for expected in case.problems:
        assert any(line.startswith(expected) for line in said), (expected, said)


@pytest.mark.parametrize("case", BAD, ids=lambda case: case.name)
def test_every_problem_has_a_position(case: Case) -> None:
    for problem in draft([Source("f.yaml", case.text.encode())]).problems:
        assert problem.file == "f.yaml"
        assert 1 <= problem.line <= case.text.count("\n") + 1
        assert problem.column >= 1
