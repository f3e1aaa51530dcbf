"""What pods are given from outside: files of Secrets, ConfigMaps, tokens and pod fields, and environment variables."""

import base64
import os
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from tests.cluster.addresses import KUBERNETES_SERVICE_IP, NODE_IP, NODE_NAME
from tests.cluster.api import Api, ApiError, Document

_TOKEN_SECONDS = 86400


class PodFiles:
    """Reads a pod's sources from the API server. Every method may raise ApiError or KeyError: not there yet."""

    def __init__(self, api: Api, pod: Document, address: str) -> None:
        self._api = api
        self._meta = pod["metadata"]
        self._spec = pod["spec"]
        self._address = address
        self._prefix = f"/api/v1/namespaces/{self._meta['namespace']}"

    def write(self, directory: Path) -> None:
        """Lay all volumes out under `directory`, one folder each. Everyone may read, and write what is empty."""
        for volume in self._spec.get("volumes", []):
            folder = directory / volume["name"]
            folder.mkdir(parents=True, exist_ok=True)
            if "emptyDir" in volume:
                folder.chmod(0o777)
            for name, content in self._files(volume).items():
                self._replace(folder / name, content)

    @staticmethod
    def _replace(path: Path, content: bytes) -> None:
        """As kubelet does, in one step for whoever reads; nothing when nothing changed."""
        if path.exists() and path.read_bytes() == content:
            return
        path.parent.mkdir(parents=True, exist_ok=True)
        partial = path.with_name(f".{path.name}.partial")
        partial.write_bytes(content)
        partial.chmod(0o644)
        partial.replace(path)

    def environment(self, container: Mapping[str, Any]) -> dict[str, str]:
        """Variables of a container, the cluster's own included."""
        values = {
            "PATH": os.environ["PATH"],
            "HOME": "/tmp",
            "HOSTNAME": self._meta["name"],
            "KUBERNETES_SERVICE_HOST": KUBERNETES_SERVICE_IP,
            "KUBERNETES_SERVICE_PORT": "443",
            "PYTHONDONTWRITEBYTECODE": "1",
        }
        for each in container.get("envFrom", []):
            values |= self._all_of(each)
        for each in container.get("env", []):
            values[each["name"]] = expanded(self._value(each), values)
        return values

    def _all_of(self, source: Mapping[str, Any]) -> dict[str, str]:
        """Every key of a Secret or ConfigMap; nothing where an optional one is missing."""
        found: dict[str, str] = {}
        for kind, plural in (("secretRef", "secrets"), ("configMapRef", "configmaps")):
            if kind in source:
                try:
                    data = self._data(plural, source[kind]["name"])
                except ApiError as problem:
                    if problem.code != 404 or not source[kind].get("optional"):
                        raise
                    continue
                found |= {source.get("prefix", "") + key: value.decode() for key, value in data.items()}
        return found

    def _value(self, variable: Mapping[str, Any]) -> str:
        source = variable.get("valueFrom", {})
        if "fieldRef" in source:
            return self._field(source["fieldRef"]["fieldPath"])
        for kind, plural in (("secretKeyRef", "secrets"), ("configMapKeyRef", "configmaps")):
            if kind in source:
                return self._data(plural, source[kind]["name"])[source[kind]["key"]].decode()
        return str(variable.get("value", ""))

    def _files(self, volume: Mapping[str, Any]) -> dict[str, bytes]:
        """Path inside the volume -> content."""
        if "secret" in volume:
            return self._chosen("secrets", volume["secret"], volume["secret"].get("secretName"))
        if "configMap" in volume:
            return self._chosen("configmaps", volume["configMap"], volume["configMap"].get("name"))
        if "downwardAPI" in volume:
            items = volume["downwardAPI"]["items"]
            return {each["path"]: self._field(each["fieldRef"]["fieldPath"]).encode() for each in items}
        found: dict[str, bytes] = {}
        for source in volume.get("projected", {}).get("sources", []):
            if "serviceAccountToken" in source:
                found[source["serviceAccountToken"]["path"]] = self._token(source["serviceAccountToken"])
            elif "secret" in source:
                found |= self._chosen("secrets", source["secret"], source["secret"]["name"])
            else:
                found |= self._files(source)
        return found

    def _chosen(self, plural: str, source: Mapping[str, Any], name: str) -> dict[str, bytes]:
        data = self._data(plural, name)
        items = source.get("items")
        return {each["path"]: data[each["key"]] for each in items} if items else data

    def _data(self, plural: str, name: str) -> dict[str, bytes]:
        found = self._api.get(f"{self._prefix}/{plural}/{name}")
        decoded = {key: base64.b64decode(value) for key, value in found.get("binaryData", {}).items()}
        for key, value in found.get("data", {}).items():
            decoded[key] = base64.b64decode(value) if plural == "secrets" else value.encode()
        return decoded

    def _token(self, source: Mapping[str, Any]) -> bytes:
        account = self._spec.get("serviceAccountName", "default")
        spec = {
            "audiences": [source["audience"]] if source.get("audience") else [],
            "expirationSeconds": _TOKEN_SECONDS,
            "boundObjectRef": {
                "kind": "Pod",
                "apiVersion": "v1",
                "name": self._meta["name"],
                "uid": self._meta["uid"],
            },
        }
        answer = self._api.call("POST", f"{self._prefix}/serviceaccounts/{account}/token", {"spec": spec})
        return str(answer["status"]["token"]).encode()

    def _field(self, path: str) -> str:
        if found := re.fullmatch(r"metadata\.(labels|annotations)\['(.+)'\]", path):
            return str(self._meta.get(found[1], {}).get(found[2], ""))
        return str(
            {
                "metadata.name": self._meta["name"],
                "metadata.namespace": self._meta["namespace"],
                "metadata.uid": self._meta["uid"],
                "status.podIP": self._address,
                "status.podIPs": self._address,
                "status.hostIP": NODE_IP,
                "spec.nodeName": NODE_NAME,
                "spec.serviceAccountName": self._spec.get("serviceAccountName", "default"),
            }[path]
        )


def expanded(text: str, values: Mapping[str, str]) -> str:
    """`$(NAME)` replaced by its value; unknown names stay, and `$$` is one `$`."""
    return re.sub(r"\$\$|\$\((\w+)\)", lambda found: "$" if found[1] is None else values.get(found[1], found[0]), text)
