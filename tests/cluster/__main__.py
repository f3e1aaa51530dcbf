"""Command line of the test cluster.

python -m tests.cluster build                  build the programs it needs
python -m tests.cluster up [STATE]             start it; runs until Ctrl-C, then everything is gone
python -m tests.cluster conformance [ARGS]     run the conformance suites; --help lists its options
"""

import signal
import sys
import time
from pathlib import Path

from tests.cluster.build import BuildFailed, build
from tests.cluster.cluster import ClusterFailed, running


def main(arguments: list[str]) -> int:
    """Exit status of a command."""
    try:
        match arguments:
            case ["build"]:
                build()
            case ["up", *rest] if len(rest) <= 1:
                up(Path(rest[0]).resolve() if rest else None)
            case _:
                sys.stderr.write(__doc__ or "")
                return 2
    except (BuildFailed, ClusterFailed) as problem:
        sys.stderr.write(f"{problem}\n")
        return 1
    return 0


def up(state: Path | None) -> None:
    """Run a cluster by hand."""
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    build()
    try:
        with running(keep=state) as cluster:
            shell = " ".join(cluster.inside("env", f"KUBECONFIG={cluster.kubeconfig}"))
            sys.stdout.write(
                f"the cluster is up; state and logs are in {cluster.state}\n"
                f"  {shell} {cluster.programs}/kubectl get pods -A\n"
                f"  {shell} bash      # a shell in its network\n"
            )
            sys.stdout.flush()
            while True:
                time.sleep(3600)
    except KeyboardInterrupt:
        sys.stdout.write("stopping\n")


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
