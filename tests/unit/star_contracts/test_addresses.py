"""Which hosts no pod is made to call, in every spelling."""

import pytest

from star_contracts.addresses import host_of, is_allowed_host, is_forbidden_address, is_forbidden_host

pytestmark = pytest.mark.bad_input


@pytest.mark.parametrize(
    "url",
    [
        "http://169.254.169.254/latest/meta-data",
        "http://169.254.170.2/v2/credentials",
        "http://2852039166/v1",
        "http://0xa9fea9fe/v1",
        "http://0xA9.0xFE.0xA9.0xFE/v1",
        "http://0251.0376.0251.0376/v1",
        "http://169.254.43518/v1",
        "http://[::ffff:169.254.169.254]/v1",
        "http://[::ffff:a9fe:a9fe]:80/v1",
        "http://[::169.254.169.254]/v1",
        "http://[64:ff9b::a9fe:a9fe]/v1",
        "http://[64:ff9b:1::a9fe:a9fe]/v1",
        "http://[::ffff:0:a9fe:a9fe]/v1",
        "http://[2002:a9fe:a9fe::1]/v1",
        "http://[fe80::1]/v1",
        "http://[fe80::1%25eth0]/v1",
        "http://[fd00:ec2::254]/v1",
        "http://[fd20:ce::254]/v1",
        "http://100.100.100.200/v1",
        "http://168.63.129.16/v1",
        "http://192.0.0.192/v1",
        "http://metadata.google.internal/v1",
        "http://METADATA.google.internal./v1",
        "http://metadata/v1",
        "http://instance-data.ec2.internal/v1",
        "http://api.metadata.cloud.ibm.com/v1",
        "http://metadata.tencentyun.com/v1",
    ],
)
def test_a_cloud_s_own_credentials_are_out_of_reach(url: str) -> None:
    assert is_forbidden_host(host_of(url)), host_of(url)


@pytest.mark.parametrize(
    "url",
    [
        "https://api.example.com/v1",
        "http://10.0.0.1:8000/v1",
        "http://127.0.0.1:8000/v1",
        "http://[::1]:8000/v1",
        "http://[2001:db8::1]/v1",
        "http://[64:ff9b::a00:1]/v1",
        "http://vllm.team.svc.cluster.local:8000/v1",
        "http://metadata-llm.example.com/v1",
        "https://169.example.com/v1",
    ],
)
def test_other_endpoints_are_not(url: str) -> None:
    assert not is_forbidden_host(host_of(url))


def test_what_a_name_stands_for_is_judged_alike() -> None:
    assert is_forbidden_address("169.254.169.254")
    assert is_forbidden_address("fe80::1%eth0")
    assert not is_forbidden_address("10.0.0.1")


@pytest.mark.parametrize(
    ("host", "allowed", "expected"),
    [
        ("api.example.com", (), True),
        ("api.example.com", ("api.example.com",), True),
        ("api.example.com", (".example.com",), True),
        ("example.com", (".example.com",), False),
        ("evilexample.com", (".example.com",), False),
        ("example.com.evil.org", ("example.com",), False),
        ("other.org", ("example.com",), False),
    ],
)
def test_a_list_of_hosts_holds_whole_names_and_domains(host: str, allowed: tuple[str, ...], expected: bool) -> None:
    assert is_allowed_host(host, allowed) is expected


def test_a_url_without_a_host_has_none() -> None:
    assert host_of("http://[::1") == ""
    assert host_of("file:///etc/passwd") == ""
