"""What Gateways run on, all of them together: whose objects are kept as wanted, and whose are left as they are.

A Gateway that has pods keeps them whatever becomes of its parameters, its class or its names; only what its pods may
read always follows what is asked for now.
"""

from collections.abc import Collection, Iterator, Mapping

from msgspec import Struct

from stellwerk.control.gateway.access import Account, bindings
from stellwerk.control.gateway.deployment import (
    Defaults,
    Observed,
    Owner,
    access,
    is_of_class,
    object_name,
    observed,
    owner_labels,
    owner_named,
    owner_of,
    workload,
)
from stellwerk.control.gateway.kinds import Gateway
from stellwerk.control.gateway.parameters import Parameters
from stellwerk.control.gateway.plan import GatewayPlan, Plan
from stellwerk.control.gateway.resources import ROLE_BINDINGS, ROLES, SERVICE_ACCOUNTS
from stellwerk.control.gateway.world import World, lost_gateways
from stellwerk.control.kube.resource import DEPLOYMENTS, SERVICES, Key, Object, Resource
from stellwerk.edge.kube.workloads import Copies, Workloads, place_of

_READING = (ROLES, ROLE_BINDINGS)


class Asked(Struct, frozen=True):
    """Of one Gateway. No parameters: those that it has are no good, or cannot be known."""

    parameters: Parameters | None = None
    secrets: frozenset[Key] = frozenset()


class Upkeep:
    """Owner of the workloads."""

    def __init__(
        self, workloads: Workloads, copies: Copies, defaults: Defaults, namespaces: tuple[str, ...] = ()
    ) -> None:
        self.workloads = workloads
        self.taken: dict[Owner, str] = {}
        """Gateways that cannot have what they run on, as something of somebody else has its name; with the reason."""
        self._copies, self._defaults, self._namespaces = copies, defaults, namespaces

    def claimed(self, world: World) -> frozenset[str]:
        """Gateways whose class is gone and that run on what was made for them as one of that class: they are still
        ours."""
        lost = lost_gateways(world)
        made = list(self._copies(DEPLOYMENTS).values()) if lost else []
        return frozenset(name for name in lost if any(is_of_class(each, world.gateways[name]) for each in made))

    def observed(self, gateway: Gateway) -> Observed:
        """How it stands."""
        deployment, service = (self._own(resource, gateway) for resource in (DEPLOYMENTS, SERVICES))
        return observed(deployment, service, self.taken.get(owner_labels(gateway), ""))

    async def keep(
        self, world: World, plan: Plan, asked: Mapping[str, Asked], unreadable: Collection[Key] = ()
    ) -> bool:
        """One round; True if other names are taken than before. `unreadable`: Gateways that are there, whatever they
        say."""
        planned = {owner_labels(each.gateway): each for each in plan.gateways.values()}
        left = {owner_labels(world.gateways[name]) for name in lost_gateways(world) - plan.gateways.keys()}
        left |= {owner_named(*key) for key in unreadable} - planned.keys()
        pods = {owner: self._pods(each, asked[each.name]) for owner, each in planned.items()}
        reading = {owner: access(each.gateway, asked[each.name].secrets) for owner, each in planned.items()}
        each_wanted = (value for part in (pods, reading) for objects in part.values() for value in objects)
        taken = await self.workloads.taken(each_wanted, self._copies)
        before, self.taken = self.taken, {}
        for (owner, _), problem in taken.items():
            self.taken.setdefault(owner, problem)
        kept = {owner for owner, objects in pods.items() if objects and owner not in self.taken}
        accounts = set(self._accounts(planned, kept, left))
        wanted = [value for owner in sorted(kept) for value in pods[owner]]
        for owner, each in planned.items():
            if _account(each.gateway) in accounts:
                wanted += [value for value in reading[owner] if (owner, place_of(value)) not in taken]

        def is_left(resource: Resource, owner: Owner) -> bool:
            return owner in left or (owner in planned and owner not in kept and resource not in _READING)

        wanted += bindings(accounts, self._namespaces)
        await self.workloads.keep(wanted, self._copies, is_left)
        return self.taken != before

    def _pods(self, planned: GatewayPlan, asked: Asked) -> tuple[Object, ...]:
        """Empty: as they are, if there are any."""
        if asked.parameters is None or not planned.serving:
            return ()
        return workload(planned.gateway, asked.parameters, self._defaults)

    def _accounts(
        self, planned: Mapping[Owner, GatewayPlan], kept: Collection[Owner], left: Collection[Owner]
    ) -> Iterator[Account]:
        """Accounts of pods that are there or about to be: never one of somebody else."""
        present = self._copies(SERVICE_ACCOUNTS)
        for owner, each in planned.items():
            account = _account(each.gateway)
            if owner in kept or (account in present and owner_of(present[account]) == owner):
                yield account
        yield from (account for account, value in present.items() if owner_of(value) in left)

    def _own(self, resource: Resource, gateway: Gateway) -> Object | None:
        value = self._copies(resource).get((gateway.metadata.namespace, object_name(gateway)))
        return value if value is not None and owner_of(value) == owner_labels(gateway) else None


def _account(gateway: Gateway) -> Account:
    return gateway.metadata.namespace, object_name(gateway)
