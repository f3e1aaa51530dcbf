"""`stellwerk crds` as its user sees it."""

import json

import yaml
from click.testing import CliRunner

from stellwerk.cli.crds import crds
from stellwerk.control.crds import definitions


def test_all_definitions_are_printed_as_yaml() -> None:
    result = CliRunner().invoke(crds)
    assert list(yaml.safe_load_all(result.output)) == definitions()


def test_one_kind_is_printed_in_all_its_groups_as_json() -> None:
    result = CliRunner().invoke(crds, ["--kind", "InferenceObjective", "-o", "json"])
    names = [item["metadata"]["name"] for item in json.loads(result.output)["items"]]
    assert names == ["inferenceobjectives.llm-d.ai", "inferenceobjectives.inference.networking.x-k8s.io"]


def test_a_misspelt_kind_is_told_and_the_nearest_named() -> None:
    result = CliRunner().invoke(crds, ["--kind", "InferencePol"])
    assert result.exit_code == 2
    assert 'did you mean "InferencePool"?' in result.output
