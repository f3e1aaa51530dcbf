"""What the demo serves: one pool, a critical chat model, a canary over two adapters, a sheddable batch model."""

from collections.abc import Sequence

BASE = "llama"
ADAPTERS = ("summary-v1", "summary-v2")
CHAT, CANARY, BATCH = "chat", "summary", "batch"

_SERVER = """\
apiVersion: stellwerk.dev/v1alpha1
kind: ModelServer
metadata: {{name: gpu-{number}, labels: {{app: llama}}}}
spec: {{address: 127.0.0.1, ports: [{port}]}}
"""

_POOL = """\
apiVersion: inference.networking.k8s.io/v1
kind: InferencePool
metadata: {name: llama}
spec:
  selector: {matchLabels: {app: llama}}
  targetPorts: [{number: 8000}]
  endpointPickerRef: {name: stellwerk, port: {number: 9002}, failureMode: FailOpen}
"""

_MODEL = """\
apiVersion: inference.networking.x-k8s.io/v1alpha2
kind: InferenceModel
metadata: {{name: {name}}}
spec:
  modelName: {name}
  criticality: {criticality}
  poolRef: {{name: llama}}
  targetModels:
{targets}"""


def objects(ports: Sequence[int]) -> str:
    """The demo's objects as one multi-document YAML text, for servers on `ports`."""
    documents = [_SERVER.format(number=number, port=port) for number, port in enumerate(ports)]
    documents.append(_POOL)
    documents.append(_model(CHAT, "Critical", {BASE: 1}))
    documents.append(_model(CANARY, "Standard", {ADAPTERS[0]: 90, ADAPTERS[1]: 10}))
    documents.append(_model(BATCH, "Sheddable", {BASE: 1}))
    return "---\n".join(documents)


def _model(name: str, criticality: str, weights: dict[str, int]) -> str:
    targets = "".join(f"  - {{name: {target}, weight: {weight}}}\n" for target, weight in weights.items())
    return _MODEL.format(name=name, criticality=criticality, targets=targets)


def to_try(url: str, admin_url: str, objects_path: str) -> str:
    """Lines to paste into another terminal."""
    return f"""\
curl -s {url}/v1/models
curl -s {url}/v1/chat/completions -H 'content-type: application/json' \\
  -d '{{"model": "{CHAT}", "messages": [{{"role": "user", "content": "Hello"}}], "max_tokens": 16}}'
curl -s {admin_url}/api/pools         # endpoints, signals and their ages, what is in flight
curl -s {admin_url}/api/decisions     # who was picked, and why
$EDITOR {objects_path}    # change a weight and save

python - <<EOF
import openai
client = openai.OpenAI(base_url="{url}/v1", api_key="none")
print(client.chat.completions.create(model="{CANARY}", messages=[{{"role": "user", "content": "Hi"}}], max_tokens=16))
EOF"""
