"""Small object documents for tests; each function returns one document, or what some amount to."""

from collections.abc import Mapping

from stellwerk.control.document import read
from stellwerk.control.intake import Item, take_in
from stellwerk.control.reconcile import Reconciled, reconcile


def server(name: str, app: str = "llama", address: str = "", more: str = "", namespace: str = "default") -> str:
    """A ModelServer; its address follows from its name unless given."""
    address = address or f"10.0.0.{sum(name.encode()) % 200 + 1}"
    return (
        "apiVersion: stellwerk.dev/v1alpha1\nkind: ModelServer\n"
        f"metadata: {{name: {name}, namespace: {namespace}, labels: {{app: {app}}}}}\n"
        f'spec: {{address: "{address}"{more}}}\n'
    )


def pool(name: str = "llama", app: str = "llama", annotations: str = "", created: str = "", more: str = "") -> str:
    """An InferencePool v1 with one port, 8000."""
    age = f', creationTimestamp: "{created}"' if created else ""
    return (
        "apiVersion: inference.networking.k8s.io/v1\nkind: InferencePool\n"
        f"metadata: {{name: {name}, annotations: {{{annotations}}}{age}}}\n"
        f"spec: {{selector: {{matchLabels: {{app: {app}}}}}, targetPorts: [{{number: 8000}}]{more}}}\n"
    )


def model(name: str, public: str, created: str = "", pool: str = "llama", more: str = "") -> str:
    """An InferenceModel."""
    age = f', creationTimestamp: "{created}"' if created else ""
    return (
        "apiVersion: inference.networking.x-k8s.io/v1alpha2\nkind: InferenceModel\n"
        f"metadata: {{name: {name}{age}}}\nspec: {{modelName: {public}, poolRef: {{name: {pool}}}{more}}}\n"
    )


def rewrite(name: str, rules: str, created: str = "", group: str = "llm-d.ai") -> str:
    """An InferenceModelRewrite for pool `llama`."""
    age = f', creationTimestamp: "{created}"' if created else ""
    return (
        f"apiVersion: {group}/v1alpha2\nkind: InferenceModelRewrite\nmetadata: {{name: {name}{age}}}\n"
        f"spec: {{poolRef: {{name: llama}}, rules: [{rules}]}}\n"
    )


def objective(name: str, priority: int, group: str = "llm-d.ai") -> str:
    """An InferenceObjective for pool `llama`."""
    return (
        f"apiVersion: {group}/v1alpha2\nkind: InferenceObjective\nmetadata: {{name: {name}}}\n"
        f"spec: {{poolRef: {{name: llama}}, priority: {priority}}}\n"
    )


def items(*documents: str) -> tuple[Item, ...]:
    """The objects of one file; all of them must be right."""
    taken = take_in(read("f", "---\n".join(documents).encode()).documents)
    assert taken.problems == ()
    return taken.items


def made(*documents: str, addresses: Mapping[str, tuple[str, ...]] | None = None) -> Reconciled:
    """What the documents of one file amount to."""
    return reconcile(items(*documents), addresses or {})
