"""Gateway API objects in files, beside the others: what `edge.kube.gateway_world` has from an API server.

For trying routes on one machine, and for tests of them; pools and model servers come by `ObjectSource`.
"""

import asyncio
from collections.abc import Callable, Iterator, Sequence

from stellwerk.control.document import read
from stellwerk.control.finding import Finding
from stellwerk.control.gateway.world import World, world
from stellwerk.edge.objects.files import contents, fingerprint

_LOOK_SECONDS = 0.25


class WorldFiles:
    """Looks at the files a few times a second."""

    def __init__(self, paths: Sequence[str]) -> None:
        self._paths = tuple(paths)
        self._problems: tuple[Finding, ...] = ()

    async def load(self) -> World:
        """Everything that can be read."""
        return await asyncio.to_thread(self._read)

    async def run(self, apply: Callable[[World], None]) -> None:
        """Follow every change until cancelled."""
        seen = fingerprint(self._paths)
        while True:
            await asyncio.sleep(_LOOK_SECONDS)
            now = await asyncio.to_thread(fingerprint, self._paths)
            if now != seen:
                seen = now
                apply(await asyncio.to_thread(self._read))

    def remarks(self) -> Iterator[str]:
        """What could not be read."""
        yield from map(str, self._problems)

    def _read(self) -> World:
        found = contents(self._paths)
        texts = [read(source.name, source.data) for source in found.sources]
        values = [document.root.unfolded() for text in texts for document in text.documents]
        made, problems = world(value for value in values if isinstance(value, dict))
        self._problems = (*found.problems, *(problem for text in texts for problem in text.problems), *problems)
        return made
