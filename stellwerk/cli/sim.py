"""`stellwerk sim`: simulated vLLM servers, real HTTP on real ports."""

import asyncio
import contextlib
import signal
import sys
from pathlib import Path

import click
import msgspec
import uvloop

from stellwerk.sim.answers import AnswerLength
from stellwerk.sim.connection import ConnectionSettings
from stellwerk.sim.faults import MEANINGS, FaultError, parse_placed
from stellwerk.sim.service import CannotStart, Running, start
from stellwerk.sim.settings import SimSettings
from stellwerk.sim.shape import SPEEDS, Shape, StepTime

_FAULT_LINES = "\n".join(
    f"  {kind.value:16} {meaning.text}" + (f" (default {meaning.default:g})" if meaning.unit else "")
    for kind, meaning in MEANINGS.items()
)
_EPILOG = f"""\b
Examples:
  stellwerk sim --count 4                            four servers on 8001 to 8004
  stellwerk sim --lora sql --lora chat               with two adapters
  stellwerk sim --speed instant --port 0             answers at once, on a free port
  stellwerk sim --count 3 --fault 1:wedge --fault 2:slow=4
  curl localhost:8001/sim/fault -d '{{"kind": "error", "value": 503, "rate": 0.2}}'
  curl localhost:8001/sim/state; curl -X POST localhost:8001/sim/heal

\b
Faults are written SERVER:KIND[=VALUE][@RATE][/SECONDS]; SERVER is 0, 1, ... or all.
{_FAULT_LINES}

\b
What a gateway changed on the way can be seen: every answer carries x-sim-server and x-sim-body-sha256, and
x-sim-request-headers if the request has the header x-sim-echo-headers."""


@click.command(epilog=_EPILOG)
@click.option("--port", default=8001, show_default=True, help="First port; the others follow. 0: free ports.")
@click.option("--count", default=1, show_default=True, help="How many servers.")
@click.option("--host", default="127.0.0.1", show_default=True, help="Address to listen on.")
@click.option(
    "--model",
    "models",
    multiple=True,
    metavar="NAME",
    help="Served model name; repeat it for aliases.  [default: tiny]",
)
@click.option("--lora", "adapters", multiple=True, metavar="NAME", help="Adapter loaded at the start; repeatable.")
@click.option("--max-loras", type=int, help="Adapter slots.  [default: 4 with --lora, else 0]")
@click.option(
    "--speed",
    type=click.Choice(list(SPEEDS)),
    default="h100-8b",
    show_default=True,
    help="Preset of times and sizes, which the options below change.",
)
@click.option("--step-ms", type=float, help="Time of an engine step, before what its batch adds.")
@click.option("--sequence-ms", type=float, help="Time each sequence of the batch adds to a step.")
@click.option("--context-ns", type=float, help="Time each token of context in the batch adds to a step.")
@click.option("--prefill-rate", type=float, help="Prompt tokens computed per second; 0: all at once.")
@click.option("--adapter-load-ms", type=float, help="Time to load an adapter into a slot.")
@click.option("--max-num-seqs", type=int, help="Sequences computed at the same time.")
@click.option("--max-num-batched-tokens", type=int, help="Token budget of a step.")
@click.option("--block-size", type=int, help="Tokens per KV block.")
@click.option("--num-blocks", type=int, help="KV blocks.")
@click.option("--no-prefix-cache", is_flag=True, help="Forget every prompt.")
@click.option(
    "--max-model-len",
    type=int,
    help="Prompt and answer together, in tokens.  [default: 32768, or what KV memory holds]",
)
@click.option(
    "--output-tokens", default=128.0, show_default=True, help="Mean length of answers that end by themselves."
)
@click.option(
    "--output-spread", default=0.6, show_default=True, help="Their spread (sigma of a log-normal); 0: all alike."
)
@click.option("--seed", default=0, show_default=True, help="Other answers for the same questions.")
@click.option(
    "--enable-prompt-tokens-details",
    is_flag=True,
    help="Report cached prompt tokens in usage, as vLLM does with this flag.",
)
@click.option("--metrics-padding", default=0, show_default=True, metavar="BYTES", help="Make /metrics larger.")
@click.option(
    "--keep-alive", default=60.0, show_default=True, metavar="SECONDS", help="Close idle connections after so long."
)
@click.option("--no-echo", is_flag=True, help="No x-sim headers on answers.")
@click.option("--fault", "faults", multiple=True, metavar="FAULT", help="Start with a fault; repeatable, see below.")
@click.option(
    "--ports-file",
    type=click.Path(dir_okay=False, path_type=Path),
    help="Write the ports here, one per line, once all servers answer.",
)
def sim(**options: object) -> None:
    """Simulated vLLM servers: OpenAI and Anthropic endpoints, streams, adapters, prefix cache, queueing, /metrics.

    They compute nothing: times, KV memory, batches, queues and preemptions come from a model of the engine, so load
    looks to a gateway as it does in production, on a laptop."""
    ports_file = options["ports_file"]
    try:
        settings = _settings(msgspec.convert(options, _Options))
    except FaultError as error:
        raise click.UsageError(str(error)) from None
    problem = settings.problem()
    if problem is not None:
        raise click.UsageError(problem)
    try:
        uvloop.run(_serve(settings, ports_file if isinstance(ports_file, Path) else None))
    except CannotStart as error:
        raise click.ClickException(str(error)) from None


