"""Good and bad objects as data. `problems` are what must be said, as `path: start of the message`, in file order.

An API server, with our definitions or with upstream's, accepts and refuses the same: tests/integration asks it.
"""

from typing import NamedTuple


class Case(NamedTuple):
    """One document, and what is wrong with it."""

    name: str
    text: str
    problems: tuple[str, ...] = ()


POOL = "apiVersion: inference.networking.k8s.io/v1\nkind: InferencePool\nmetadata: {name: llama}\n"
OLD_POOL = "apiVersion: inference.networking.x-k8s.io/v1alpha2\nkind: InferencePool\nmetadata: {name: llama}\n"
MODEL = "apiVersion: inference.networking.x-k8s.io/v1alpha2\nkind: InferenceModel\nmetadata: {name: chat}\n"
OBJECTIVE = "apiVersion: llm-d.ai/v1alpha2\nkind: InferenceObjective\nmetadata: {name: batch}\n"
REWRITE = "apiVersion: llm-d.ai/v1alpha2\nkind: InferenceModelRewrite\nmetadata: {name: canary}\n"
SERVER = "apiVersion: stellwerk.dev/v1alpha1\nkind: ModelServer\nmetadata: {name: gpu-0}\n"
PICKER = "apiVersion: llm-d.ai/v1alpha1\nkind: EndpointPickerConfig\n"

SELECTOR = "selector: {matchLabels: {app: llama}}"
PORTS = "targetPorts: [{number: 8000}]"
REF = "poolRef: {name: llama}"


def pool(*fields: str) -> str:
    """An InferencePool v1 with these fields in its spec."""
    return POOL + "spec: {" + ", ".join(fields) + "}\n"


def model(*fields: str) -> str:
    """An InferenceModel with these fields in its spec."""
    return MODEL + "spec: {" + ", ".join((REF, *fields)) + "}\n"


def rules(text: str) -> str:
    """An InferenceModelRewrite with these rules."""
    return REWRITE + "spec: {" + REF + ", rules: [" + text + "]}\n"


def server(*fields: str) -> str:
    """A ModelServer with these fields in its spec."""
    return SERVER + "spec: {" + ", ".join(fields) + "}\n"


def many(count: int, item: str) -> str:
    """A flow list of `count` items; `%d` counts from 1."""
    return "[" + ", ".join(item.replace("%d", str(number)) for number in range(1, count + 1)) + "]"


