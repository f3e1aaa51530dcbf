"""Log lines: text on a terminal, one JSON object a line elsewhere. `configure` once; then stdlib `logging` as ever.

What is logged goes through `extra={"fields": {...}}`, and only fields on the list below are written: a prompt, a key or
a header that somebody hands over by mistake does not get out. A log that cannot be written never stops the gateway.
"""

import json
import logging
import math
import sys
import time
from typing import Any, TextIO

ALLOWED_FIELDS = frozenset(
    """
    address admin attempt bytes cause child code column component config connections count dropped
    duration_seconds endpoint endpoints error exit_status fairness_id file flags generation host kind limit
    lease line listen model models name names namespace object objects output_tokens path peer phase pid pool pools port
    priority problem problems process prompt_tokens reason reasons remedy request_id resource seconds server
    servers service signal size_bytes socket source status stream streams target_model ticket timeout_seconds
    trace_id ttft_seconds uid url version
    """.split()  # noqa: SIM905 - seventy words, not seventy lines
)
MAX_FIELD_CHARACTERS = 1024
_MAX_MESSAGE_CHARACTERS = 4096
_MAX_ITEMS = 32
_WITHHELD = "[withheld]"

_COLOURS = {"DEBUG": "\x1b[2m", "WARNING": "\x1b[33m", "ERROR": "\x1b[31m", "CRITICAL": "\x1b[31;1m"}
_RESET = "\x1b[0m"


def configure(format: str = "auto", level: str = "info", stream: TextIO | None = None) -> None:
    """Send what `stellwerk` and its libraries log to `stream` (stderr). `format`: text, json, or auto (text on a
    terminal). May be called again; the last call counts.

    Raises ValueError for an unknown format or level.
    """
    number = logging.getLevelNamesMapping().get(level.upper())
    if number is None:
        raise ValueError(f"log level {level!r} is none of debug, info, warning, error")
    if format not in ("auto", "text", "json"):
        raise ValueError(f"log format {format!r} is none of auto, text, json")
    out = sys.stderr if stream is None else stream
    is_terminal = out.isatty()
    is_text = format == "text" or (format == "auto" and is_terminal)
    handler = _Handler(out)
    handler.setFormatter(TextFormatter(has_colour=is_terminal) if is_text else JsonFormatter())
    root = logging.getLogger()
    for old in [old for old in root.handlers if isinstance(old, _Handler)]:
        root.removeHandler(old)
    root.addHandler(handler)
    root.setLevel(max(number, logging.WARNING))
    logging.getLogger("stellwerk").setLevel(number)


class _Handler(logging.StreamHandler[TextIO]):
    """A broken pipe or a full disk loses the line, and nothing else."""

    def handleError(self, record: logging.LogRecord) -> None:  # noqa: N802 - logging's name
        """Nobody to tell."""

    def flush(self) -> None:
        try:
            super().flush()
        except (OSError, ValueError):  # a closed file raises ValueError
            return


class JsonFormatter(logging.Formatter):
    """One object a line: time, level, part, message, then the fields."""

    def format(self, record: logging.LogRecord) -> str:
        line: dict[str, Any] = {
            "time": _timestamp(record.created),
            "level": record.levelname.lower(),
            "part": record.name.removeprefix("stellwerk."),
            "message": _message(record),
        }
        for name, value in _fields(record).items():
            line.setdefault(name, value)
        if record.exc_info:
            line["exception"] = self.formatException(record.exc_info)
        return json.dumps(line, ensure_ascii=False, allow_nan=False, default=str).encode(errors="replace").decode()


class TextFormatter(logging.Formatter):
    """`12:00:00.123 warning scrape   metrics page not readable  endpoint=default/a:8000 error="..."`."""

    def __init__(self, *, has_colour: bool) -> None:
        super().__init__()
        self._has_colour = has_colour

    def format(self, record: logging.LogRecord) -> str:
        level = f"{record.levelname.lower():<7}"
        if self._has_colour and record.levelname in _COLOURS:
            level = f"{_COLOURS[record.levelname]}{level}{_RESET}"
        clock = time.strftime("%H:%M:%S", time.localtime(record.created))
        part = record.name.removeprefix("stellwerk.")
        pairs = "".join(f" {name}={_shown(value)}" for name, value in _fields(record).items())
        message = _one_line(_message(record))
        line = f"{clock}.{int(record.msecs):03} {level} {part:<10} {message}{' ' if pairs else ''}{pairs}"
        if record.exc_info:
            line += "\n" + self.formatException(record.exc_info)
        return line.encode(errors="replace").decode()


def _timestamp(seconds: float) -> str:
    whole = math.floor(seconds)
    return f"{time.strftime('%Y-%m-%dT%H:%M:%S', time.gmtime(whole))}.{int((seconds - whole) * 1e6):06}Z"


def _message(record: logging.LogRecord) -> str:
    try:
        text = record.getMessage()
    except (TypeError, ValueError):
        text = str(record.msg)
    return text if len(text) <= _MAX_MESSAGE_CHARACTERS else text[:_MAX_MESSAGE_CHARACTERS] + "..."


def _fields(record: logging.LogRecord) -> dict[str, Any]:
    fields = getattr(record, "fields", None)
    if not isinstance(fields, dict):
        return {}
    return {str(name): _bounded(value) if name in ALLOWED_FIELDS else _WITHHELD for name, value in fields.items()}


def _bounded(value: object, depth: int = 0) -> Any:
    """A value that JSON can write and that is not long."""
    if value is None or isinstance(value, bool | int):
        return value
    if isinstance(value, float):
        return round(value, 6) if math.isfinite(value) else None
    if isinstance(value, list | tuple | set | frozenset) and depth < 2:
        items = [_bounded(item, depth + 1) for item in list(value)[:_MAX_ITEMS]]
        return items if len(value) <= _MAX_ITEMS else [*items, f"... {len(value) - _MAX_ITEMS} more"]
    text = str(value)
    return text if len(text) <= MAX_FIELD_CHARACTERS else text[:MAX_FIELD_CHARACTERS] + "..."


def _shown(value: object) -> str:
    if isinstance(value, str):
        plain = value.isprintable() and value and not any(character in value for character in ' "=')
        return value if plain else json.dumps(value, ensure_ascii=False)
    return json.dumps(value, ensure_ascii=False, default=str)


def _one_line(text: str) -> str:
    return text if text.isprintable() else "".join(c if c.isprintable() else repr(c)[1:-1] for c in text)
