"""Writes docs/cli.md from the commands' own help. `make docs`; a test fails when the page is out of date."""

import sys
from pathlib import Path

import click

from stellwerk.cli.main import COMMANDS, main

PAGE = Path(__file__).parent / "cli.md"
WIDTH = 110


def page() -> str:
    """The whole page."""
    parts = ["# Commands", "", "Generated from `stellwerk COMMAND --help` by `make docs`.", ""]
    parts += block("stellwerk", help_of(main, "stellwerk", None))
    group = click.Context(main, info_name="stellwerk", **main.context_settings)
    for name in COMMANDS:
        command = main.get_command(group, name)
        assert command is not None
        parts += block(f"stellwerk {name}", help_of(command, name, group))
    return "\n".join(parts)


def help_of(command: click.Command, name: str, parent: click.Context | None) -> str:
    """What `--help` prints, at one width everywhere."""
    widths = {"terminal_width": WIDTH, "max_content_width": WIDTH}
    return command.get_help(click.Context(command, parent, name, **{**command.context_settings, **widths}))


def block(title: str, text: str) -> list[str]:
    """One command's section."""
    return [f"## {title}", "", "```", *(line.rstrip() for line in text.splitlines()), "```", ""]


if __name__ == "__main__":
    if sys.argv[1:] == ["--print"]:
        print(page(), end="")
    else:
        PAGE.write_text(page())
