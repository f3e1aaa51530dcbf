"""Tests mirror the tree: who looks for the test of a module finds it in a minute.

`stellwerk/<layer>/<module>.py` is tested in `tests/<layer>/test_<module>.py`. Where one test covers several modules on
purpose, it stands in `TESTED_IN`; modules that hold only types and constants need none.
"""

import ast
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PACKAGE = ROOT / "stellwerk"

TESTED_IN = {
    "app": "integration/test_sdk_clients.py",
    "cli/controller.py": "integration/test_controller_on_api_server.py",
    "cli/demo.py": "cli/test_main.py",
    "cli/gateway.py": "integration/test_gateway_routes.py",
    "cli/go_flags.py": "cli/test_epp.py",
    "cli/run.py": "integration/test_readme.py",
    "control/address.py": "control/test_servers.py",
    "control/envoy": "control/envoy/test_resources.py",
    "control/fields.py": "control/test_objects_table.py",
    "control/gateway": "control/gateway/test_plan.py",
    "control/kube": "control/kube/test_world.py",
    "control/leaf.py": "control/test_intake.py",
    "control/membership.py": "control/test_reconcile.py",
    "control/remark.py": "control/test_reconcile.py",
    "control/rules.py": "control/test_objects_table.py",
    "control/scalar.py": "control/test_document.py",
    "control/schema.py": "control/test_intake.py",
    "control/statuses.py": "control/test_crds.py",
    "demo": "integration/test_demo.py",
    "edge/envoy.py": "integration/test_envoy_data_plane.py",
    "edge/extproc/metrics.py": "edge/extproc/test_service.py",
    "edge/extproc/settings.py": "edge/extproc/test_service.py",
    "edge/grpc": "edge/grpc/test_connection.py",
    "edge/kube": "edge/kube/test_controller.py",
    "edge/objects": "edge/objects/test_source.py",
    "edge/scrape": "edge/scrape/test_scraper.py",
    "exchange/response.py": "exchange/test_machine.py",
    "model/detector.py": "flow/test_saturation.py",
    "schedule/affinity.py": "schedule/test_prefix.py",
    "schedule/explain.py": "test_engine.py",
    "schedule/load.py": "test_engine.py",
    "schedule/plugin.py": "schedule/test_registry.py",
    "schedule/types.py": "schedule/test_registry.py",
    "sim": "sim/test_server.py",
    "telemetry/rows.py": "telemetry/test_meters.py",
    "telemetry/survey.py": "test_engine.py",
}
"""A module or package to the test file that covers it."""


def modules() -> list[str]:
    """Every module with behaviour, relative to the package."""
    found = []
    for path in sorted(PACKAGE.rglob("*.py")):
        name = path.relative_to(PACKAGE).as_posix()
        if not path.name.startswith("__") and _has_behaviour(ast.parse(path.read_text())):
            found.append(name)
    return found


def _has_behaviour(tree: ast.Module) -> bool:
    """Whether there is a function whose body is more than its docstring, outside of Protocols."""
    classes = [node for node in tree.body if isinstance(node, ast.ClassDef)]
    functions = [node for node in tree.body if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)]
    for each in classes:
        if not any(isinstance(base, ast.Name) and base.id == "Protocol" for base in each.bases):
            functions += [node for node in each.body if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)]
    return any(len(function.body) > 1 for function in functions)


def _twin(module: str) -> Path:
    path = Path(module)
    return ROOT / "tests" / path.parent / f"test_{path.name}"


def _elsewhere(module: str) -> str | None:
    return next(
        (test for prefix, test in TESTED_IN.items() if module == prefix or module.startswith(f"{prefix}/")), None
    )


@pytest.mark.parametrize("module", modules())
def test_every_module_with_behaviour_has_its_test(module: str) -> None:
    test = _elsewhere(module)
    assert _twin(module).exists() or test is not None, f"{_twin(module).relative_to(ROOT)} is missing"


@pytest.mark.parametrize("test", sorted(set(TESTED_IN.values())))
def test_what_covers_several_modules_exists(test: str) -> None:
    assert (ROOT / "tests" / test).exists()
