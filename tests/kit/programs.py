"""Programs that are pinned and built for tests."""

import pytest

from tests.cluster.toolchain import program, unbuilt


def built(name: str) -> str:
    """The path of one; the test is skipped, and says so, where it is not built."""
    if absent := unbuilt([name]):
        pytest.skip(f"missing {absent[0]}")
    return str(program(name))
