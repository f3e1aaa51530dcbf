"""The generated pages are those that the code generates."""

import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]


def test_the_page_of_commands_is_up_to_date() -> None:
    # In a process of its own, since a command remembers the help option of whoever invoked it first.
    command = [sys.executable, "-m", "docs.generate", "--print"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
    assert (ROOT / "docs" / "cli.md").read_text() == done.stdout, "run `make docs`"
