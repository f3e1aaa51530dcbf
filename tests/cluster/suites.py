"""Runs the published conformance suites against this checkout, each on a cluster of its own, and keeps their reports.

  inference-extension        the own gateway, calling the suite's lightweight picker
  inference-extension-epp    the same, with `stellwerk epp` in place of that picker
  gateway-api                the Gateway API's suite: profile GATEWAY-HTTP, with the features that our class says it has

The suites are compiled from their modules as they are; nothing here or in the gateway knows one of their tests.
"""

import re
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

from stellwerk import __version__
from tests.cluster.build import build
from tests.cluster.cluster import Cluster, running
from tests.cluster.installation import CLASS_NAME, install
from tests.cluster.toolchain import ROOT, program

REPORTS = ROOT / "docs" / "conformance"
_EPP = (sys.executable, "-m", "stellwerk", "epp", "--test-endpoint-selection", "true")
_RESULT = re.compile(r"^(?P<indent> *)--- (?P<result>PASS|FAIL|SKIP): (?P<name>\S+) \((?P<seconds>[\d.]+)s\)")
_BEGUN = re.compile(r"^=== RUN +[^/]+/(?P<name>\S+)")
_SAY_EVERY_SECONDS = 10.0
"""Go tells results when all is over, and before that only what has begun."""


class Suite(NamedTuple):
    """One run. `name` is that of its report."""

    name: str
    test: str
    """The Go test that runs the whole suite."""
    flags: tuple[str, ...] = ()
    images: Mapping[str, tuple[str, ...]] = {}
    """Images of the suite's fixtures that something else stands in for."""
    parameters: Mapping[str, str] = {}
    """Of the GatewayClass."""


SUITES = (
    Suite("inference-extension", "TestInferenceExtension", parameters={"pickerBodyMode": "Streamed"}),
    Suite("inference-extension-epp", "TestInferenceExtension", images={"lwepp": _EPP}),
    Suite("gateway-api", "TestGatewayAPI", ("-conformance-profiles=GATEWAY-HTTP",)),
)


class Outcome(NamedTuple):
    """How a run ended. Names are those of the suite's tests."""

    suite: Suite
    passed: list[str]
    failed: list[str]
    skipped: list[str]
    status: int
    seconds: float

    @property
    def is_good(self) -> bool:
        """Something passed, and nothing failed."""
        return self.status == 0 and bool(self.passed) and not self.failed


def run_suites(names: Sequence[str], reports: Path, logs: Path, more: Sequence[str] = ()) -> int:
    """Run the named suites, or all; the exit status. `more` flags go to the suite's program.

    Raises BuildFailed, ClusterFailed.
    """
    build()
    logs.mkdir(parents=True, exist_ok=True)
    reports.mkdir(parents=True, exist_ok=True)
    chosen = [suite for suite in SUITES if not names or suite.name in names]
    outcomes = [_run_suite(suite, reports, logs, more) for suite in chosen]
    for each in outcomes:
        _say(
            f"{each.suite.name}: {'passed' if each.is_good else 'FAILED'}: {len(each.passed)} passed, "
            f"{len(each.failed)} failed, {len(each.skipped)} skipped in {each.seconds:.0f} s"
        )
        for name in each.failed:
            _say(f"  failed: {name}")
    return 0 if outcomes and all(each.is_good for each in outcomes) else 1


def _run_suite(suite: Suite, reports: Path, logs: Path, more: Sequence[str]) -> Outcome:
    started = time.monotonic()
    state = logs / suite.name
    _say(f"{suite.name}: starting a cluster; logs in {state}")
    with running(suite.images, keep=_fresh(state)) as cluster:
        install(cluster, suite.parameters)
        _say(f"{suite.name}: cluster and gateway are up after {time.monotonic() - started:.0f} s")
        return _run_program(cluster, suite, reports / f"{suite.name}.yaml", [*suite.flags, *more], started)


def _run_program(cluster: Cluster, suite: Suite, report: Path, flags: Sequence[str], started: float) -> Outcome:
    command = cluster.inside(
        str(program("conformance.test")),
        f"-test.run=^{suite.test}$",
        "-test.v",
        "-test.timeout=0",
        f"-gateway-class={CLASS_NAME}",
        f"-report-output={report}",
        "-organization=stellwerk",
        "-project=stellwerk",
        "-url=https://stellwerk.dev",
        f"-version=v{__version__}",
        "-contact=maintainers@stellwerk.dev",
        *flags,
    )
    found: dict[str, list[str]] = {"PASS": [], "FAIL": [], "SKIP": []}
    with (
        (cluster.state / "suite.log").open("w") as log,
        subprocess.Popen(
            command, env=cluster.environment(), stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
        ) as process,
    ):
        assert process.stdout is not None
        said = started
        for line in process.stdout:
            log.write(line)
            log.flush()
            if result := _RESULT.match(line):
                _note(found, result)
            elif (begun := _BEGUN.match(line)) and time.monotonic() - said > _SAY_EVERY_SECONDS:
                said = time.monotonic()
                _say(f"  {said - started:.0f} s: {begun['name']}")
    return Outcome(suite, found["PASS"], found["FAIL"], found["SKIP"], process.returncode, time.monotonic() - started)


def _note(found: dict[str, list[str]], result: re.Match[str]) -> None:
    """Tests of a suite are one level below the Go test that runs it."""
    path = result["name"].split("/")
    if len(path) == 2:
        found[result["result"]].append(path[1])
    if len(path) == 2 or (result["result"] == "FAIL" and len(path) > 1):
        _say(f"  {result['result']} {'/'.join(path[1:])} ({float(result['seconds']):.0f} s)")


def _fresh(state: Path) -> Path:
    """A folder of that name with nothing in it; what is there is put beside it, so nothing is ever deleted unasked."""
    if state.exists():
        number = next(n for n in range(1, 1000) if not state.with_name(f"{state.name}.{n}").exists())
        state.rename(state.with_name(f"{state.name}.{number}"))
    return state


def _say(text: str) -> None:
    sys.stdout.write(f"conformance: {text}\n")
    sys.stdout.flush()
