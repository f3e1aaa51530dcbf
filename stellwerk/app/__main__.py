"""`python -m stellwerk.app picker JOB.json`: the supervisor's way to start the picker."""

import contextlib
import sys
from collections.abc import Sequence
from pathlib import Path

import msgspec

from stellwerk.app.gateway import PickerJob, run_picker


def main(arguments: Sequence[str]) -> int:
    """Run the picker; returns the exit status."""
    if len(arguments) != 2 or arguments[0] != "picker":
        print("this is started by `stellwerk run`; see `stellwerk --help`", file=sys.stderr)
        return 2
    job = msgspec.json.decode(Path(arguments[1]).read_bytes(), type=PickerJob)
    if job.config.gateway is None:
        return run_picker(job)
    from stellwerk.app.routed import run_routed_picker

    return run_routed_picker(job)


if __name__ == "__main__":
    with contextlib.suppress(KeyboardInterrupt):
        sys.exit(main(sys.argv[1:]))
