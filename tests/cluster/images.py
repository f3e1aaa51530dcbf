"""Container images of the test cluster: names that stand for commands on this machine."""

import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

from tests.cluster.toolchain import program


class Image(NamedTuple):
    """What a container of this image runs, and as whom where its pod leaves that open."""

    command: tuple[str, ...]
    user: int = 0


STELLWERK = Image((sys.executable, "-m", "stellwerk"), user=65532)
"""This checkout, as the Dockerfile's last target starts it, and whom it names as user."""
EPP = Image((*STELLWERK.command, "epp"), STELLWERK.user)
"""The same as its target `epp`: for manifests of the Go picker, which give flags alone."""


def known_images(extra: Mapping[str, Sequence[str]] | None = None) -> dict[str, Image]:
    """Short name -> image. `extra` adds commands or replaces them."""
    images = {
        "stellwerk": STELLWERK,
        "stellwerk-epp": EPP,
        "echo-basic": Image((str(program("echo-basic")),)),
        "lwepp": Image((str(program("lwepp")),)),
        # A fixture of the Gateway API suite; only its UDP tests, which are not run here, ask it anything.
        "coredns": Image(("sh", "-c", "exec sleep infinity")),
    }
    return images | {name: Image(tuple(command)) for name, command in (extra or {}).items()}


def short_name(reference: str) -> str:
    """`registry.example/team/name:tag@digest` -> `name`."""
    return Path(reference.split("@")[0]).name.split(":")[0]
