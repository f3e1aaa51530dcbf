"""Service addresses, by nftables in the node's namespace: sent on to ready endpoints, reset where there are none.

Also hands out the external addresses of LoadBalancer Services.
"""

import ipaddress
import sys
import threading
import time
from collections.abc import Iterator

from tests.cluster import network
from tests.cluster.addresses import EXTERNAL_NETWORK, FIRST_LOAD_BALANCER, SERVICE_NETWORK
from tests.cluster.api import Api, ApiError, Cache, Document

_Targets = dict[tuple[str, str, str], set[tuple[str, int]]]
_SETTLE_SECONDS = 0.05


class ServiceProxy(threading.Thread):
    """Follows Services and EndpointSlices, and rewrites all rules in one step when they change."""

    def __init__(self, api: Api) -> None:
        super().__init__(daemon=True, name="service proxy")
        self._api = api
        self._changed = threading.Event()
        self._given: dict[str, str] = {}
        """External address by the Service's uid."""
        self._services = Cache(api, "/api/v1/services", self._changed.set)
        self._slices = Cache(api, "/apis/discovery.k8s.io/v1/endpointslices", self._changed.set)

    def run(self) -> None:
        """For ever."""
        last = ""
        while True:
            self._changed.wait()
            time.sleep(_SETTLE_SECONDS)
            self._changed.clear()
            services = self._services.all()
            try:
                self._give_addresses(services)
                text = rules(services, self._slices.all(), self._given)
                if text != last:
                    network.run(["nft", "-f", "-"], text)
                    last = text
            except (ApiError, OSError, network.NetworkError) as problem:  # a Service that is just going away
                sys.stderr.write(f"service proxy: {problem}\n")
                time.sleep(1)
                self._changed.set()

    def _give_addresses(self, services: list[Document]) -> None:
        balanced = {each["metadata"]["uid"]: each for each in services if each["spec"]["type"] == "LoadBalancer"}
        self._given = {uid: address for uid, address in self._given.items() if uid in balanced}
        for uid, service in balanced.items():
            address = self._given.get(uid) or self._free_address(service["spec"].get("loadBalancerIP"))
            self._given[uid] = address
            if service.get("status", {}).get("loadBalancer", {}).get("ingress"):
                continue
            meta = service["metadata"]
            ingress = {"loadBalancer": {"ingress": [{"ip": address, "ipMode": "VIP"}]}}
            path = f"/api/v1/namespaces/{meta['namespace']}/services/{meta['name']}/status"
            self._api.merge(path, {"status": ingress})

    def _free_address(self, wanted: str | None) -> str:
        pool = ipaddress.ip_network(EXTERNAL_NETWORK)
        if wanted and ipaddress.ip_address(wanted) in pool and wanted not in self._given.values():
            return wanted
        numbers = range(FIRST_LOAD_BALANCER, pool.num_addresses - 1)
        return next(str(pool[n]) for n in numbers if str(pool[n]) not in self._given.values())


def rules(services: list[Document], slices: list[Document], external: dict[str, str]) -> str:
    """A script for `nft` that replaces all that was there."""
    targets = _targets(slices)
    chosen = "\n".join(sorted(f"    {line}" for each in services for line in _choices(each, targets, external)))
    addresses = sorted({address for each in targets.values() for address, _ in each}) or ["0.0.0.0"]
    own = ", ".join(f"{each} . {each}" for each in addresses)
    reset = f"ip daddr {SERVICE_NETWORK} meta l4proto tcp reject with tcp reset"
    return f"""add table ip services
delete table ip services
table ip services {{
  chain choose {{
{chosen}
  }}
  chain incoming {{ type nat hook prerouting priority -100; jump choose; }}
  chain local {{ type nat hook output priority -100; jump choose; }}
  chain hairpin {{ type nat hook postrouting priority 100; ip saddr . ip daddr {{ {own} }} masquerade; }}
  chain none_forwarded {{ type filter hook forward priority 0; {reset}; }}
  chain none_local {{ type filter hook output priority 0; {reset}; }}
}}
"""


def _targets(slices: list[Document]) -> _Targets:
    """(namespace, Service, port name) -> ready endpoints."""
    found: _Targets = {}
    for each in slices:
        meta = each["metadata"]
        service = meta.get("labels", {}).get("kubernetes.io/service-name", "")
        ready = [one for one in each.get("endpoints") or [] if one.get("conditions", {}).get("ready", True)]
        addresses = [address for one in ready for address in one["addresses"] if each["addressType"] == "IPv4"]
        for port in each.get("ports") or []:
            place = found.setdefault((meta["namespace"], service, port.get("name") or ""), set())
            place.update((address, port["port"]) for address in addresses)
    return found


def _choices(service: Document, targets: _Targets, external: dict[str, str]) -> Iterator[str]:
    """One rule per port that has endpoints: pick one at random."""
    meta, spec = service["metadata"], service["spec"]
    if spec.get("clusterIP") in (None, "", "None"):
        return
    addresses = [spec["clusterIP"], *([external[meta["uid"]]] if meta["uid"] in external else [])]
    for port in spec.get("ports", []):
        found = sorted(targets.get((meta["namespace"], meta["name"], port.get("name") or ""), ()))
        if found:
            choices = ", ".join(f"{i} : {address} . {number}" for i, (address, number) in enumerate(found))
            yield (
                f"ip daddr {{ {', '.join(addresses)} }} {port['protocol'].lower()} dport {port['port']} "
                f"dnat ip to numgen random mod {len(found)} map {{ {choices} }}"
            )
