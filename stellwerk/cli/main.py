"""The `stellwerk` command: a group that imports a command only when it is run, so that `--help` stays fast."""

import importlib
from typing import NamedTuple

import click

import stellwerk


class Lazy(NamedTuple):
    """Where a command lives (`module:attribute`), and its line in the list of commands."""

    where: str
    summary: str


COMMANDS = {
    "run": Lazy("stellwerk.cli.run:run", "The whole gateway on this machine: Envoy, endpoint picker, admin API."),
    "demo": Lazy("stellwerk.cli.demo:demo", "Model servers, gateway and sample traffic in one command."),
    "sim": Lazy("stellwerk.cli.sim:sim", "Simulated vLLM servers with real HTTP, metrics and faults."),
    "epp": Lazy("stellwerk.cli.epp:epp", "The endpoint picker alone, behind any gateway of the Inference Extension."),
    "controller": Lazy("stellwerk.cli.controller:controller", "In a cluster: keeps the Gateways of our classes."),
    "gateway": Lazy("stellwerk.cli.gateway:gateway", "In a cluster: serves one Gateway's routes."),
    "validate": Lazy("stellwerk.cli.validate:validate", "Check objects and picker configuration offline."),
    "crds": Lazy("stellwerk.cli.crds:crds", "The CustomResourceDefinitions, for a cluster."),
}

EPILOG = """\b
Two vLLM servers behind one address:
  stellwerk run --server http://127.0.0.1:8001 --server http://127.0.0.1:8002
Pools, canaries and priorities from files, reloaded when they change:
  stellwerk validate -f objects/ && stellwerk run -f objects/
Everything at once, without a GPU:
  stellwerk demo

Every option of a command can also be set as STELLWERK_<COMMAND>_<OPTION> in the environment; values of a repeatable one
are separated by spaces."""


class LazyGroup(click.Group):
    """A click group over `COMMANDS`."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        """The names, in the order in which people meet them."""
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """Import and return one command; None for an unknown name."""
        lazy = COMMANDS.get(cmd_name)
        if lazy is None:
            return None
        module, _, attribute = lazy.where.partition(":")
        command = getattr(importlib.import_module(module), attribute)
        assert isinstance(command, click.Command)
        for option in command.params:
            if isinstance(option, click.Option) and option.envvar is None:
                option.envvar = environment_name(cmd_name, option)
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """The list of commands, without importing any."""
        with formatter.section("Commands"):
            formatter.write_dl([(name, lazy.summary) for name, lazy in COMMANDS.items()])


def environment_name(command: str, option: click.Option) -> str:
    """`STELLWERK_<COMMAND>_<OPTION>`, after the longest spelling of the option. Click by itself goes by the name that
    the value has in the code."""
    longest = max(option.opts, key=len)
    return "_".join(["STELLWERK", command, *longest.lstrip("-").split("-")]).upper()


@click.group(cls=LazyGroup, epilog=EPILOG, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(stellwerk.__version__, prog_name="stellwerk")
def main() -> None:
    """Stellwerk puts one OpenAI-compatible address in front of many model servers, and decides per request which model,
    whether now, and on which replica."""


def run_main() -> None:
    """Entry point; the prefix makes `STELLWERK_RUN_LISTEN` set `run --listen`."""
    main(auto_envvar_prefix="STELLWERK")
