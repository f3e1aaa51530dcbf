"""The node: binds pods to itself, runs them, and keeps its Node object. One thread per pod."""

import ipaddress
import os
import sys
import threading
from pathlib import Path
from typing import Any

from tests.cluster.addresses import KUBELET_PORT, NODE_IP, NODE_NAME, POD_NETWORK
from tests.cluster.api import Api, ApiError, Document
from tests.cluster.images import Image
from tests.cluster.kubelet_api import KubeletApi
from tests.cluster.pod import Pod, timestamp

_MOST_PODS = 500


class Kubelet:
    """Owns the pods of this node. Pods that name another node are left alone."""

    def __init__(self, api: Api, directory: Path, images: dict[str, Image]) -> None:
        self._api = api
        self._directory = directory
        self._images = images
        self._pods: dict[str, Pod] = {}
        self._lock = threading.Lock()
        hosts = ipaddress.ip_network(POD_NETWORK).hosts()
        next(hosts)
        self._free = [str(next(hosts)) for _ in range(2 * _MOST_PODS)]
        """Used in turn, so an address comes back late."""

    def start(self) -> None:
        """Register, then follow pods in a thread, and serve what kubectl asks of them."""
        self._register()
        KubeletApi(self._directory, self._network_of).start()
        watching = threading.Thread(
            target=self._api.watch, args=("/api/v1/pods", self._on_pod), daemon=True, name="pods"
        )
        watching.start()

    def _register(self) -> None:
        labels = {"kubernetes.io/hostname": NODE_NAME, "kubernetes.io/os": "linux"}
        node = {"apiVersion": "v1", "kind": "Node", "metadata": {"name": NODE_NAME, "labels": labels}}
        try:
            self._api.call("POST", "/api/v1/nodes", node)
        except ApiError as problem:
            if problem.code != 409:
                raise
        size = {"cpu": str(os.cpu_count()), "memory": "16Gi", "pods": str(_MOST_PODS)}
        ready = {
            "type": "Ready",
            "status": "True",
            "reason": "KubeletReady",
            "lastHeartbeatTime": timestamp(),
            "lastTransitionTime": timestamp(),
        }
        addresses = [{"type": "InternalIP", "address": NODE_IP}, {"type": "Hostname", "address": NODE_NAME}]
        status = {
            "addresses": addresses,
            "capacity": size,
            "allocatable": size,
            "conditions": [ready],
            "daemonEndpoints": {"kubeletEndpoint": {"Port": KUBELET_PORT}},
        }
        self._api.merge(f"/api/v1/nodes/{NODE_NAME}/status", {"status": status})

    def _on_pod(self, event: str, found: Any) -> None:
        """A pod's event; after a new listing, all pods that are there, and those that are not."""
        if event == "SYNC":
            there = {each["metadata"]["uid"] for each in found}
            for gone in [each for each in self._pods.values() if each.uid not in there]:
                gone.deleted.set()
            for each in found:
                self._on_pod("ADDED", each)
            return
        meta = found["metadata"]
        pod = self._known(event, found)
        if pod is not None:
            pod.document = found
            if event == "DELETED" or meta.get("deletionTimestamp"):
                pod.deleted.set()

    def _known(self, event: str, found: Document) -> Pod | None:
        """Our pod; a new one is bound first, and started at the event of its binding."""
        meta, spec = found["metadata"], found["spec"]
        with self._lock:
            pod = self._pods.get(meta["uid"])
            if pod is not None or event == "DELETED":
                return pod
            if not spec.get("nodeName") and not meta.get("deletionTimestamp"):
                self._bind(found)
            if spec.get("nodeName") != NODE_NAME or found.get("status", {}).get("phase") in ("Succeeded", "Failed"):
                return None
            pod = Pod(self._api, found, self._free.pop(0), self._directory, self._images, self._forget)
            self._pods[pod.uid] = pod
            pod.start()
            return pod

    def _bind(self, found: Document) -> None:
        meta = found["metadata"]
        binding = {
            "apiVersion": "v1",
            "kind": "Binding",
            "metadata": {"name": meta["name"]},
            "target": {"apiVersion": "v1", "kind": "Node", "name": NODE_NAME},
        }
        try:
            self._api.call("POST", f"/api/v1/namespaces/{meta['namespace']}/pods/{meta['name']}/binding", binding)
        except ApiError as problem:
            sys.stderr.write(f"binding {meta['namespace']}/{meta['name']}: {problem}\n")

    def _network_of(self, namespace: str, name: str) -> str | None:
        with self._lock:
            return next((each.network for each in self._pods.values() if each.name == f"{namespace}/{name}"), None)

    def _forget(self, pod: Pod) -> None:
        with self._lock:
            self._pods.pop(pod.uid, None)
            self._free.append(pod.address)
