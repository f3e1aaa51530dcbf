"""`make bench`: run every measurement and write the results into docs/performance.md, between its markers."""

import argparse
import datetime
import platform
import shlex
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

from bench import controller, pods, request_path, scheduling, scraping

PAGE = Path(__file__).parent.parent / "docs" / "performance.md"
START, END = "<!-- results: start -->", "<!-- results: end -->"


def machine() -> str:
    """Date, processor and commit, so that a number has a place and a day."""
    model = next(
        (line.split(":")[1].strip() for line in Path("/proc/cpuinfo").read_text().splitlines() if "model name" in line),
        platform.machine(),
    )
    commit = subprocess.run(["git", "rev-parse", "--short", "HEAD"], capture_output=True, text=True, check=False).stdout
    cores = len(list(Path("/sys/devices/system/cpu").glob("cpu[0-9]*")))
    return (
        f"{datetime.date.today()}, {model}, {cores} cores, Python {platform.python_version()}, commit {commit.strip()}"
    )


SECTIONS: dict[str, Callable[[argparse.Namespace], str]] = {
    "Scheduling": lambda _: scheduling.table(scheduling.run()),
    "Scraping": lambda _: scraping.table(scraping.run()),
    "Controller in a cluster": lambda _: controller.table(controller.run()),
    "Pods in a cluster": lambda _: pods.table(pods.run()),
    "Request path": lambda given: request_path.table(request_path.run(given.seconds, given.beside)),
}


def main() -> None:
    """Measure, print, write; each section as soon as it is there."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=float, default=4.0, help="per cell of the request path")
    parser.add_argument(
        "--beside",
        metavar="COMMAND",
        help="also measure another endpoint picker on the request path: a command that serves ext_proc without TLS on "
        "127.0.0.1:{grpc} before the model servers {servers} (ip:port, by commas), and stays one process",
    )
    parser.add_argument("--only", action="append", choices=SECTIONS, help="this section (repeatable); default: all")
    parser.add_argument("--dry", action="store_true", help="print only, leave docs/performance.md alone")
    arguments = parser.parse_args()
    if arguments.beside is not None:
        program = next(iter(shlex.split(arguments.beside)), "")
        if shutil.which(program) is None:
            parser.error(f'--beside: there is no program "{program}"')
    for name in arguments.only or SECTIONS:
        text = f"### {name}\n\nMeasured {machine()}.\n\n{SECTIONS[name](arguments)}"
        print(text, end="\n\n", flush=True)
        if not arguments.dry:
            PAGE.write_text(replaced(PAGE.read_text(), name, text))


def replaced(page: str, name: str, text: str) -> str:
    """The page with this section's results in place of those that it had."""
    before, _, rest = page.partition(START)
    results, _, after = rest.partition(END)
    found = {part.partition("\n")[0]: part.strip() for part in results.split("### ")[1:]}
    found[name] = text.removeprefix("### ")
    listed = "\n\n".join(f"### {found[each]}" for each in SECTIONS if each in found)
    return f"{before}{START}\n\n{listed}\n\n{END}{after}"


if __name__ == "__main__":
    main()
