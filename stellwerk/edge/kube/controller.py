"""`stellwerk controller`: keeps the promises of a GatewayClass. Follows the objects, plans, writes statuses, and keeps
for each Gateway what it runs on.

One loop, level-based: whatever changed, a round looks at everything, and writes only where the cluster differs from the
plan. Followers are warm; the leader alone writes.
"""

import asyncio
import functools
import logging
import time
from collections.abc import Collection, Iterator, Mapping
from datetime import UTC, datetime

from msgspec import Struct
from msgspec.structs import replace

from stellwerk.blueprint import picker_problems
from stellwerk.control.gateway import kept
from stellwerk.control.gateway.assembly import FIELDS, Assembly
from stellwerk.control.gateway.deployment import Defaults, arguments
from stellwerk.control.gateway.kinds import Gateway
from stellwerk.control.gateway.models import model_statuses
from stellwerk.control.gateway.parameters import Malformed, Parameters
from stellwerk.control.gateway.plan import Plan, plan
from stellwerk.control.gateway.references import References, class_parameters, gateway_parameters, references
from stellwerk.control.gateway.resources import CONFIG_MAPS, GATEWAYS
from stellwerk.control.gateway.wanted import Invalid, StatusChange, condition_change, status_changes
from stellwerk.control.gateway.world import World, with_lost_classes
from stellwerk.control.kube.resource import OLD_POOLS, POLICY_RESOURCES, POOLS, SECRETS, Key, Resource
from stellwerk.control.remark import ObjectStatus
from stellwerk.edge.awaiting import HELD_SECONDS, Awaiting
from stellwerk.edge.kube.client import KubeClient
from stellwerk.edge.kube.copies import Copies
from stellwerk.edge.kube.errors import ApiError
from stellwerk.edge.kube.lease import Election
from stellwerk.edge.kube.patience import Patience
from stellwerk.edge.kube.rounds import RoundCounts, writes
from stellwerk.edge.kube.status import StatusWriter
from stellwerk.edge.kube.subjects import follow_all
from stellwerk.edge.kube.upkeep import Asked, Upkeep
from stellwerk.edge.kube.workloads import AT_ONCE, Workloads
from stellwerk.telemetry.render import Family, gauge

log = logging.getLogger("stellwerk.controller")

CONTROLLER = "stellwerk.dev/gateway-controller"
MAX_TOLD = 5
"""Problems of one text that a condition names."""
_ROUND = "round"

_Chosen = Mapping[str, Parameters | Malformed]


class Settings(Struct, frozen=True):
    """Of one controller process."""

    controller: str = CONTROLLER
    """`spec.controllerName` of the classes that are ours."""
    namespaces: tuple[str, ...] = ()
    """Only these are looked at; none: all."""
    defaults: Defaults = Defaults()
    settle_seconds: float = 0.05
    """From the first news to the round: what changes together is seen together."""
    held_seconds: float = HELD_SECONDS
    """So long a round waits for ConfigMaps and Secrets that are named for the first time; then they count as missing,
    which takes nothing away."""
    retry_seconds: float = 0.5
    """First pause before an object that could not be written is tried again; doubles with each failure."""
    retry_limit_seconds: float = 30.0


