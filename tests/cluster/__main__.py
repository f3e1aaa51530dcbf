"""Command line of the test cluster and of the conformance suites."""

import argparse
import signal
import sys
import tempfile
import time
from pathlib import Path

from tests.cluster.build import BuildFailed, build
from tests.cluster.cluster import ClusterFailed, running
from tests.cluster.suites import REPORTS, SUITES, run_suites
from tests.cluster.toolchain import PROGRAMS, missing_for_conformance, program


def main() -> int:
    """Exit status of a command."""
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    options, rest = _parser().parse_known_args()
    if rest and options.command != "conformance":
        _parser().error(f"unknown arguments: {' '.join(rest)}")
    try:
        match options.command:
            case "build":
                build(PROGRAMS)
            case "missing":
                absent = missing_for_conformance()
                sys.stdout.write("".join(f"{each}\n" for each in absent))
                return 1 if absent else 0
            case "up":
                _up(options.state)
            case _:
                logs = options.logs or Path(tempfile.mkdtemp(prefix="stellwerk-conformance-"))
                return run_suites(options.suite, options.reports.resolve(), logs.resolve(), rest)
    except (BuildFailed, ClusterFailed) as problem:
        sys.stderr.write(f"{problem}\n")
        return 1
    except KeyboardInterrupt:
        sys.stderr.write("stopped\n")
        return 130
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m tests.cluster", description=__doc__)
    commands = parser.add_subparsers(dest="command", required=True)
    commands.add_parser("build", help="build what the cluster and other tests need, where it is not built yet")
    commands.add_parser("missing", help="name what this machine lacks; status 0: nothing")
    up = commands.add_parser("up", help="start a cluster; runs until Ctrl-C, then everything is gone")
    up.add_argument("state", nargs="?", type=Path, help="directory for its state and logs, kept")
    suites = commands.add_parser(
        "conformance",
        help="run the conformance suites and write their reports",
        epilog="Other flags go to the suite's program, such as -run-test=HTTPRouteMatching.",
    )
    names = [each.name for each in SUITES]
    suites.add_argument("--suite", action="append", default=[], choices=names, help="may be repeated; default: all")
    suites.add_argument("--reports", type=Path, default=REPORTS, help="folder for the reports")
    suites.add_argument("--logs", type=Path, help="folder for the logs of clusters, pods and suites, kept")
    return parser


def _up(state: Path | None) -> None:
    build()
    with running(keep=state.resolve() if state else None) as cluster:
        shell = " ".join(cluster.inside("env", f"KUBECONFIG={cluster.kubeconfig}"))
        sys.stdout.write(
            f"the cluster is up; state and logs are in {cluster.state}\n"
            f"  {shell} {program('kubectl')} get pods -A\n"
            f"  {shell} bash      # a shell in its network\n"
        )
        sys.stdout.flush()
        while True:
            time.sleep(3600)


if __name__ == "__main__":
    sys.exit(main())
