"""Flags of `stellwerk epp` as the configuration that they make, and as hints where they make none."""

from typing import Any

import click
import pytest
from click.testing import CliRunner

from stellwerk.app.picker import HEALTH_SERVICES
from stellwerk.cli.epp import config_of, epp
from stellwerk.cli.go_flags import IGNORED, REFUSED, GoCommand
from stellwerk.config import Config, Observability
from tests.kit.upstream_charts import REFUSED as REFUSED_OF_CHARTS
from tests.kit.upstream_charts import STARTED, Started

POOL = "--pool-name=llama"


def configured(*arguments: str, env: dict[str, str] | None = None) -> Config:
    """What the command line asks for."""
    found: list[Config] = []

    @click.command(cls=GoCommand, params=epp.params)
    def command(**options: Any) -> None:
        found.append(config_of(options))

    result = CliRunner(env={"NAMESPACE": None, "POD_NAME": None, **(env or {})}).invoke(command, list(arguments))
    if result.exit_code != 0:
        raise AssertionError(result.output)
    return found[0]


def refusal(*arguments: str) -> str:
    """What is said instead of starting."""
    with pytest.raises(AssertionError) as said:
        configured(*arguments)
    return " ".join(str(said.value).replace("│", " ").split())


def test_a_pool_name_means_a_cluster_and_all_addresses() -> None:
    config = configured(POOL)
    assert config.epp.cluster is not None
    assert config.epp.cluster.pool_name == "llama"
    assert config.epp.cluster.namespace is None
    assert config.epp.cluster.guards_metrics
    assert config.epp.grpc.host in ("", "0.0.0.0")
    assert (config.epp.grpc.port, config.epp.health.port, config.admin.port) == (9002, 9003, 9090)
    assert config.epp.is_secure


def test_files_mean_no_cluster_and_loopback() -> None:
    config = configured("-f", "objects", POOL)
    assert config.epp.cluster is None
    assert config.epp.pool == "default/llama"
    assert config.epp.grpc.host == "127.0.0.1"


def test_the_namespace_is_that_of_the_flag_else_of_the_environment() -> None:
    environment = {"NAMESPACE": "pods", "POD_NAME": "epp-5d8f-x2"}
    config = configured(POOL, env=environment)
    assert config.epp.cluster is not None
    assert (config.epp.cluster.namespace, config.epp.cluster.instance) == ("pods", "epp-5d8f-x2")
    config = configured(POOL, "--pool-namespace=other", env=environment)
    assert config.epp.cluster is not None
    assert config.epp.cluster.namespace == "other"


def test_a_selector_needs_ports_and_excludes_a_pool() -> None:
    selector = "tier in (gpu, cpu),app!=llama,!old"
    ports = ("--endpoint-target-ports=8001,8000,8001", "--endpoint-target-ports", "9000")
    cluster = configured(f"--endpoint-selector={selector}", *ports).epp.cluster
    assert cluster is not None
    assert cluster.selector == selector
    assert cluster.ports == (8001, 8000, 9000)
    assert "needs --endpoint-target-ports" in refusal("--endpoint-selector=app=llama")
    assert "leave one out" in refusal("--endpoint-selector=app=llama", POOL)
    assert "write it like app=llama" in refusal("--endpoint-selector=app~=a")
    assert "write it like 8000,8001" in refusal("--endpoint-selector=a=b", "--endpoint-target-ports=0")
    many = ",".join(str(port) for port in range(1, 10))
    assert "names 9 different ports, and may name 8" in refusal(
        "--endpoint-selector=a", f"--endpoint-target-ports={many}"
    )


def test_the_flags_of_the_lightweight_picker_are_taken_as_they_stand() -> None:
    config = configured(
        *("--grpc-port", "9002", "--grpc-health-port", "9003", "--metrics-port", "9090"),
        *("--pool-name", "p", "--pool-namespace", "n", "--pool-group", "inference.networking.k8s.io"),
        *("--health-checking", "--secure-serving=true", "--v", "3", "--zap-encoder", "json"),
        env={"STELLWERK_EPP_TEST_ENDPOINT_SELECTION": "true"},
    )
    assert config.epp.has_health_on_grpc
    assert config.observability.log_format == "json"


@pytest.mark.parametrize("started", STARTED, ids=lambda started: started.chart)
def test_upstreams_charts_start_it_as_they_start_the_go_picker(started: Started) -> None:
    config = configured(*started.arguments, env=started.environment)
    cluster = config.epp.cluster
    assert cluster is not None
    assert (cluster.namespace, cluster.elects) == ("serving", started.elects)
    assert (cluster.pool_name, cluster.selector) in (("llama", ""), (None, "app=llama"))
    assert cluster.instance == started.environment.get("POD_NAME")
    assert config.picker_config == "/config/default-plugins.yaml"
    assert (config.epp.grpc.port, config.epp.health.port, config.admin.port) == (9002, 9003, 9090)
    assert config.observability == Observability(log_format="json")
    assert set(started.probes) <= set(HEALTH_SERVICES)


@pytest.mark.parametrize("started", REFUSED_OF_CHARTS, ids=lambda started: started.chart)
def test_what_upstreams_charts_ask_for_in_vain_is_refused_with_a_remedy(started: Started) -> None:
    said = refusal(*started.arguments)
    assert "of the Go picker has no counterpart" in said
    assert "label the Pods llm-d.ai/engine-type" in said or "use --tracing=false" in said


