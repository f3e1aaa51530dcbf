"""`make bench`: run every measurement and write the results into docs/performance.md, between its markers."""

import argparse
import datetime
import platform
import subprocess
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


def main() -> None:
    """Measure, print, write."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=float, default=4.0, help="per cell of the request path")
    parser.add_argument("--dry", action="store_true", help="print only, leave docs/performance.md alone")
    arguments = parser.parse_args()
    sections = [
        f"Measured {machine()}.",
        "### Scheduling\n\n" + scheduling.table(scheduling.run()),
        "### Scraping\n\n" + scraping.table(scraping.run()),
        "### Controller in a cluster\n\n" + controller.table(controller.run()),
        "### Pods in a cluster\n\n" + pods.table(pods.run()),
        "### Request path\n\n" + request_path.table(request_path.run(arguments.seconds)),
    ]
    text = "\n\n".join(sections)
    print(text)
    if not arguments.dry:
        before, _, rest = PAGE.read_text().partition(START)
        PAGE.write_text(f"{before}{START}\n\n{text}\n\n{END}{rest.partition(END)[2]}")


if __name__ == "__main__":
    main()
