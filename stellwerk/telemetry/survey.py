"""From members to what people are shown of them."""

from collections.abc import Callable, Mapping
from math import isfinite
from typing import Protocol

from stellwerk.model.fleet import Member
from stellwerk.model.view import EndpointView, PoolView


class Level(Protocol):
    """How full a pool is."""

    @property
    def value(self) -> float: ...
    @property
    def cause(self) -> str: ...


def survey(
    pools: Mapping[str, tuple[Member, ...]],
    levels: Mapping[str, Level],
    blocks_of: Callable[[int], int] | None,
    now: float,
) -> tuple[PoolView, ...]:
    """The pools in order. `blocks_of` tells how many prefix blocks a slot holds."""
    return tuple(
        PoolView(
            name=name,
            endpoints=tuple(_endpoint(member, blocks_of, now) for member in members),
            saturation=levels[name].value,
            saturation_cause=levels[name].cause,
        )
        for name, members in pools.items()
    )


def _endpoint(member: Member, blocks_of: Callable[[int], int] | None, now: float) -> EndpointView:
    sample = member.sample
    return EndpointView(
        key=member.endpoint.key,
        address=member.endpoint.address,
        engine=member.endpoint.engine,
        health=member.health.value,
        health_reason=member.health_reason,
        waiting=_known(member.waiting),
        running=_known(member.running),
        kv_use=_known(member.kv_use),
        age_seconds=_known(now - member.sampled_at),
        requests=member.requests,
        tokens=member.tokens,
        models=None if member.models is None else tuple(member.models),
        running_adapters=tuple(sorted(sample.running_adapters)) if sample is not None else (),
        waiting_adapters=tuple(sorted(sample.waiting_adapters)) if sample is not None else (),
        prefix_blocks=blocks_of(member.slot) if blocks_of is not None and member.slot >= 0 else 0,
        implausible=sample.implausible if sample is not None else (),
    )


def _known(value: float) -> float | None:
    return value if isfinite(value) else None
