"""Flags of the Go pickers (llm-d router v0.10, GIE v1.5, lwepp v1.6) beyond those that `stellwerk epp` has itself.

Some are accepted for their meaning here, some without effect, so that charts and manifests start this picker unchanged;
what would silently do something else is refused with a word on what to do instead.
"""

from collections.abc import Callable
from typing import Any, NamedTuple, TypeVar

import click

Decorated = TypeVar("Decorated", bound=Callable[..., Any])


class Refused(NamedTuple):
    """A flag that is not supported, why, and values of it that ask for nothing."""

    hint: str
    harmless: tuple[str, ...] = ()


_ENGINE = "metric names follow from the engine: label the Pods llm-d.ai/engine-type=vllm (or sglang, triton, ...)"
_PLAIN = "metrics are served without TLS, to bearers of a token that may read them: leave it out"

REFUSED = {
    "grpc-max-send-msg-size": Refused("bodies go to the proxy in pieces of 62,000 bytes: leave it out"),
    "tls-cipher-suites": Refused("the ciphers are those of OpenSSL for --tls-min-version: leave it out"),
    "metrics-cert-dir": Refused(_PLAIN, ("",)),
    "metrics-client-ca-file": Refused(_PLAIN, ("",)),
    "refresh-prometheus-metrics-interval": Refused("metrics are computed when they are read: leave it out"),
    "tracing": Refused("no spans are exported; decisions are at /api/decisions: use --tracing=false", ("false",)),
    "enable-pprof": Refused("there is no pprof here: use --enable-pprof=false", ("false",)),
    "total-queued-requests-metric": Refused(_ENGINE),
    "total-running-requests-metric": Refused(_ENGINE),
    "kv-cache-usage-percentage-metric": Refused(_ENGINE),
    "lora-info-metric": Refused(_ENGINE),
    "cache-info-metric": Refused(_ENGINE),
    "model-server-metrics-port": Refused("metrics are read from the port that serves: leave it out", ("0",)),
    "model-server-metrics-path": Refused("metrics are read from /metrics: leave it out", ("/metrics",)),
    "model-server-metrics-scheme": Refused("metrics are read over http: leave it out", ("http",)),
    "model-server-metrics-https-insecure-skip-verify": Refused(
        "metrics are read over http: leave it out", ("true", "false")
    ),
}
IGNORED = (
    "allow-experimental-plugins",
    "enable-grpc-stream-metrics",
    "zap-devel",
    "zap-stacktrace-level",
    "zap-time-encoding",
)
"""They ask for what is always so here, or for details of another log."""
_DEBUG_VERBOSITY = 4
"""Go's verbosity from which it writes of single requests."""
_LEVELS = {"debug": "debug", "info": "info", "warn": "warning", "warning": "warning", "error": "error"}


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
        click.option("--v", "verbosity", type=click.IntRange(0, 10), hidden=True),
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
