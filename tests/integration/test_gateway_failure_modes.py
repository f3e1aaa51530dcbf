"""What happens to a pool whose picker is away: FailOpen serves from any of its Pods, FailClose answers 5xx.

The picker that is taken away is that of the pool which gets the traffic, and others stay.
"""

from collections.abc import Callable
from typing import Any

import pytest
import yaml

from tests.cluster.cluster import Cluster
from tests.kit.processes import Answer, call

PICKER = """
apiVersion: v1
kind: ServiceAccount
metadata: {name: picker}
---
apiVersion: rbac.authorization.k8s.io/v1
kind: Role
metadata: {name: picker}
rules:
- {apiGroups: [""], resources: [pods], verbs: [get, list, watch]}
- {apiGroups: [inference.networking.k8s.io], resources: [inferencepools], verbs: [get, list, watch]}
---
apiVersion: rbac.authorization.k8s.io/v1
kind: RoleBinding
metadata: {name: picker}
roleRef: {apiGroup: rbac.authorization.k8s.io, kind: Role, name: picker}
subjects: [{kind: ServiceAccount, name: picker}]
---
apiVersion: v1
kind: Service
metadata: {name: picker}
spec:
  selector: {app: picker}
  ports: [{port: 9002, appProtocol: http2}]
---
apiVersion: apps/v1
kind: Deployment
metadata: {name: picker}
spec:
  replicas: 1
  selector: {matchLabels: {app: picker}}
  template:
    metadata: {labels: {app: picker}}
    spec:
      serviceAccountName: picker
      containers:
      - name: picker
        image: lwepp
        args: [--pool-name=models, --pool-namespace=NAMESPACE, --grpc-port=9002, --grpc-health-port=9003]
        readinessProbe: {grpc: {port: 9003, service: inference-extension}}
"""

POOL = """
apiVersion: apps/v1
kind: Deployment
metadata: {name: models}
spec:
  replicas: 2
  selector: {matchLabels: {app: models}}
  template:
    metadata: {labels: {app: models}}
    spec:
      containers:
      - name: model
        image: stellwerk
        args: [sim, --host, 0.0.0.0, --port, "8000"]
        readinessProbe: {httpGet: {path: /health, port: 8000}}
---
apiVersion: inference.networking.k8s.io/v1
kind: InferencePool
metadata:
  name: models
  annotations: {stellwerk.dev/picker-body-mode: Streamed}
spec:
  selector: {matchLabels: {app: models}}
  targetPorts: [{number: 8000}]
  endpointPickerRef: {name: picker, port: {number: 9002}, failureMode: MODE}
---
apiVersion: gateway.networking.k8s.io/v1
kind: Gateway
metadata: {name: front}
spec:
  gatewayClassName: stellwerk
  listeners: [{name: http, port: 80, protocol: HTTP}]
---
apiVersion: gateway.networking.k8s.io/v1
kind: HTTPRoute
metadata: {name: all}
spec:
  parentRefs: [{name: front}]
  rules:
  - backendRefs: [{group: inference.networking.k8s.io, kind: InferencePool, name: models}]
"""


def in_namespace(text: str, namespace: str, **words: str) -> list[dict[str, Any]]:
    """The documents, placed in `namespace`; `words` are replaced in the text."""
    for word, value in {"NAMESPACE": namespace, **words}.items():
        text = text.replace(word, value)
    documents = list(yaml.safe_load_all(text))
    for document in documents:
        document["metadata"]["namespace"] = namespace
        for subject in document.get("subjects", []):
            subject["namespace"] = namespace
    return documents


def ask(cluster: Cluster, namespace: str) -> Callable[[], Answer]:
    """A function that sends one chat request to the Gateway."""
    gateway = "gateway.networking.k8s.io/v1"
    address = cluster.wait(
        "the Gateway's address",
        lambda: cluster.get("Gateway", "front", namespace, gateway)["status"]["addresses"][0]["value"],
    )
    body = {"model": "tiny", "messages": [{"role": "user", "content": "hello"}], "max_tokens": 2}

    def once() -> Answer:
        with cluster.network():
            return call(f"http://{address}/v1/chat/completions", body, timeout=10)

    return once


@pytest.mark.usefixtures("own_gateway")
@pytest.mark.parametrize(("mode", "is_served"), [("FailOpen", True), ("FailClose", False)])
def test_a_pool_whose_picker_is_away_fails_as_it_says(
    cluster: Cluster, namespace: str, mode: str, is_served: bool
) -> None:
    cluster.apply(*in_namespace(PICKER + "---" + POOL, namespace, MODE=mode))
    cluster.wait_for_deployment("models", namespace)
    cluster.wait_for_deployment("picker", namespace)
    once = ask(cluster, namespace)
    cluster.wait("a first answer", lambda: once().status == 200)
    deployments = f"/apis/apps/v1/namespaces/{namespace}/deployments/picker"
    cluster.api.merge(deployments, {"spec": {"replicas": 0}})
    slices = f"/apis/discovery.k8s.io/v1/namespaces/{namespace}/endpointslices"
    query = "?labelSelector=kubernetes.io/service-name=picker"

    def is_away() -> bool:
        return not any(each.get("endpoints") for each in cluster.api.get(slices + query)["items"])

    cluster.wait("the picker to be away", is_away)

    def settled() -> list[int]:
        """Several answers in a row; the change takes a moment to reach Envoy."""
        return [once().status for _ in range(5)]

    if is_served:
        cluster.wait("only good answers", lambda: settled() == [200] * 5)
    else:
        cluster.wait("only refusals", lambda: all(500 <= status < 600 for status in settled()))
