"""What every program of ours does around its work: run the loop, and tell what a user can mend in one line."""

import sys
from collections.abc import Callable, Coroutine
from typing import Any

import uvloop

from stellwerk.blueprint import Source
from stellwerk.config import Config
from stellwerk.edge import memory, preflight
from stellwerk.edge.objects import ObjectsInvalid, ObjectSource


def files_of(config: Config) -> ObjectSource:
    """The objects of the command line."""
    texts = [Source("--config-text", config.picker_text.encode(), True)] if config.picker_text is not None else ()
    return ObjectSource(config.objects, config.servers, config.picker_config, texts)


def running(main: Callable[[], Coroutine[Any, Any, None]]) -> int:
    """Run to the end; what a user can mend is one line, or one per problem, and exit status 1."""
    memory.keep_freed()
    try:
        uvloop.run(main())
    except (ObjectsInvalid, preflight.CannotStart, OSError, BaseExceptionGroup) as error:
        problem = _first_of(error)
        if not isinstance(problem, ObjectsInvalid | preflight.CannotStart | OSError):
            raise
        print(problem if isinstance(problem, ObjectsInvalid) else f"stellwerk: {problem}", file=sys.stderr)
        return 1
    return 0


def _first_of(problem: BaseException) -> BaseException:
    """The first leaf of a group; anything else is its own."""
    while isinstance(problem, BaseExceptionGroup):
        problem = problem.exceptions[0]
    return problem
