"""`python -m stellwerk` is the `stellwerk` command."""

from stellwerk.cli.main import run_main

if __name__ == "__main__":
    run_main()
