"""The `stellwerk` command: one lazy group, so that `--help` imports no command it does not run."""


def main() -> None:
    """Entry point."""
