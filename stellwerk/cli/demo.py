"""`stellwerk demo`: model servers, gateway and traffic in one command."""

import sys

import click


@click.command(context_settings={"show_default": True})
@click.option("--once", is_flag=True, help="Check what the gateway promises, print the results and exit.")
@click.option("--servers", default=4, type=click.IntRange(1, 64), help="Simulated model servers.")
def demo(once: bool, servers: int) -> None:
    """Run simulated model servers, the gateway and sample traffic, with a live table and lines to try. Ctrl-C ends it.

    Ports are 8080 (clients), 9090 (admin) and 8001 up (servers); whichever is taken is replaced by a free one.
    """
    import asyncio
    from pathlib import Path

    from rich.console import Console

    from stellwerk.config import Address
    from stellwerk.demo import ports
    from stellwerk.demo.play import Stage, directory, play

    listen, admin, first = ports.choose(8080, 9090, 8001, servers)
    with directory() as path:
        stage = Stage(Address(port=listen), Address(port=admin), first, servers, Path(path))
        sys.exit(asyncio.run(play(stage, Console(), once)))
