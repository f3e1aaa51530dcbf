"""Flags that several commands share, and how they become parts of the one `Config`."""

import re
from collections.abc import Callable
from typing import Any, TypeVar

import click

from stellwerk.config import Address, Config, Observability, Scraping, Timeouts
from stellwerk.exchange.limits import BodyLimits

Decorated = TypeVar("Decorated", bound=Callable[..., Any])

UNITS = {"ns": 1e-9, "us": 1e-6, "µs": 1e-6, "ms": 1e-3, "s": 1.0, "m": 60.0, "h": 3600.0}
SIZES = {"": 1, "k": 1000, "m": 1000**2, "g": 1000**3, "ki": 1024, "mi": 1024**2, "gi": 1024**3}


class Duration(click.ParamType[float]):
    """`50ms`, `2s`, `1m30s` or plain seconds; gives seconds as float."""

    name = "duration"

    def __init__(self, *, may_be_zero: bool = False) -> None:
        self._may_be_zero = may_be_zero

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> float:
        """Seconds, > 0 unless it may be zero."""
        if isinstance(value, float | int):
            return float(value)
        text = str(value).strip()
        parts = re.findall(r"(\d+(?:\.\d+)?)(ns|us|µs|ms|s|m|h)", text)
        seconds: float
        if parts and "".join(number + unit for number, unit in parts) == text:
            seconds = sum(float(number) * UNITS[unit] for number, unit in parts)
        else:
            try:
                seconds = float(text)
            except ValueError:
                self.fail(f'"{text}" is not a duration: write it like 500ms, 2s or 1m30s', param, ctx)
        if not (0 < seconds < 1e9 or (seconds == 0 and self._may_be_zero)):
            self.fail(f'"{text}" is not a positive duration', param, ctx)
        return seconds


class Size(click.ParamType[int]):
    """`16Mi`, `64k` or plain bytes, as Kubernetes writes quantities."""

    name = "size"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> int:
        """Bytes, > 0."""
        match = re.fullmatch(r"(\d+)\s*([kmgKMG]?i?)[bB]?", str(value).strip())
        if not match or match[2].lower() not in SIZES or int(match[1]) == 0:
            self.fail(f'"{value}" is not a size: write it like 16Mi, 64Ki or 1048576', param, ctx)
        return int(match[1]) * SIZES[match[2].lower()]


class Listen(click.ParamType[Address]):
    """`host:port`, `:port` or `port`; IPv6 in brackets."""

    name = "address"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Address:
        """The address; the host is loopback when left out."""
        if isinstance(value, Address):
            return value
        host, _, port = str(value).rpartition(":")
        if not port.isdecimal() or int(port) > 65535:
            self.fail(
                f'"{value}" is not an address to listen on: write it like 127.0.0.1:8080 or [::1]:8080', param, ctx
            )
        return Address(host=host.strip("[]") or "127.0.0.1", port=int(port))


def source_options(command: Decorated) -> Decorated:
    """Where objects come from."""
    for option in (
        click.option(
            "--config", "picker_config", metavar="PICKER.yaml", help="EndpointPickerConfig: plugins, weights."
        ),
        click.option(
            "--server",
            "servers",
            multiple=True,
            metavar="URL",
            help="A model server, e.g. http://10.0.0.7:8000 (repeatable): makes one pool of all of them.",
        ),
        click.option(
            "-f",
            "--file",
            "objects",
            multiple=True,
            metavar="PATH",
            help="File or directory of objects, YAML or JSON (repeatable); read again when it changes.",
        ),
    ):
        command = option(command)
    return command


def tuning_options(command: Decorated) -> Decorated:
    """Bounds, deadlines and logs; each default is a field of `Config`."""
    body, timeouts, scraping = BodyLimits(), Timeouts(), Scraping()
    for option in (
        click.option("--log-level", default="info", type=click.Choice(["debug", "info", "warning", "error"])),
        click.option("--log-format", default="auto", type=click.Choice(["auto", "text", "json"])),
        click.option("--prefix-index-bytes", type=Size(), default="256Mi", help="Bound of the prefix index."),
        click.option(
            "--scrape-busy-interval",
            type=Duration(),
            default=scraping.busy_interval_seconds,
            help="Shortest time between two readings of a busy server's metrics.",
        ),
        click.option(
            "--scrape-idle-interval",
            type=Duration(),
            default=scraping.idle_interval_seconds,
            help="Longest time between two readings of an idle server's metrics.",
        ),
        click.option(
            "--drain-timeout",
            type=Duration(may_be_zero=True),
            default=timeouts.drain_seconds,
            help="How long running requests may go on after SIGTERM.",
        ),
        click.option(
            "--decision-timeout",
            type=Duration(),
            default=timeouts.decision_seconds,
            help="From a complete request to its decision; then 504.",
        ),
        click.option("--max-answer-bytes", type=Size(), default=body.max_answer_bytes, help="JSON answers read whole."),
        click.option("--max-model-bytes", type=Size(), default=body.max_model_bytes, help="Longest model name."),
        click.option(
            "--max-body-depth", type=click.IntRange(1, 1000), default=body.max_body_depth, help="JSON nesting."
        ),
        click.option("--max-body-bytes", type=Size(), default=body.max_body_bytes, help="Largest request body (413)."),
    ):
        command = option(command)
    return command


def tuned(config: Config, options: dict[str, Any]) -> Config:
    """`config` with the values of `source_options` and `tuning_options` in their places."""
    import msgspec.structs

    change = msgspec.structs.replace
    return change(
        config,
        objects=tuple(options["objects"]),
        servers=tuple(options["servers"]),
        picker_config=options["picker_config"],
        prefix_index_bytes=options["prefix_index_bytes"],
        body=change(
            config.body,
            max_body_bytes=options["max_body_bytes"],
            max_body_depth=options["max_body_depth"],
            max_model_bytes=options["max_model_bytes"],
            max_answer_bytes=options["max_answer_bytes"],
        ),
        timeouts=change(
            config.timeouts,
            decision_seconds=options["decision_timeout"],
            drain_seconds=options["drain_timeout"],
        ),
        scraping=change(
            config.scraping,
            busy_interval_seconds=options["scrape_busy_interval"],
            idle_interval_seconds=options["scrape_idle_interval"],
        ),
        observability=Observability(
            log_format=options["log_format"],
            log_level=options["log_level"],
            decisions_bytes=config.observability.decisions_bytes,
        ),
    )
