"""What a real model server sent: see `tests/fixtures/vllm-0.32.0/README.md`."""

import json
from pathlib import Path

_FOLDER = Path(__file__).parents[1] / "fixtures" / "vllm-0.32.0"


def stream(name: str) -> bytes:
    """A recorded stream of events, as sent."""
    return (_FOLDER / f"{name}.sse").read_bytes()


def answer(name: str) -> bytes:
    """The body of a recorded answer."""
    body: str = json.loads((_FOLDER / f"{name}.json").read_text())["body"]
    return body.encode()


STREAMS = tuple(sorted(path.stem for path in _FOLDER.glob("*.sse")))
