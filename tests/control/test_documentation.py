"""The examples that people copy: those in docs/objects.md and in examples/ are right, and say what they seem to say."""

import re
from pathlib import Path

import pytest

from stellwerk.blueprint import Source, build, draft
from stellwerk.control.intake import KIND_NAMES
from stellwerk.control.kinds import KINDS

ROOT = Path(__file__).parents[2]
TEXT = (ROOT / "docs" / "objects.md").read_text()
BLOCKS = re.findall(r"```yaml\n(.*?)```", TEXT, re.DOTALL)
EXAMPLES = sorted((ROOT / "examples").glob("*.yaml"))


@pytest.mark.parametrize("block", BLOCKS, ids=lambda block: block.split("\n")[1])
def test_every_yaml_block_of_the_reference_is_right(block: str) -> None:
    drawn = draft([Source("objects.md", block.encode())])
    assert (drawn.problems, drawn.warnings, drawn.notes) == ((), (), ())


def test_the_reference_names_every_kind_and_version() -> None:
    for kind in set(KIND_NAMES) - {"InferencePoolImport"}:
        assert f"\n## {kind}\n" in TEXT
    for version, kind in KINDS:
        assert version in TEXT or kind == "InferencePoolImport"


def test_the_reference_names_every_field_of_a_model_server() -> None:
    for name in ("address", "ports", "engine"):
        assert f"`spec.{name}`" in TEXT


@pytest.mark.parametrize("path", EXAMPLES, ids=lambda path: path.name)
def test_every_example_file_is_right_and_has_no_warning(path: Path) -> None:
    drawn = draft([Source(path.name, path.read_bytes())])
    built = build(drawn, {})
    assert (drawn.problems, built.warnings, built.notes) == ((), (), ())
    assert built.catalog.default_pool == "default/llama"
    assert all(pool.endpoints for pool in built.catalog.pools.values())


def test_there_is_an_example_for_each_use() -> None:
    assert {"two-servers.yaml", "canary.yaml", "lora.yaml", "priorities.yaml"} <= {path.name for path in EXAMPLES}
