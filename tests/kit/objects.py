"""YAML documents for tests, with defaults; each function returns one document."""

from collections.abc import Iterable, Mapping


def servers_of(ports: Iterable[int], app: str = "llama", first: int = 0) -> list[str]:
    """A ModelServer per port, named `APP-N`, labelled `app: APP`."""
    return [
        f"apiVersion: stellwerk.dev/v1alpha1\nkind: ModelServer\n"
        f"metadata: {{name: {app}-{number}, labels: {{app: {app}}}}}\n"
        f"spec: {{address: 127.0.0.1, ports: [{port}]}}\n"
        for number, port in enumerate(ports, first)
    ]


def pool(name: str = "llama", failure_mode: str = "FailOpen", annotations: Mapping[str, str] | None = None) -> str:
    """An InferencePool v1 that selects `app: NAME`."""
    notes = ", ".join(f'{key}: "{value}"' for key, value in (annotations or {}).items())
    return (
        "apiVersion: inference.networking.k8s.io/v1\nkind: InferencePool\n"
        f"metadata: {{name: {name}, annotations: {{{notes}}}}}\n"
        f"spec:\n  selector: {{matchLabels: {{app: {name}}}}}\n  targetPorts: [{{number: 8000}}]\n"
        f"  endpointPickerRef: {{name: stellwerk, port: {{number: 9002}}, failureMode: {failure_mode}}}\n"
    )


def canary(name: str, weights: Mapping[str, int], pool: str = "llama", criticality: str = "Standard") -> str:
    """An InferenceModel with weighted targets."""
    targets = "".join(f"  - {{name: {target}, weight: {weight}}}\n" for target, weight in weights.items())
    return (
        "apiVersion: inference.networking.x-k8s.io/v1alpha2\nkind: InferenceModel\n"
        f"metadata: {{name: {name}}}\n"
        f"spec:\n  modelName: {name}\n  criticality: {criticality}\n  poolRef: {{name: {pool}}}\n"
        f"  targetModels:\n{targets}"
    )


def picker_config(**weights: float) -> str:
    """An EndpointPickerConfig with scorers by type (underscores for dashes) and their weights."""
    types = {name.replace("_", "-"): weight for name, weight in weights.items()}
    plugins = "".join(f"- type: {name}\n" for name in types)
    refs = "".join(f"  - {{pluginRef: {name}, weight: {weight}}}\n" for name, weight in types.items())
    return (
        "apiVersion: llm-d.ai/v1alpha1\nkind: EndpointPickerConfig\n"
        f"plugins:\n{plugins}schedulingProfiles:\n- name: default\n  plugins:\n{refs}"
    )