class _Options(msgspec.Struct, frozen=True):
    """The command line, typed."""

    port: int
    count: int
    host: str
    models: tuple[str, ...]
    adapters: tuple[str, ...]
    max_loras: int | None
    speed: str
    step_ms: float | None
    sequence_ms: float | None
    context_ns: float | None
    prefill_rate: float | None
    adapter_load_ms: float | None
    max_num_seqs: int | None
    max_num_batched_tokens: int | None
    block_size: int | None
    num_blocks: int | None
    no_prefix_cache: bool
    max_model_len: int | None
    output_tokens: float
    output_spread: float
    seed: int
    enable_prompt_tokens_details: bool
    metrics_padding: int
    keep_alive: float
    no_echo: bool
    faults: tuple[str, ...]


def _settings(options: _Options) -> SimSettings:
    shape = _shape(options)
    placed = (parse_placed(text, max(options.count, 1)) for text in options.faults)
    return SimSettings(
        count=options.count,
        host=options.host,
        port=options.port,
        models=options.models or ("tiny",),
        adapters=options.adapters,
        shape=shape,
        max_model_tokens=options.max_model_len or min(32_768, max(shape.kv_tokens, 1)),
        answer=AnswerLength(options.output_tokens, options.output_spread),
        seed=options.seed,
        faults=tuple((index, one) for indices, one in placed for index in indices),
        echoes=not options.no_echo,
        reports_cached_tokens=options.enable_prompt_tokens_details,
        metrics_padding_bytes=options.metrics_padding,
        connection=ConnectionSettings(keep_alive_seconds=options.keep_alive),
    )


def _or(value: float | None, factor: float, preset: float) -> float:
    return preset if value is None else value * factor


def _shape(options: _Options) -> Shape:
    preset = SPEEDS[options.speed]
    step = StepTime(
        base_seconds=_or(options.step_ms, 1e-3, preset.step.base_seconds),
        per_sequence_seconds=_or(options.sequence_ms, 1e-3, preset.step.per_sequence_seconds),
        per_context_token_seconds=_or(options.context_ns, 1e-9, preset.step.per_context_token_seconds),
        prefill_tokens_per_second=_or(options.prefill_rate, 1.0, preset.step.prefill_tokens_per_second),
        adapter_load_seconds=_or(options.adapter_load_ms, 1e-3, preset.step.adapter_load_seconds),
    )
    slots = options.max_loras if options.max_loras is not None else (4 if options.adapters else 0)
    return Shape(
        step=step,
        block_size=options.block_size if options.block_size is not None else preset.block_size,
        block_count=options.num_blocks if options.num_blocks is not None else preset.block_count,
        max_sequences=options.max_num_seqs if options.max_num_seqs is not None else preset.max_sequences,
        max_batched_tokens=(
            options.max_num_batched_tokens
            if options.max_num_batched_tokens is not None
            else max(preset.max_batched_tokens, options.max_num_seqs or 0)
        ),
        max_adapters=slots,
        has_prefix_cache=not options.no_prefix_cache,
    )


async def _serve(settings: SimSettings, ports_file: Path | None) -> None:
    stopped = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, stopped.set)
    async with await start(settings) as running:
        if ports_file is not None:
            _write_ports(ports_file, running)
        _announce(running)
        await stopped.wait()


def _write_ports(path: Path, running: Running) -> None:
    """Complete or not at all: a reader that polls never sees half a list."""
    draft = path.with_name(path.name + ".new")
    draft.write_text("".join(f"{port}\n" for port in running.ports))
    draft.replace(path)


def _announce(running: Running) -> None:
    settings = running.settings
    adapters = f", adapters {', '.join(settings.adapters)}" if settings.adapters else ""
    for index, server in enumerate(running.servers):
        faults = ", ".join(one.kind.value for one in server.faults)
        under = f"  (fault: {faults})" if faults else ""
        click.echo(f"{running.url(index)}  {', '.join(settings.models)}{adapters}{under}")
    if sys.stdout.isatty():
        click.echo("Ctrl-C stops. Faults: POST /sim/fault, state: GET /sim/state on any of the ports.")
    with contextlib.suppress(OSError):
        sys.stdout.flush()