GOOD = (
    Case("the smallest pool", pool(SELECTOR, PORTS)),
    Case("eight ports", pool(SELECTOR, f"targetPorts: {many(8, '{number: 800%d}')}")),
    Case("h2c", pool(SELECTOR, PORTS, "appProtocol: kubernetes.io/h2c")),
    Case("a picker", pool(SELECTOR, PORTS, "endpointPickerRef: {name: epp, port: {number: 9002}}")),
    Case(
        "a picker of another kind needs no port",
        pool(SELECTOR, PORTS, "endpointPickerRef: {name: a, kind: B}"),
    ),
    Case(
        "fail open",
        pool(SELECTOR, PORTS, "endpointPickerRef: {name: e, failureMode: FailOpen, port: {number: 1}}"),
    ),
    Case("an empty label value", pool("selector: {matchLabels: {app: ''}}", PORTS)),
    Case("a prefixed label key", pool("selector: {matchLabels: {example.com/app: a}}", PORTS)),
    Case("null is absent", pool(SELECTOR, PORTS, "appProtocol: null", "endpointPickerRef: null")),
    Case(
        "what kubectl get prints",
        POOL.replace(
            "{name: llama}",
            (
                "\n  annotations:\n    kubectl.kubernetes.io/last-applied-configuration: |\n      {}\n"
                '  creationTimestamp: "2025-06-05T00:00:00Z"\n  generation: 2\n  name: llama\n  namespace: prod\n'
                '  resourceVersion: "123"\n  uid: 8ad0-1\n  managedFields: []\n  finalizers: [a]\n  ownerReferences: []'
            ),
        )
        + "spec: {"
        + SELECTOR
        + ", "
        + PORTS
        + "}\nstatus: {parents: []}\n",
    ),
    Case(
        "an old pool",
        OLD_POOL + "spec: {selector: {app: llama}, targetPortNumber: 8000, extensionRef: {name: epp}}",
    ),
    Case("a model without targets", model("modelName: chat")),
    Case(
        "weights for all",
        model("modelName: c", "targetModels: [{name: a, weight: 1}, {name: b, weight: 1000000}]"),
    ),
    Case("weights for none", model("modelName: c", "targetModels: [{name: a}, {name: b}]")),
    Case("ten targets", model("modelName: c", f"targetModels: {many(10, '{name: m%d}')}")),
    Case(
        "a model name with a slash",
        model("modelName: meta-llama/Llama-3.1-8B", "criticality: Sheddable"),
    ),
    Case("a negative priority", OBJECTIVE + "spec: {priority: -10, poolRef: {name: llama}}"),
    Case("no priority", OBJECTIVE + "spec: {poolRef: {name: llama}}"),
    Case(
        "an objective of the old group",
        OBJECTIVE.replace("llm-d.ai", "inference.networking.x-k8s.io") + "spec: {poolRef: {name: llama}}",
    ),
    Case("a generic rule", rules("{targets: [{modelRewrite: a}]}")),
    Case(
        "an exact rule",
        rules("{matches: [{model: {type: Exact, value: a}}], targets: [{modelRewrite: b, weight: 3}]}"),
    ),
    Case(
        "a rewrite of the old group",
        rules("{targets: [{modelRewrite: a}]}").replace("llm-d.ai", "inference.networking.x-k8s.io"),
    ),
    Case("a rewrite weighted in part", rules("{targets: [{modelRewrite: a, weight: 1}, {modelRewrite: b}]}")),
    Case("a rule without targets", rules("{matches: [{model: {value: a}}]}")),
    Case("a rewrite to nothing", rules("{targets: [{modelRewrite: ''}]}")),
    Case("many rewrite targets", rules(f"{{targets: {many(101, '{modelRewrite: m%d}')}}}")),
    Case("many rules", rules(", ".join("{targets: [{modelRewrite: a}]}" for _ in range(1025)))),
    Case("no rules", rules("")),
    Case("a model without a name", model("modelName: ''", "targetModels: [{name: ''}]")),
    Case("a priority beyond 32 bits", OBJECTIVE + "spec: {priority: 2147483648, poolRef: {name: llama}}"),
    Case(
        "a priority of the old group beyond 32 bits",
        OBJECTIVE.replace("llm-d.ai", "inference.networking.x-k8s.io")
        + "spec: {priority: -9223372036854775808, poolRef: {name: llama}}",
    ),
    Case("an old pool without a spec", OLD_POOL),
    Case("a model without a spec", MODEL),
    Case("an objective without a spec", OBJECTIVE),
    Case("a rewrite without a spec", REWRITE),
    Case(
        "an old pool that selects nothing",
        OLD_POOL + "spec: {selector: {}, targetPortNumber: 1, extensionRef: {name: e}}",
    ),
    Case(
        "a long label key",
        pool(f"selector: {{matchLabels: {{{'.'.join(['a' * 60] * 4)}/{'b' * 63}: c}}}}", PORTS),
    ),
    Case("a server", server("address: 10.0.0.7")),
    Case("an IPv6 server", server("address: 'fd00::7'", "ports: [1, 65535]", "engine: triton-tensorrt-llm")),
    Case("a named server", server("address: gpu-7.rack_1.example", "ports: [8000]")),
    Case(
        "a List",
        "apiVersion: v1\nkind: List\nitems:\n- " + SERVER.replace("\n", "\n  ") + "spec: {address: 10.0.0.7}\n",
    ),
    Case(
        "merge keys and aliases",
        "apiVersion: stellwerk.dev/v1alpha1\nkind: ModelServer\n"
        "metadata: {name: gpu-0, labels: &l {app: a}, annotations: {<<: *l, b: c}}\nspec: {address: 10.0.0.7}\n",
    ),
    Case(
        "JSON",
        '{"apiVersion": "stellwerk.dev/v1alpha1", "kind": "ModelServer", "metadata": {"name": "gpu-0", '
        '"annotations": {"note": "\\ud83d\\ude00 \\/"}}, "spec": {"address": "10.0.0.7", "ports": [8000]}}',
    ),
    Case(
        "a picker configuration",
        PICKER + "plugins:\n- type: queue-scorer\n- {name: p, type: prefix-cache-scorer}\n"
        "schedulingProfiles:\n- name: default\n  plugins: [{pluginRef: queue-scorer, weight: 2}, {pluginRef: p}]\n",
    ),
    Case("a picker configuration of the old group", PICKER.replace("llm-d.ai", "inference.networking.x-k8s.io")),
    Case("other people's objects", "apiVersion: apps/v1\nkind: Deployment\nspec: {defaultMode: 0644, a: 1, a: 2}\n"),
    Case("comments only", "# nothing yet\n---\n# still nothing\n"),
)

