"""The guides: their objects are right, their files are there, and their commands are commands."""

import re
import shlex
from pathlib import Path

import pytest

from deploy.generate import HERE
from stellwerk.blueprint import received
from stellwerk.cli.main import COMMANDS
from stellwerk.control.kinds import KINDS
from tests.kit.manifests import EXAMPLES, documents, kustomized

ROOT = HERE.parent
PAGES = [*sorted((ROOT / "docs" / "guides").glob("*.md")), ROOT / "docs" / "install.md", ROOT / "docs" / "migration.md"]
pages = pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
TOOLS = {"kubectl", "helm", "docker", "stellwerk", "curl", "istioctl", "export"}


def commands(page: Path) -> list[str]:
    """Every command of the page's shell blocks, continuation lines joined, without the texts that they are given."""
    blocks = re.findall(r"^```bash\n(.*?)^```", page.read_text(), re.DOTALL | re.MULTILINE)
    bare = [re.sub(r"<<'EOF'\n.*?^EOF$", "", block, flags=re.DOTALL | re.MULTILINE) for block in blocks]
    lines = [line.strip() for block in bare for line in block.replace("\\\n", " ").splitlines()]
    return [line for line in lines if line and not line.startswith("#")]


@pytest.mark.parametrize("example", EXAMPLES, ids=lambda path: path.name)
def test_every_file_of_an_example_is_applied(example: Path) -> None:
    (plan,) = documents(example / "kustomization.yaml")
    patches = [each["path"] for each in plan.get("patches", [])]
    named = {*plan["resources"], *patches, "kustomization.yaml"}
    assert {path.name for path in example.iterdir()} == {name for name in named if not name.startswith("..")}
    assert kustomized(example)


@pytest.mark.parametrize("example", EXAMPLES, ids=lambda path: path.name)
def test_objects_of_an_example_are_valid(example: Path) -> None:
    ours = [each for each in kustomized(example) if (each["apiVersion"], each["kind"]) in KINDS]
    read = received((f"{each['kind']} {each['metadata']['name']}", each) for each in ours)
    assert not read.problems
    assert len(read.items) == len(ours)


def test_every_example_has_a_guide() -> None:
    told = "".join(page.read_text() for page in PAGES)
    for example in EXAMPLES:
        assert example.name == "servers" or f"deploy/examples/{example.name}" in told


@pages
def test_commands_exist(page: Path) -> None:
    for line in commands(page):
        for part in re.split(r"\s(?:\||&&)\s", line):
            words = shlex.split(part)
            assert words[0] in TOOLS, line
            if words[0] == "stellwerk":
                assert words[1] in COMMANDS, line


@pages
def test_kinds_are_defined_before_what_needs_them(page: Path) -> None:
    lines = commands(page)
    first = next(
        (i for i, line in enumerate(lines) if re.search(r"apply .*-k deploy/manifests/(gateway|epp)$", line)), None
    )
    assert first is None or lines[first - 1].startswith("stellwerk crds | kubectl apply --server-side "), page


@pages
def test_files_and_links_are_there(page: Path) -> None:
    text = page.read_text()
    for path in re.findall(r"\bdeploy/[\w./-]+[\w]", text):
        assert (ROOT / path).exists(), path
    for link in re.findall(r"\]\((?!https?:|#)([^)#]+)", text):
        assert (page.parent / link).exists(), link
