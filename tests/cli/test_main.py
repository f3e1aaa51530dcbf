"""The command line starts fast: nothing heavy is imported before a command needs it."""

import subprocess
import sys

import pytest
from click.testing import CliRunner

from stellwerk.cli.main import COMMANDS, main

HEAVY = {
    "numpy",
    "aiohttp",
    "envoy",
    "grpc",
    "google.protobuf",
    "yaml",
    "uvloop",
    "hpack",
    "rich",
    "cryptography",
    "asyncio",
}


@pytest.mark.parametrize("code", ["import stellwerk", "import stellwerk.cli.main"])
def test_importing_the_package_imports_nothing_heavy(code: str) -> None:
    listing = f"{code}; import sys; print(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", listing], capture_output=True, text=True, check=True)
    assert not HEAVY & set(done.stdout.split())


def test_help_lists_every_command_without_importing_it() -> None:
    code = (
        "import sys\nfrom click.testing import CliRunner\nfrom stellwerk.cli.main import main\n"
        "print(CliRunner().invoke(main, ['--help']).output)\nprint('IMPORTED', *sys.modules)"
    )
    output = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    text, imported = output.split("IMPORTED")
    for name in COMMANDS:
        assert f"\n  {name} " in text
    assert not {lazy.where.partition(":")[0] for lazy in COMMANDS.values()} & set(imported.split())


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_has_help(name: str) -> None:
    result = CliRunner().invoke(main, [name, "--help"])
    assert result.exit_code == 0, result.output
    assert "Usage:" in result.output


def test_an_unknown_command_is_a_usage_error() -> None:
    result = CliRunner().invoke(main, ["rnu"])
    assert result.exit_code == 2
    assert "rnu" in result.output