def test_the_environment_turns_steering_on_without_a_change_of_arguments() -> None:
    result = CliRunner().invoke(
        click.Group("stellwerk", commands={"epp": epp}),
        ["epp", "--pool-name=p", "--endpoint-selector=a=b", "--endpoint-target-ports=1"],
        env={"STELLWERK_EPP_TEST_ENDPOINT_SELECTION": "neither"},
        auto_envvar_prefix="STELLWERK",
    )
    assert "'neither' is not a valid boolean" in result.output


@pytest.mark.parametrize(
    "arguments",
    [
        (
            "-poolName",
            "llama",
            "-poolNamespace",
            "n",
            "-v",
            "4",
            "-grpcPort",
            "1",
            "-grpcHealthPort=2",
            "-metricsPort",
            "3",
        ),
        ("--poolName=llama", "--poolNamespace=n", "-v4", "--grpcPort=1", "--grpcHealthPort", "2", "--metricsPort=3"),
        ("-pool-name=llama", "-pool-namespace=n", "-v=4", "-grpc-port=1", "-grpc-health-port=2", "-metrics-port=3"),
    ],
)
def test_flags_are_spelled_as_go_or_an_early_picker_spells_them(arguments: tuple[str, ...]) -> None:
    config = configured(*arguments, "-secureServing=false", "-enablePprof=false")
    assert config.epp.cluster is not None
    assert (config.epp.cluster.pool_name, config.epp.cluster.namespace) == ("llama", "n")
    assert (config.epp.grpc.port, config.epp.health.port, config.admin.port) == (1, 2, 3)
    assert config.observability.log_level == "debug"
    assert not config.epp.is_secure


def test_a_short_option_keeps_its_value() -> None:
    assert configured("-fpool-name", "-f", "-objects").objects == ("pool-name", "-objects")


def test_empty_and_zero_are_what_go_makes_of_them() -> None:
    config = configured(POOL, "--tls-min-version=", "--grpc-max-recv-msg-size=", "--drain-timeout=0")
    assert config.epp.tls_min_version == "TLSv1.2"
    assert config.transport == configured(POOL).transport == configured(POOL, "--grpc-max-recv-msg-size=0").transport
    assert config.timeouts.drain_seconds == 0.0
    assert configured(POOL, "--grpc-max-recv-msg-size=10MiB").transport.max_message_bytes == 10 * 1024**2


def test_switches_are_read_as_go_reads_them() -> None:
    def elects(*arguments: str) -> bool:
        cluster = configured(POOL, *arguments).epp.cluster
        assert cluster is not None
        return cluster.elects

    assert not elects()
    assert elects("--ha-enable-leader-election")
    assert elects("--ha-enable-leader-election=true", "--grpc-port=1")
    assert not elects("--ha-enable-leader-election=false")
    assert elects("--ha-enable-leader-election", "--grpc-port", "1")


def test_intervals_are_those_of_the_scraper() -> None:
    scraping = configured(POOL, "--refresh-metrics-interval=100ms", "--metrics-staleness-threshold=3s").scraping
    assert scraping.busy_interval_seconds == 0.1
    assert scraping.believed_seconds == 3.0
    assert scraping.idle_interval_seconds < 3.0
    assert configured(POOL).scraping.believed_seconds is None


@pytest.mark.parametrize(
    ("arguments", "level", "layout"),
    [
        ((), "info", "auto"),
        (("--v=4",), "debug", "auto"),
        (("--v=2", "--zap-encoder=console"), "info", "text"),
        (("--zap-log-level=warn",), "warning", "auto"),
        (("--zap-log-level=5", "--zap-encoder=json"), "debug", "json"),
    ],
)
def test_verbosity_is_that_of_our_log(arguments: tuple[str, ...], level: str, layout: str) -> None:
    observability = configured(POOL, *arguments).observability
    assert (observability.log_level, observability.log_format) == (level, layout)


@pytest.mark.parametrize("flag", REFUSED)
def test_what_has_no_counterpart_is_refused_with_a_hint(flag: str) -> None:
    said = refusal(POOL, f"--{flag}=something")
    assert f"--{flag} of the Go picker has no counterpart: {REFUSED[flag].hint}" in said


@pytest.mark.parametrize("flag", [flag for flag, refused in REFUSED.items() if refused.harmless])
def test_values_that_ask_for_nothing_are_accepted(flag: str) -> None:
    for value in REFUSED[flag].harmless:
        configured(POOL, f"--{flag}={value}")


@pytest.mark.parametrize("flag", IGNORED)
def test_flags_without_effect_are_accepted(flag: str) -> None:
    configured(POOL, f"--{flag}")
    configured(POOL, f"--{flag}=x")


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ((), "nothing to pick from"),
        (("-f", "a", "--kubeconfig=k"), "--kubeconfig is for a cluster"),
        (("--server", "http://a:1", "--ha-enable-leader-election"), "--ha-enable-leader-election is for a cluster"),
        ((POOL, "--config-file=a", "--config-text=b"), "leave one out"),
        ((POOL, "--pool-group=example.com"), "is not one of 'inference.networking.k8s.io'"),
        ((POOL, "--tls-min-version=VersionTLS10"), "is not one of 'VersionTLS12', 'VersionTLS13'"),
    ],
)
def test_contradictions_are_refused(arguments: tuple[str, ...], words: str) -> None:
    assert words in refusal(*arguments)
