"""Fixtures that tests anywhere may ask for."""

pytest_plugins = ["tests.kit.api_server", "tests.kit.cluster"]
