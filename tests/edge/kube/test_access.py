"""The ways to an API server: what is looked for, in which order, and what is said when nothing is found."""

import base64
import ssl
from pathlib import Path
from typing import Any

import pytest
import yaml

from stellwerk.edge.kube import access
from stellwerk.edge.kube.access import Credentials, NoCluster, Secret, find, from_kubeconfig, in_cluster


def config(path: Path, user: dict[str, Any], cluster: dict[str, Any] | None = None, **context: str) -> str:
    """A kubeconfig file with one of each."""
    value = {
        "current-context": "here",
        "contexts": [{"name": "here", "context": {"cluster": "c", "user": "u", **context}}],
        "clusters": [{"name": "c", "cluster": {"server": "https://10.0.0.1:6443/", **(cluster or {})}}],
        "users": [{"name": "u", "user": user}],
    }
    file = path / "config"
    file.write_text(yaml.safe_dump(value))
    return str(file)


def service_account(path: Path) -> Path:
    """What every Pod has."""
    for name, text in (("token", "t-1\n"), ("ca.crt", ""), ("namespace", "apps\n")):
        (path / name).write_text(text)
    return path


def test_a_kubeconfig_says_all(tmp_path: Path) -> None:
    (tmp_path / "ca.pem").write_text("authority")
    user = {"client-certificate-data": base64.b64encode(b"cert").decode(), "client-key": "key.pem", "token": "t"}
    cluster = {"certificate-authority": "ca.pem", "tls-server-name": "kube"}
    found = from_kubeconfig(config(tmp_path, user, cluster, namespace="apps"))
    assert found.server == "https://10.0.0.1:6443"
    assert (found.namespace, found.server_name, found.is_insecure) == ("apps", "kube", False)
    assert found.token == Secret(data=b"t")
    assert found.certificate == Secret(data=b"cert")
    assert found.key == Secret(str(tmp_path / "key.pem"))
    assert found.authority is not None
    assert found.authority.read() == b"authority"
    assert "t" not in repr(found.token)[7:-1].replace(".", "")


@pytest.mark.parametrize(
    ("user", "cluster", "message"),
    [
        ({"exec": {}}, {}, "use a token or a client certificate"),
        ({"username": "a", "password": "b"}, {}, "uses username"),
        ({}, {"proxy-url": "http://x"}, "proxy-url"),
        ({}, {"server": "10.0.0.1"}, "has no server"),
        ({"client-key-data": "%%"}, {}, "client-key-data is no base64"),
    ],
)
def test_what_cannot_be_used_is_said(tmp_path: Path, user: Any, cluster: Any, message: str) -> None:
    with pytest.raises(NoCluster, match=message):
        from_kubeconfig(config(tmp_path, user, cluster))


@pytest.mark.parametrize("text", ["", "[", "a: b", "current-context: x\ncontexts: 7", "current-context: x"])
def test_a_broken_kubeconfig_is_refused(tmp_path: Path, text: str) -> None:
    file = tmp_path / "config"
    file.write_text(text)
    with pytest.raises(NoCluster):
        from_kubeconfig(str(file))


def test_the_order_is_flag_variable_pod_home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setattr(access, "SERVICE_ACCOUNT", service_account(tmp_path))
    named = config(tmp_path, {"token": "t"})
    pod = {"KUBERNETES_SERVICE_HOST": "fd00::1", "KUBERNETES_SERVICE_PORT": "443"}
    with pytest.raises(NoCluster, match="cannot be read"):
        find("/nowhere", {"KUBECONFIG": named})
    assert find(None, {"KUBECONFIG": f"/nowhere:{named}", **pod}).server == "https://10.0.0.1:6443"
    inside = in_cluster(pod, tmp_path)
    assert (inside.server, inside.namespace) == ("https://[fd00::1]:443", "apps")
    with pytest.raises(NoCluster, match="this is no Pod"):
        find(None, {})
    (tmp_path / ".kube").mkdir()
    Path(named).rename(tmp_path / ".kube" / "config")
    assert find(None, {}).server == "https://10.0.0.1:6443"


def test_a_token_that_is_renewed_is_shown(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    token = service_account(tmp_path) / "token"
    credentials = Credentials(access.Access("http://x", token=Secret(str(token))))
    credentials.refresh()
    assert credentials.headers == {"Authorization": "Bearer t-1"}
    token.write_text("t-22\n")
    credentials.refresh()
    assert credentials.headers == {"Authorization": "Bearer t-1"}
    monkeypatch.setattr(access, "LOOK_SECONDS", 0.0)
    credentials.refresh()
    assert credentials.headers == {"Authorization": "Bearer t-22"}
    token.unlink()
    credentials.refresh()
    assert credentials.headers == {"Authorization": "Bearer t-22"}


def test_certificates_that_are_none_are_said(tmp_path: Path) -> None:
    credentials = Credentials(access.Access("https://x", authority=Secret(data=b"no PEM")))
    with pytest.raises(NoCluster, match="cannot be used"):
        credentials.refresh()


def test_an_insecure_cluster_is_not_verified() -> None:
    credentials = Credentials(access.Access("https://x", is_insecure=True))
    credentials.refresh()
    assert isinstance(credentials.tls, ssl.SSLContext)
    assert credentials.tls.verify_mode is ssl.CERT_NONE