BAD = (
    Case("no spec", POOL, (': "spec" is required',)),
    Case("no selector", pool(PORTS), ('spec: "selector" is required',)),
    Case(
        "no labels",
        pool("selector: {matchLabels: {}}", PORTS),
        ("spec.selector.matchLabels: has 0 entries",),
    ),
    Case(
        "65 labels",
        pool("selector: {matchLabels: {" + ", ".join(f"k{n}: v" for n in range(65)) + "}}", PORTS),
        ("spec.selector.matchLabels: has 65 entries, and may have 64 at most",),
    ),
    Case(
        "a bad label value",
        pool("selector: {matchLabels: {app: -a}}", PORTS),
        ('spec.selector.matchLabels.app: "-a" is not a label value',),
    ),
    Case(
        "a long label value",
        pool(f"selector: {{matchLabels: {{app: {'a' * 64}}}}}", PORTS),
        ("spec.selector.matchLabels.app: has 64 characters, and may have 63 at most",),
    ),
    Case(
        "a bad label key",
        pool("selector: {matchLabels: {app~: a}}", PORTS),
        ('spec.selector.matchLabels["app~"]: key "app~" is not a label key',),
    ),
    Case(
        "a bad label key of an old pool",
        OLD_POOL + "spec: {selector: {app~: a}, targetPortNumber: 8000, extensionRef: {name: epp}}",
        ('spec.selector["app~"]: key "app~" is not a label key',),
    ),
    Case(
        "no ports",
        pool(SELECTOR, "targetPorts: []"),
        ("spec.targetPorts: has 0 items, and needs 1 or more",),
    ),
    Case(
        "nine ports",
        pool(SELECTOR, f"targetPorts: {many(9, '{number: %d}')}"),
        ("spec.targetPorts: has 9 items",),
    ),
    Case(
        "a port twice",
        pool(SELECTOR, "targetPorts: [{number: 1}, {number: 2}, {number: 1}]"),
        ("spec.targetPorts: port number must be unique",),
    ),
    Case(
        "port 0",
        pool(SELECTOR, "targetPorts: [{number: 0}]"),
        ("spec.targetPorts[0].number: 0 is not in 1 to 65535",),
    ),
    Case(
        "port 65536",
        pool(SELECTOR, "targetPorts: [{number: 65536}]"),
        ("spec.targetPorts[0].number: 65536 is not in 1 to 65535",),
    ),
    Case(
        "a quoted port",
        pool(SELECTOR, "targetPorts: [{number: '8000'}]"),
        ('spec.targetPorts[0].number: expected an integer, got the text "8000": remove the quotes',),
    ),
    Case(
        "an octal port",
        pool(SELECTOR, "targetPorts: [{number: 010}]"),
        ("spec.targetPorts[0].number: 010 is octal to YAML 1.1",),
    ),
    Case(
        "an exponent",
        pool(SELECTOR, "targetPorts: [{number: 1e3}]"),
        ("spec.targetPorts[0].number: expected an integer, got the number 1000.0 (written 1e3): write 1000",),
    ),
    Case(
        "an underscore",
        pool(SELECTOR, "targetPorts: [{number: 8_000}]"),
        ("spec.targetPorts[0].number: 8_000 is a number to YAML 1.1",),
    ),
    Case(
        "on",
        pool("selector: {matchLabels: {app: on}}", PORTS),
        (
            "spec.selector.matchLabels.app: expected text, got the boolean true "
            '(YAML 1.1 reads an unquoted on as true): quote it: "on"',
        ),
    ),
    Case(
        "a number for a label",
        pool("selector: {matchLabels: {app: 1.10}}", PORTS),
        ('spec.selector.matchLabels.app: expected text, got the number 1.1: quote it: "1.10"',),
    ),
    Case(
        "a misspelt field",
        pool(SELECTOR, PORTS, "appProtocl: http"),
        ('spec.appProtocl: unknown field "appProtocl": did you mean "appProtocol"?',),
    ),
    Case(
        "a misspelt enum",
        pool(SELECTOR, PORTS, "appProtocol: HTTP"),
        ('spec.appProtocol: "HTTP" is not one of http, kubernetes.io/h2c: did you mean "http"?',),
    ),
    Case(
        "a picker Service without a port",
        pool(SELECTOR, PORTS, "endpointPickerRef: {name: epp}"),
        ("spec.endpointPickerRef: port is required when kind is 'Service' or unspecified (defaults to 'Service')",),
    ),
    Case(
        "a bad failure mode",
        pool(SELECTOR, PORTS, "endpointPickerRef: {name: e, kind: K, failureMode: failopen}"),
        ('spec.endpointPickerRef.failureMode: "failopen" is not one of FailOpen, FailClose: did you mean "FailOpen"?',),
    ),
    Case(
        "a bad group",
        pool(SELECTOR, PORTS, "endpointPickerRef: {name: e, kind: K, group: a/b}"),
        ('spec.endpointPickerRef.group: "a/b" is not an API group',),
    ),
    Case(
        "a bad kind of picker",
        pool(SELECTOR, PORTS, "endpointPickerRef: {name: e, kind: K/}"),
        ('spec.endpointPickerRef.kind: "K/" is not a kind',),
    ),
    Case(
        "everything at once",
        pool("targetPorts: [{number: 0}, {}]", "appProtocol: x", "a: 1"),
        (
            'spec: "selector" is required',
            "spec.targetPorts[0].number: 0 is not",
            'spec.targetPorts[1]: "number" is req',
            'spec.appProtocol: "x" is not one of',
            'spec.a: unknown field "a"',
        ),
    ),
    Case(
        "a bad name",
        POOL.replace("llama", "Llama") + "spec: {" + SELECTOR + ", " + PORTS + "}",
        ('metadata.name: "Llama" is not a DNS name',),
    ),
    Case(
        "a bad namespace",
        POOL.replace("llama", "a, namespace: a.b") + "spec: {" + SELECTOR + ", " + PORTS + "}",
        ('metadata.namespace: "a.b" is not a namespace',),
    ),
    Case(
        "a misspelt metadata field",
        POOL.replace("llama", "a, label: {}") + "spec: {" + SELECTOR + ", " + PORTS + "}",
        ('metadata.label: unknown field "label": did you mean "labels"?',),
    ),
    Case(
        "a bad time",
        POOL.replace("llama", "a, creationTimestamp: yesterday") + "spec: {" + SELECTOR + "," + PORTS + "}",
        ('metadata.creationTimestamp: "yesterday" is not a time',),
    ),
    Case(
        "the old selector in the new pool",
        pool("selector: {app: llama}", PORTS),
        ('spec.selector: "matchLabels" is required', 'spec.selector.app: unknown field "app"'),
    ),
    Case(
        "an old pool without a picker",
        OLD_POOL + "spec: {selector: {app: llama}, targetPortNumber: 8000}",
        ('spec: "extensionRef" is required',),
    ),
    Case("no model name", model(), ('spec: "modelName" is required',)),
    Case("a long model name", model(f"modelName: {'a' * 257}"), ("spec.modelName: has 257 characters",)),
    Case(
        "a bad criticality",
        model("modelName: c", "criticality: critical"),
        ('spec.criticality: "critical" is not one of Critical, Standard, Sheddable: did you mean "Critical"?',),
    ),
    Case(
        "eleven targets",
        model("modelName: c", f"targetModels: {many(11, '{name: m%d}')}"),
        ("spec.targetModels: has 11 items, and may have 10 at most",),
    ),
    Case(
        "a weight of 0",
        model("modelName: c", "targetModels: [{name: a, weight: 0}]"),
        ("spec.targetModels[0].weight: 0 is not in 1 to 1000000",),
    ),
    Case(
        "a weight too many",
        model("modelName: c", "targetModels: [{name: a, weight: 1}, {name: b}]"),
        ("spec.targetModels: Weights should be set for all models, or none of the models.",),
    ),
    Case(
        "a date for a weight",
        model("modelName: c", "targetModels: [{name: a, weight: 2025-01-01}]"),
        ('spec.targetModels[0].weight: expected an integer, got the text "2025-01-01"',),
    ),
    Case(
        "a fractional priority",
        OBJECTIVE + "spec: {priority: 1.5, poolRef: {name: llama}}",
        ("spec.priority: expected an integer, got the number 1.5",),
    ),
    Case(
        "a priority beyond 64 bits",
        OBJECTIVE + "spec: {priority: 9223372036854775808, poolRef: {name: llama}}",
        ("spec.priority: 9223372036854775808 is not in",),
    ),
    Case(
        "an objective without a pool",
        OBJECTIVE + "spec: {priority: 1}",
        ('spec: "poolRef" is required',),
    ),
    Case(
        "no targets",
        rules("{targets: []}"),
        ("spec.rules[0].targets: has 0 items, and needs 1 or more",),
    ),
    Case(
        "another match type",
        rules("{matches: [{model: {type: Regex, value: a}}], targets: [{modelRewrite: b}]}"),
        ('spec.rules[0].matches[0].model.type: "Regex" is not one of Exact',),
    ),
    Case(
        "an empty match",
        rules("{matches: [{model: {value: ''}}], targets: [{modelRewrite: b}]}"),
        ("spec.rules[0].matches[0].model.value: is empty",),
    ),
    Case("no address", server("ports: [1]"), ('spec: "address" is required',)),
    Case("a URL for an address", server("address: 'http://a:1'"), ('spec.address: "http://a:1" is neither',)),
    Case("a port in the address", server("address: '10.0.0.1:8000'"), ('spec.address: "10.0.0.1:8000" is neither',)),
    Case("brackets", server("address: '[::1]'"), ('spec.address: "[::1]" is neither',)),
    Case("a scope", server("address: 'fe80::1%eth0'"), ('spec.address: "fe80::1%eth0" is neither',)),
    Case("half an address", server("address: '10.0.0'"), ('spec.address: "10.0.0" is neither',)),
    Case("any address", server("address: 0.0.0.0"), ('spec.address: "0.0.0.0" is an address to listen on',)),
    Case("a server's port twice", server("address: a", "ports: [1, 1]"), ("spec.ports: port number must be unique",)),
    Case(
        "an unknown engine",
        server("address: a", "engine: VLLM"),
        ('spec.engine: "VLLM" is not one of vllm, sglang, trtllm-serve, triton-tensorrt-llm, triton: did you mean',),
    ),
    Case(
        "ports as in a pool",
        server("address: a", "ports: [{number: 1}]"),
        ("spec.ports[0]: expected an integer, got a mapping",),
    ),
    Case(
        "a key twice", server("address: a", "address: b"), ('spec.address: "address" is given twice: first on line 4',)
    ),
    Case("a tag", server("address: !secret a"), ("spec.address: the tag !secret means nothing here",)),
    Case(
        "an unknown kind",
        SERVER.replace("ModelServer", "ModelSever"),
        ('kind: unknown kind "ModelSever" in stellwerk.dev/v1alpha1: did you mean "ModelServer"?',),
    ),
    Case(
        "an unknown version",
        SERVER.replace("v1alpha1", "v1alpha3"),
        (
            'apiVersion: ModelServer has no version "stellwerk.dev/v1alpha3" here: '
            'did you mean "stellwerk.dev/v1alpha1"?',
        ),
    ),
    Case(
        "a misspelt group",
        POOL.replace("k8s.io", "k8.io"),
        ('apiVersion: InferencePool has no version "inference.networking.k8.io/v1" here: did you mean',),
    ),
    Case("no kind", "apiVersion: v1\n", (': "kind" is required',)),
    Case(
        "a misspelt kind key",
        "apiVersion: stellwerk.dev/v1alpha1\nKind: ModelServer\n",
        (': "kind" is required: did you mean that by "Kind"?',),
    ),
    Case("a list at the top", "- a\n", (": expected an object with apiVersion, kind, metadata and spec",)),
    Case(
        "an unknown plugin",
        PICKER + "plugins: [{type: queue-scorr}]",
        ('plugins[0].type: unknown plugin type "queue-scorr": did you mean "queue-scorer"?',),
    ),
    Case(
        "an unknown parameter",
        PICKER + "plugins:\n- type: load-aware-scorer\n  parameters: {treshold: 5}\n",
        ('plugins[0].parameters.treshold: load-aware-scorer has no parameter "treshold": did you mean "threshold"?',),
    ),
    Case(
        "an unknown reference",
        PICKER + "plugins: [{type: queue-scorer}]\nschedulingProfiles: [{name: a, plugins: [{pluginRef: queue}]}]\n",
        ('schedulingProfiles[0].plugins[0].pluginRef: no plugin is named "queue"',),
    ),
    Case(
        "a misspelt picker field",
        PICKER + "pluginz: []\n",
        ('pluginz: unknown field "pluginz": did you mean "plugins"?',),
    ),
    Case(
        "a duration without a unit",
        PICKER + "flowControl: {defaultRequestTTL: 60}\n",
        ("flowControl.defaultRequestTTL: expected a duration: write it like 500ms, 60s or 1m30s; got the number 60",),
    ),
    Case(
        "a bad quantity", PICKER + "flowControl: {maxBytes: 1GB}\n", ('flowControl.maxBytes: "1GB" is not a quantity',)
    ),
    Case(
        "an infinite weight",
        PICKER + "schedulingProfiles: [{name: a, plugins: [{pluginRef: a, weight: 1e999}]}]\n",
        ("schedulingProfiles[0].plugins[0].weight: inf is not a finite number",),
    ),
    Case(
        "a gate that is neither",
        PICKER + "featureGates: [haPopulateNonLeaderDatastore=maybe]\n",
        ('featureGates[0]: "haPopulateNonLeaderDatastore=maybe" is neither',),
    ),
    Case(
        "a detector that is none",
        PICKER + "plugins: [{type: queue-scorer}]\nflowControl: {saturationDetector: {pluginRef: queue-scorer}}\n",
        ('flowControl.saturationDetector.pluginRef: "queue-scorer" (queue-scorer) is not a saturation detector',),
    ),
)
