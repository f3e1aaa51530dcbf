"""All that one process follows at an API server: whole kinds, in some namespaces or all, and single objects by name.

Single objects are for what must not be read at large (Secrets) or is too much to (ConfigMaps).
"""

import asyncio
from collections import ChainMap
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from functools import partial

from stellwerk.control.kube.replica import Keep
from stellwerk.control.kube.resource import Key, Object, Resource, without_bulk
from stellwerk.edge.kube.client import KubeClient
from stellwerk.edge.kube.following import silence
from stellwerk.edge.kube.reflector import Reflector
from stellwerk.telemetry.render import Family

OnChange = Callable[[Resource, Collection[Key]], None]


class Copies:
    """Owner of the reflectors. `follow` and `name` before or while `run` runs."""

    def __init__(self, client: KubeClient, on_change: OnChange) -> None:
        self._client, self._on_change = client, on_change
        self._whole: dict[Resource, list[Reflector]] = {}
        self._named: dict[tuple[Resource, Key], Reflector] = {}
        self._tasks: dict[Reflector, asyncio.Task[None]] = {}
        self._group: asyncio.TaskGroup | None = None

    def follow(
        self,
        resource: Resource,
        namespaces: Sequence[str] = (),
        keep: Keep = without_bulk,
        label_selector: str | None = None,
        *,
        is_optional: bool = False,
    ) -> None:
        """A whole kind; in all namespaces if none is given. `is_optional`: it may not be installed."""
        places: Sequence[str | None] = namespaces if namespaces and resource.namespaced else (None,)
        for place in places:
            reflector = Reflector(self._client, resource, place, label_selector, keep=keep, is_optional=is_optional)
            self._whole.setdefault(resource, []).append(reflector)
            self._start(reflector)

    def name(self, resource: Resource, keys: Iterable[Key], keep: Keep = without_bulk) -> None:
        """Follow exactly the objects `keys` of a kind from now on."""
        wanted = set(keys)
        for known, key in [place for place in self._named if place[0] == resource]:
            if key not in wanted:
                self._stop(self._named.pop((known, key)))
                self._on_change(resource, (key,))
        for key in sorted(wanted):
            if (resource, key) not in self._named:
                namespace, name = key
                reflector = Reflector(
                    self._client,
                    resource,
                    namespace or None,
                    field_selector=f"metadata.name={name}",
                    keep=keep,
                    is_optional=True,
                )
                self._named[resource, key] = reflector
                self._start(reflector)

    async def run(self) -> None:
        """Follow until cancelled."""
        async with asyncio.TaskGroup() as group:
            self._group = group
            for reflector in self._all():
                self._start(reflector)
            await self._client.pulse.run()

    def objects(self, resource: Resource) -> Mapping[Key, Object]:
        """What is known of a kind. Do not change it; it changes."""
        parts = [reflector.objects for reflector in self._whole.get(resource, ())]
        parts += [reflector.objects for (known, _), reflector in self._named.items() if known == resource]
        if len(parts) == 1:
            return parts[0]
        return ChainMap(*(dict(part) for part in parts))

    @property
    def unsynced(self) -> list[str]:
        """What was never listed; empty: the copies are whole."""
        return [str(reflector) for reflector in self._all() if not reflector.synced]

    @property
    def unsynced_kinds(self) -> list[str]:
        """The same without single objects."""
        return [str(each) for reflectors in self._whole.values() for each in reflectors if not each.synced]

    @property
    def problems(self) -> list[str]:
        """What is not up to date, and why."""
        behind = [f"{reflector}: {reflector.error}" for reflector in self._all() if reflector.error]
        return [*map(str, silence(self._client.pulse)), *behind]

    @property
    def age_seconds(self) -> float:
        """Of the oldest copy."""
        return max((reflector.age_seconds for reflector in self._all()), default=0.0)

    def families(self) -> Iterator[Family]:
        """Per kind, for the metrics page."""
        kinds: dict[str, list[Reflector]] = {}
        for reflector in self._all():
            kinds.setdefault(str(reflector.resource), []).append(reflector)
        rows = sorted(kinds.items())
        yield Family(
            "stellwerk_kube_objects",
            "gauge",
            "Objects in the copy of a kind.",
            ("resource",),
            tuple(((kind,), sum(len(one.objects) for one in known)) for kind, known in rows),
        )
        yield Family(
            "stellwerk_kube_age_seconds",
            "gauge",
            "Since the API server last confirmed the copy; 0 while it is watched and answers.",
            ("resource",),
            tuple(((kind,), max(min(one.age_seconds, 1e9) for one in known)) for kind, known in rows),
        )
        for name, help, field in (
            ("events", "Watch events.", "events"),
            ("lists", "Lists that were asked for.", "lists"),
            ("errors", "Lists and watches that failed.", "errors"),
        ):
            yield Family(
                f"stellwerk_kube_{name}_total",
                "counter",
                help,
                ("resource",),
                tuple(((kind,), sum(getattr(one.counts, field) for one in known)) for kind, known in rows),
            )

    def _all(self) -> list[Reflector]:
        whole = [reflector for reflectors in self._whole.values() for reflector in reflectors]
        return [*whole, *self._named.values()]

    def _start(self, reflector: Reflector) -> None:
        if self._group is not None:
            run = reflector.run(partial(self._on_change, reflector.resource))
            self._tasks[reflector] = self._group.create_task(run, name=f"follow {reflector}")

    def _stop(self, reflector: Reflector) -> None:
        task = self._tasks.pop(reflector, None)
        if task is not None:
            task.cancel()
