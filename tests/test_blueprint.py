"""From texts to a blueprint, and from an API server's objects."""

from hypothesis import given, settings
from hypothesis import strategies as st

from deploy.generate import HERE
from stellwerk.blueprint import Source, build, draft, picker_problems, received
from tests.control.objects_table import BAD, GOOD
from tests.kit.documents import pool, server
from tests.kit.manifests import documents


def source(text: str, name: str = "f.yaml") -> Source:
    """One file."""
    return Source(name, text.encode())


def test_files_and_servers_make_one_catalog() -> None:
    drawn = draft([source(pool(), "a.yaml"), source(server("a", address="gpu"), "b.yaml")], ["http://10.0.0.9:1"])
    assert drawn.problems == ()
    assert drawn.names == {"gpu"}
    built = build(drawn, {"gpu": ("10.0.0.1",)}, generation=7)
    assert sorted(built.catalog.pools) == ["default/default", "default/llama"]
    assert built.catalog.generation == 7


def test_problems_of_all_files_come_sorted_and_once() -> None:
    drawn = draft([source("a: [", "b.yaml"), source(pool(more=", x: 1"), "a.yaml")], ["https://x"])
    assert [problem.file for problem in drawn.problems] == ["--server https://x", "a.yaml", "b.yaml"]


def test_remarks_are_located_warnings() -> None:
    built = build(draft([source(pool(app="lama") + "---\n" + server("a"))]), {})
    assert [str(warning).split(": ")[:2] for warning in built.warnings] == [
        ["f.yaml:4:8", "spec.selector"],
        ["f.yaml:8:41", "metadata.labels"],
    ]


EXTRACTOR = """
apiVersion: llm-d.ai/v1alpha1
kind: EndpointPickerConfig
plugins:
- type: queue-scorer
- type: core-metrics-extractor
  parameters: {defaultEngine: sglang, engineLabelKey: runs}
"""


def test_the_picker_configuration_says_what_servers_run_that_do_not_say_it_themselves() -> None:
    labelled = server("b", app="llama, runs: triton")
    named = server("c", app="llama, runs: triton", more=", engine: vllm")
    objects = "---\n".join((pool(), server("a"), labelled, named))
    for picker, engines in (("", ["vllm", "vllm", "vllm"]), (EXTRACTOR, ["sglang", "triton", "vllm"])):
        drawn = draft([source(objects), *([source(picker, "p.yaml")] if picker else [])])
        assert drawn.problems == ()
        (found,) = build(drawn, {}).catalog.pools.values()
        assert [endpoint.engine for endpoint in found.endpoints] == engines


def test_one_bad_object_of_an_api_server_leaves_out_only_itself() -> None:
    good = {
        "apiVersion": "stellwerk.dev/v1alpha1",
        "kind": "ModelServer",
        "metadata": {"name": "a"},
        "spec": {"address": "10.0.0.1"},
    }
    drawn = received([("good", good), ("bad", {**good, "spec": {}})])
    assert len(drawn.items) == 1
    assert [str(problem) for problem in drawn.problems] == ['bad: spec: "address" is required']


@given(st.lists(st.sampled_from(GOOD + BAD), max_size=6))
@settings(deadline=None, max_examples=60)
def test_any_mixture_of_files_is_read(cases: list[object]) -> None:
    texts = [case.text for case in cases]  # type: ignore[attr-defined]
    drawn = draft([source(text, f"{index}.yaml") for index, text in enumerate(texts)])
    build(drawn, {})


def test_a_pickers_configuration_among_parameters_is_located() -> None:
    text = "apiVersion: llm-d.ai/v1alpha1\nkind: EndpointPickerConfig\nplugins: [{type: queue-scorre}]\n"
    (problem,) = picker_problems("pickerConfig", text)
    assert str(problem).startswith("pickerConfig:3:")
    assert not picker_problems("pickerConfig", text.replace("queue-scorre", "queue-scorer"))
    (shipped,) = documents(HERE / "examples" / "lora" / "picker.yaml")
    assert not picker_problems("pickerConfig", shipped["data"]["pickerConfig"])