class Controller:
    """Owner of the copies and of the plan. `run` until cancelled."""

    def __init__(self, client: KubeClient, settings: Settings, election: Election | None = None) -> None:
        """Without `election` it leads."""
        self.settings = settings
        self.counts = RoundCounts()
        self.plan = Plan()
        self.copies = Copies(client, self._on_change)
        self.statuses = StatusWriter(client)
        self._patience = Patience(settings.retry_seconds, settings.retry_limit_seconds)
        shared = arguments(settings.controller, settings.namespaces)
        defaults = replace(settings.defaults, arguments=(*shared, *settings.defaults.arguments))
        self.workloads = Workloads(client, self._patience)
        self.upkeep = Upkeep(self.workloads, self.copies.objects, defaults, settings.namespaces)
        self.status_errors: dict[str, str] = {}
        """By object: why its status could not be written."""
        self._election = election
        self._assembly = Assembly()
        self._world = World()
        """What the plan is made from: that of the assembly, and classes that are gone."""
        self._claimed: frozenset[str] = frozenset()
        """Gateways whose class is gone and that are still ours."""
        self._references = References()
        self._models_changed = True
        self._model_statuses: tuple[ObjectStatus, ...] = ()
        self._wake = asyncio.Event()
        self._awaiting = Awaiting(self._wake.set, settings.held_seconds)
        self._is_planned = False

    async def run(self) -> None:
        """Follow, plan and write until cancelled; then give the lease back."""
        follow_all(self.copies, self.settings.namespaces)
        async with asyncio.TaskGroup() as group:
            group.create_task(self.copies.run(), name="copies")
            if self._election is not None:
                group.create_task(self._election.run(self._wake.set), name="lease")
            group.create_task(self._rounds(), name="rounds")

    @property
    def is_leader(self) -> bool:
        """Whether this process may write."""
        return self._election is None or self._election.is_leader

    def unready(self) -> Iterator[str]:
        """Why it cannot lead, if it had to."""
        for name in self.copies.unsynced_kinds:
            yield f"{name} not read yet"

    def remarks(self) -> Iterator[str]:
        """What is wrong although it works."""
        yield from self.copies.problems
        yield from map(str, self._assembly.problems)
        for name, error in {**self.status_errors, **self.workloads.errors}.items():
            yield f"{name}: {error}"
        if self._election is not None and self._election.error:
            yield f"lease: {self._election.error}"

    def families(self) -> Iterator[Family]:
        """For the metrics page."""
        yield from self.counts.families()
        yield gauge("stellwerk_controller_leader", "1 while this process may write.", int(self.is_leader))
        yield gauge("stellwerk_controller_gateways", "Gateways of our classes.", len(self.plan.gateways))
        told, kept = self.statuses.counts, self.workloads.counts
        yield writes(
            "status",
            "Statuses, by what became of them.",
            {"written": told.written, "unchanged": told.unchanged, "conflict": told.conflicts, "failed": told.failed},
        )
        yield writes(
            "workload",
            "Objects that Gateways run on, by what was done.",
            {"applied": kept.applied, "deleted": kept.deleted, "failed": kept.failed},
        )
        yield from self.copies.families()

    # -- following -------------------------------------------------------------------------------------------------

    def _on_change(self, resource: Resource, keys: Collection[Key]) -> None:
        if resource in FIELDS:
            copies = self.copies.objects(resource)
            for key in keys:
                self._assembly.put(resource, key, copies.get(key))
        if resource in (POOLS, OLD_POOLS, *POLICY_RESOURCES):
            self._models_changed = True
        self._wake.set()

    # -- rounds ----------------------------------------------------------------------------------------------------

    async def _rounds(self) -> None:
        while True:
            await self._wake.wait()
            await asyncio.sleep(self.settings.settle_seconds)
            self._wake.clear()
            began = time.monotonic()
            await self._round()
            self.counts.took(time.monotonic() - began)
            wait = self._patience.wait()
            if wait is not None:
                self.counts.failed += 1
                asyncio.get_running_loop().call_later(wait, self._wake.set)

    async def _round(self) -> None:
        """The one door: a bug in a round is told, and the round tried again."""
        try:
            if await self._look() and self.is_leader:
                await self._write()
        except Exception:
            self.counts.bugs += 1
            self._patience.failed(_ROUND)
            log.exception("a round failed, by a bug")
        else:
            self._patience.succeeded(_ROUND)

    async def _look(self) -> bool:
        """Bring the plan up to date; False while the copies are not whole."""
        is_new, claimed = self._assembly.settle(), self.upkeep.claimed(self._assembly.world)
        if is_new or claimed != self._claimed:
            self._is_planned, self._claimed = False, claimed
            self._world = with_lost_classes(self._assembly.world, self.settings.controller, claimed)
            self._references = references(self._world, self.settings.controller)
            self.copies.name(CONFIG_MAPS, self._references.config_maps)
            self.copies.name(SECRETS, self._references.all_secrets, kept.secret)
        if self.copies.unsynced_kinds or self._awaiting.is_worth_it(self.copies.unsynced):
            return False
        if not self._is_planned:
            # On a thread: with thousands of hostnames it takes longer than the lease or a probe should wait.
            self.plan = await asyncio.to_thread(plan, self._world, self.settings.controller)
            self._is_planned = True
            self.counts.planned += 1
        return True

    async def _write(self) -> None:
        """Everything that differs."""
        world, of = self._world, self.plan
        of_class = {each.metadata.name: class_parameters(each, world, _wrong_picker) for each in of.classes}
        of_gateway = {
            name: gateway_parameters(each.gateway, world, _wrong_picker) for name, each in of.gateways.items()
        }
        invalid = Invalid(_malformed(of_class), _malformed(of_gateway))
        found = {name: self.upkeep.observed(each.gateway) for name, each in self.plan.gateways.items()}
        now = datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
        changes = [
            *status_changes(self.plan, self.settings.controller, self.copies.objects, found, invalid, now),
            *self._model_changes(now),
        ]
        await self._tell(changes)
        asked = {name: self._asked(each.gateway, of_class, of_gateway) for name, each in self.plan.gateways.items()}
        unreadable = self._assembly.unreadable(GATEWAYS)
        if await self.upkeep.keep(self._assembly.world, self.plan, asked, unreadable):
            self._wake.set()

    def _asked(self, gateway: Gateway, of_class: _Chosen, of_gateway: _Chosen) -> Asked:
        """What a Gateway is to run on. While its class is gone nobody knows what that says."""
        name, of = gateway.full_name, gateway.spec.gateway_class_name
        own, common = of_gateway[name], of_class[of]
        secrets = self._references.secrets.get(name, frozenset())
        if name in self._claimed or isinstance(own, Malformed) or isinstance(common, Malformed):
            return Asked(None, secrets)
        return Asked(own.over(common), secrets)

    async def _tell(self, changes: list[StatusChange]) -> None:
        places = asyncio.Semaphore(AT_ONCE)
        due = {_status_name(change): change for change in changes}
        self.status_errors = {name: error for name, error in self.status_errors.items() if name in due}

        async def one(name: str, change: StatusChange) -> None:
            async with places:
                try:
                    if await self.statuses.write(change.resource, change.value, change.change):
                        log.debug("%s written", name)
                except ApiError as error:
                    self._patience.failed(name)
                    if self.status_errors.get(name) != str(error):
                        log.warning("%s not written: %s", name, error)
                    self.status_errors[name] = str(error)
                else:
                    self._patience.succeeded(name)
                    self.status_errors.pop(name, None)

        async with asyncio.TaskGroup() as group:
            for name, change in due.items():
                if self._patience.is_due(name):
                    group.create_task(one(name, change))

    def _model_changes(self, now: str) -> Iterator[StatusChange]:
        """Of the kinds that refer to a pool."""
        kinds = {(resource.api_version, resource.kind): resource for resource in POLICY_RESOURCES}
        if self._models_changed:
            self._models_changed = False
            read = (POOLS, OLD_POOLS, *POLICY_RESOURCES)
            self._model_statuses = model_statuses(v for one in read for v in self.copies.objects(one).values())
        for status in self._model_statuses:
            resource = kinds.get((status.api_version, status.kind))
            value = self.copies.objects(resource).get((status.namespace, status.name)) if resource else None
            if resource is None or value is None:
                continue
            change = condition_change(resource, value, status.conditions, now)
            if change is not None:
                yield StatusChange(resource, value, change)


@functools.lru_cache(maxsize=256)
def _wrong_picker(where: str, text: str) -> str:
    """What is wrong with an EndpointPickerConfig among parameters; remembered, since every round asks."""
    return "; ".join(map(str, picker_problems(where, text)[:MAX_TOLD]))


def _status_name(change: StatusChange) -> str:
    metadata = change.value["metadata"]
    return f"status of {change.resource.kind} {metadata.get('namespace', '')}/{metadata['name']}"


def _malformed(found: Mapping[str, Parameters | Malformed]) -> dict[str, str]:
    return {name: each.message for name, each in found.items() if isinstance(each, Malformed)}
