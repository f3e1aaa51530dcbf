"""`--server URL` as objects."""

import pytest

from stellwerk.control.reconcile import reconcile
from stellwerk.control.servers import from_urls
from stellwerk.model.catalog import FailureMode


@pytest.mark.parametrize(
    ("url", "address"),
    [
        ("http://127.0.0.1:8001", "127.0.0.1:8001"),
        ("http://127.0.0.1:8001/", "127.0.0.1:8001"),
        ("10.0.0.7:8000", "10.0.0.7:8000"),
        ("http://[fd00::7]:8000", "[fd00::7]:8000"),
        ("[::1]:8000", "[::1]:8000"),
        ("http://10.0.0.7", "10.0.0.7:80"),
        ("HTTP://10.0.0.7:8000", "10.0.0.7:8000"),
    ],
)
def test_a_url_becomes_an_endpoint_of_the_one_pool(url: str, address: str) -> None:
    flags = from_urls([url])
    assert flags.problems == ()
    whole = reconcile(flags.items, {})
    pool = whole.catalog.pools["default/default"]
    assert [endpoint.address for endpoint in pool.endpoints] == [address]
    assert whole.catalog.default_pool == "default/default"
    assert pool.failure_mode is FailureMode.OPEN
    assert whole.remarks == ()


@pytest.mark.parametrize(
    ("url", "said"),
    [
        ("https://a:1", "TLS to model servers is not supported yet"),
        ("http://a:8000/v1", 'leave out "/v1"'),
        ("a:8000/v1", 'leave out "/v1"'),
        ("http://a:8000?x=1", 'leave out "?x=1"'),
        ("a:8000/v1?x=1#y", 'leave out "/v1?x=1#y"'),
        ("ftp://a:1", 'the scheme "ftp" is not supported'),
        ("a", "the port is missing: write it like a:8000"),
        ("http://u:p@a:1", "credentials do not belong"),
        ("u:p@a:1", "credentials do not belong"),
        ("http://a:0", "port 0 is none to connect to"),
        ("http://a:99999", "write it like"),
        ("http://a:x", "write it like"),
        ("http://[::1", "write it like"),
        ("http://0.0.0.0:8000", "an address to listen on"),
        ("http://10.0.0:8000", "neither an IP address nor a DNS name"),
        ("http://a b:1", "neither an IP address nor a DNS name"),
        ("http://:8000", "neither an IP address nor a DNS name"),
        ("", "the port is missing"),
        ("http://[fe80::1%25eth0]:1", "neither an IP address nor a DNS name"),
    ],
)
def test_what_cannot_be_a_server_is_refused_with_the_remedy(url: str, said: str) -> None:
    (problem,) = from_urls([url]).problems
    assert said in problem.message
    assert "p@" not in str(problem)


def test_the_same_server_twice_is_refused() -> None:
    assert [problem.message for problem in from_urls(["http://a:1", "a:1/"]).problems] == [
        "the same server is given twice"
    ]


def test_names_are_valid_and_tell_servers_apart() -> None:
    flags = from_urls(["http://GPU_1.example:1", "http://GPU_1.example:2", "[::1]:1", "_x:1"])
    names = [item.object.metadata.name for item in flags.items]
    assert names == ["gpu-1.example-1", "gpu-1.example-2", "ip6---1-1", "x-1", "default"]
