"""Flags of the Go pickers (llm-d router v0.10, GIE v0.3 to v1.5, lwepp v1.6) beyond those that `stellwerk epp` has
itself, and how they are written there.

Some are accepted for their meaning here, some without effect, so that charts and manifests start this picker unchanged;
what would silently do something else is refused with a word on what to do instead.
"""

import re
from collections.abc import Callable, Collection
from typing import Any, NamedTuple, TypeVar

import click

from stellwerk.cli.options import Size

Decorated = TypeVar("Decorated", bound=Callable[..., Any])


class Refused(NamedTuple):
    """A flag that is not supported, why, and values of it that ask for nothing."""

    hint: str
    harmless: tuple[str, ...] = ()


_ENGINE = "metric names follow from the engine: label the Pods llm-d.ai/engine-type=vllm (or sglang, triton, ...)"
_PLAIN = "metrics are served without TLS, to bearers of a token that may read them: leave it out"

YES, NO = ("true", "True", "TRUE", "t", "T", "1"), ("false", "False", "FALSE", "f", "F", "0")
"""As Go reads booleans."""

REFUSED = {
    "grpc-max-send-msg-size": Refused("bodies go to the proxy in pieces of 62,000 bytes: leave it out", ("", "0")),
    "tls-cipher-suites": Refused("the ciphers are those of OpenSSL for --tls-min-version: leave it out", ("",)),
    "metrics-cert-dir": Refused(_PLAIN, ("",)),
    "metrics-client-ca-file": Refused(_PLAIN, ("",)),
    "tracing": Refused("no spans are exported; decisions are at /api/decisions: use --tracing=false", NO),
    "enable-pprof": Refused("there is no pprof here: use --enable-pprof=false", NO),
    "total-queued-requests-metric": Refused(_ENGINE),
    "total-running-requests-metric": Refused(_ENGINE),
    "kv-cache-usage-percentage-metric": Refused(_ENGINE),
    "lora-info-metric": Refused(_ENGINE),
    "cache-info-metric": Refused(_ENGINE),
    "model-server-metrics-port": Refused("metrics are read from the port that serves: leave it out", ("0",)),
    "model-server-metrics-path": Refused("metrics are read from /metrics: leave it out", ("/metrics",)),
    "model-server-metrics-scheme": Refused("metrics are read over http: leave it out", ("http",)),
    "model-server-metrics-https-insecure-skip-verify": Refused("metrics are read over http: leave it out", (*YES, *NO)),
    "destination-endpoint-hint-key": Refused(
        "the endpoint picker protocol gives the header its name: leave it out", ("x-gateway-destination-endpoint",)
    ),
    "destination-endpoint-hint-metadata-namespace": Refused(
        "the endpoint picker protocol gives the metadata its namespace: leave it out", ("envoy.lb",)
    ),
}
IGNORED = (
    "allow-experimental-plugins",
    "enable-grpc-stream-metrics",
    "refresh-prometheus-metrics-interval",
    "zap-devel",
    "zap-stacktrace-level",
    "zap-time-encoding",
)
"""They ask for what is always so here (metrics are computed when they are read), or for details of another log."""
_DEBUG_VERBOSITY = 4
"""Go's verbosity from which it writes of single requests."""
_LEVELS = {"debug": "debug", "info": "info", "warn": "warning", "warning": "warning", "error": "error"}


class GoCommand(click.Command):
    """Takes long options as Go's `flag` does, which the pickers had up to GIE v1.2: with one dash too (`-pool-name`),
    and in the spelling of v0.3 to v0.5 (`-poolName`)."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """The arguments in click's spelling, parsed."""
        known = {option for parameter in self.get_params(ctx) for option in parameter.opts}
        return super().parse_args(ctx, [_spelled(argument, known) for argument in args])


def _spelled(argument: str, known: Collection[str]) -> str:
    """Only what is a long option then. What begins with a short one (`-fPATH`) stays, but for `-v=4`."""
    name, separator, value = argument.partition("=")
    long = "--" + re.sub("(?<=[a-z0-9])[A-Z]", lambda letter: f"-{letter[0]}", name.lstrip("-")).lower()
    is_short = name[:2] in known and not (name in known and separator)
    if not name.startswith("-") or long not in known or is_short:
        return argument
    return f"{long}{separator}{value}"


class GoSize(Size):
    """Empty and 0 are the default, as in Go."""

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> int:
        """Bytes."""
        return 0 if str(value).strip() in ("", "0") else super().convert(value, param, ctx)


def switch(name: str, default: bool, help: str, **more: Any) -> Callable[[Decorated], Decorated]:
    """A boolean flag as Go reads it: `--name`, `--name=true` and `--name=false`."""
    return click.option(
        f"--{name}", type=bool, is_flag=False, flag_value=True, default=default, help=help, metavar="BOOL", **more
    )


def go_flags(command: Decorated) -> Decorated:
    """The flags of this table, hidden from `--help`."""
    for flag, refused in REFUSED.items():
        command = _hidden(flag, _refuser(flag, refused))(command)
    for flag in IGNORED:
        command = _hidden(flag, None)(command)
    for option in (
        click.option("-v", "--v", "verbosity", type=int, hidden=True),
        click.option("--zap-log-level", "zap_level", hidden=True),
        click.option("--zap-encoder", "zap_encoder", type=click.Choice(["json", "console"]), hidden=True),
    ):
        command = option(command)
    return command


def log_options(options: dict[str, Any]) -> dict[str, str]:
    """`log_level` and `log_format`, as Go's flags for the same would have them."""
    level, layout = options["log_level"], options["log_format"]
    if options["zap_encoder"]:
        layout = "json" if options["zap_encoder"] == "json" else "text"
    zap = str(options["zap_level"] or "").lower()
    if (options["verbosity"] or 0) >= _DEBUG_VERBOSITY or (zap.isdigit() and int(zap) >= _DEBUG_VERBOSITY):
        level = "debug"
    return {"log_level": _LEVELS.get(zap, level), "log_format": layout}


def _hidden(flag: str, callback: Callable[..., Any] | None) -> Callable[[Decorated], Decorated]:
    return click.option(
        f"--{flag}", is_flag=False, flag_value="true", hidden=True, expose_value=False, callback=callback
    )


def _refuser(flag: str, refused: Refused) -> Callable[[click.Context, click.Parameter, str | None], None]:
    def refuse(context: click.Context, parameter: click.Parameter, value: str | None) -> None:
        if value is not None and value not in refused.harmless:
            raise click.UsageError(f"--{flag} of the Go picker has no counterpart: {refused.hint}")

    return refuse
