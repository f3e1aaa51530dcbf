"""The command line starts fast: nothing heavy is imported before a command needs it."""

import subprocess
import sys

import click
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


@pytest.mark.parametrize("name", COMMANDS)
def test_every_option_of_every_command_is_set_by_the_variable_that_its_name_says(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    command = main.get_command(click.Context(main), name)
    assert command is not None
    context = click.Context(command)
    options = [option for option in command.params if isinstance(option, click.Option)]
    for option in options:
        spelled = max(option.opts, key=len).removeprefix("--").replace("-", "_").upper()
        variable = f"STELLWERK_{name.upper()}_{spelled}"
        with monkeypatch.context() as environment:
            environment.setenv(variable, "here")
            assert option.resolve_envvar_value(context) == "here", variable
    assert len({str(option.envvar) for option in options}) == len(options)


def test_lists_in_the_environment_are_separated_by_spaces() -> None:
    variables = {"STELLWERK_VALIDATE_FILE": "nowhere.yaml elsewhere.yaml"}
    result = CliRunner(env=variables).invoke(main, ["validate"], auto_envvar_prefix="STELLWERK")
    assert "nowhere.yaml" in result.output
    assert "elsewhere.yaml" in result.output
