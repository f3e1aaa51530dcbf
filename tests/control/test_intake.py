"""Documents to objects: kinds, lists, doubles, and that nothing raises."""

from hypothesis import given, settings
from hypothesis import strategies as st

from stellwerk.control.document import read
from stellwerk.control.intake import Intake, admit, take_in
from stellwerk.control.kinds import InferencePool, ModelServer
from tests.control.objects_table import BAD, GOOD, POOL, PORTS, SELECTOR, SERVER, Case, server


def taken(text: str) -> Intake:
    """The intake of one file."""
    return take_in(read("f", text.encode()).documents)


def test_objects_of_other_groups_are_passed_over_with_a_note() -> None:
    found = taken("apiVersion: v1\nkind: Service\n---\n" + server("address: a"))
    assert [str(note) for note in found.notes] == ["f:1:1: Service (v1) is not read here"]
    assert len(found.items) == 1
    assert found.problems == ()


def test_traps_in_objects_of_other_groups_are_not_ours_to_report() -> None:
    listed = (
        "apiVersion: v1\nkind: List\nitems:\n"
        "- {apiVersion: apps/v1, kind: Deployment, mode: 0644, a: 1, a: 2}\n"
        "- {apiVersion: stellwerk.dev/v1alpha1, kind: ModelServer, metadata: {name: a}, spec: {address: 010}}\n"
    )
    assert [problem.path for problem in taken(listed).problems] == ["spec.address"]


def test_items_of_a_list_are_located_in_their_file() -> None:
    listed = "apiVersion: v1\nkind: List\nitems:\n- " + SERVER.replace("\n", "\n  ") + "spec: {adress: a}\n"
    assert sorted(str(problem) for problem in taken(listed).problems) == [
        'f:7:10: spec.adress: unknown field "adress": did you mean "address"?',
        'f:7:9: spec: "address" is required',
    ]


def test_a_typed_list_is_a_list() -> None:
    listed = f"apiVersion: stellwerk.dev/v1alpha1\nkind: ModelServerList\nitems:\n- {{{_flow(server('address: a'))}}}\n"
    assert [item.object.full_name for item in taken(listed).items] == ["default/gpu-0"]


def _flow(text: str) -> str:
    return ", ".join(text.strip().split("\n"))


def test_a_list_in_a_list_is_refused_instead_of_followed() -> None:
    inner = "{apiVersion: v1, kind: List, items: []}"
    problems = taken(f"apiVersion: v1\nkind: List\nitems: [{inner}]\n").problems
    assert [problem.message for problem in problems] == ["a List inside a List is not read"]


def test_two_objects_of_one_name_name_both_places() -> None:
    found = taken(server("address: a") + "---\n" + server("address: b"))
    assert [str(problem) for problem in found.problems] == [
        "f:8:18: metadata.name: ModelServer default/gpu-0 is given twice: first in f:3"
    ]


def test_one_name_in_two_namespaces_is_two_objects() -> None:
    other = server("address: b").replace("gpu-0", "gpu-0, namespace: prod")
    assert taken(server("address: a") + "---\n" + other).problems == ()


def test_objects_from_an_api_server_pass_the_same_checks() -> None:
    value = {
        "apiVersion": "inference.networking.k8s.io/v1",
        "kind": "InferencePool",
        "metadata": {"name": "llama", "creationTimestamp": "2025-06-05T00:00:00Z", "managedFields": [{"x": None}]},
        "spec": {"selector": {"matchLabels": {"app": "a"}}, "targetPorts": [{"number": 8000}]},
        "status": {"parents": []},
    }
    (item,) = admit(value, "InferencePool default/llama").items
    assert isinstance(item.object, InferencePool)
    value["spec"] = {"selector": {"matchLabels": {"app": 5}}}
    found = admit(value, "InferencePool default/llama")
    assert [str(problem) for problem in found.problems] == [
        "InferencePool default/llama: spec.selector.matchLabels.app: expected text, got the number 5",
        'InferencePool default/llama: spec: "targetPorts" is required',
    ]


def test_metadata_is_kept() -> None:
    (item,) = taken(
        SERVER.replace("name: gpu-0", "name: gpu-0, uid: u, labels: {a: b}") + "spec: {address: a}\nstatus: {}\n"
    ).items
    assert isinstance(item.object, ModelServer)
    assert item.object.metadata.uid == "u"
    assert item.object.metadata.labels == {"a": "b"}


def test_a_trailing_line_end_does_not_pass_a_pattern() -> None:
    text = POOL.replace("llama", '"llama\\n"') + "spec: {" + SELECTOR + ", " + PORTS + "}"
    assert [problem.path for problem in taken(text).problems] == ["metadata.name"]


SCALARS = st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5)
KEYS = st.sampled_from(
    ["apiVersion", "kind", "metadata", "name", "spec", "items", "selector", "matchLabels", "targetPorts", "number", "x"]
)
ANYTHING = st.recursive(
    SCALARS | st.sampled_from(["InferencePool", "List", "ModelServer", "EndpointPickerConfig", "v1"]),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(KEYS, inner, max_size=4),
    max_leaves=10,
)


@given(st.sampled_from([case for case in GOOD + BAD if "---" not in case.text]), st.data())
@settings(deadline=None, max_examples=200)
def test_no_value_in_any_place_raises(case: Case, data: st.DataObject) -> None:
    documents = read("f", case.text.encode()).documents
    if not documents:
        return
    value = documents[0].root.unfolded()
    node = value
    while isinstance(node, dict | list) and node:
        key = data.draw(st.sampled_from(sorted(node) if isinstance(node, dict) else list(range(len(node)))))
        if data.draw(st.booleans()):
            node[key] = data.draw(ANYTHING)
            break
        node = node[key]
    if isinstance(value, dict):
        admit(value, "x")


@given(st.dictionaries(KEYS, ANYTHING, max_size=5))
@settings(deadline=None, max_examples=150)
def test_no_object_raises(value: dict[str, object]) -> None:
    admit(value, "x")
