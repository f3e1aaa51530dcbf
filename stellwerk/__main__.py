"""`python -m stellwerk` is the `stellwerk` command."""

from stellwerk.cli.main import main

if __name__ == "__main__":
    main()
