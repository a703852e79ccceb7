"""Endpoints that resources name: which hosts, and which Secrets, are refused."""

import pytest

from star_operator.api.common import LLM
from star_operator.builders.llm import resolve_llm
from star_operator.core.errors import InvalidSpec
from tests.support.goldens import settings

pytestmark = pytest.mark.bad_input


def resolve(url: str, secret: str | None = None, hosts: tuple[str, ...] = (), role: str = "llm") -> None:
    endpoint: dict[str, object] = {"url": url, "model": "m"} | ({"secretRef": {"name": secret}} if secret else {})
    found = settings().model_copy(update={"allowed_endpoint_hosts": hosts})
    resolve_llm(LLM.model_validate({"endpoint": endpoint}), None, "ns", found, role)


@pytest.mark.parametrize(
    ("url", "hosts", "says"),
    [
        ("http://169.254.169.254/latest", (), "llm.endpoint.url names 169.254.169.254"),
        ("http://0xa9fea9fe/v1", (), "credentials of their own"),
        ("https://evil.example.org/v1", (".example.com",), "settings.allowedEndpointHosts"),
        ("http://169.254.169.254/v1", ("169.254.169.254",), "credentials of their own"),
    ],
)
def test_a_host_that_pods_may_not_call_is_refused(url: str, hosts: tuple[str, ...], says: str) -> None:
    with pytest.raises(InvalidSpec, match="ForbiddenEndpoint") as caught:
        resolve(url, hosts=hosts)
    assert says in caught.value.message


def test_the_field_of_an_agents_own_endpoint_is_named() -> None:
    with pytest.raises(InvalidSpec, match=r"agentLlms\.planner\.endpoint\.url"):
        resolve("http://169.254.169.254/v1", role="llm.planner")


def test_the_store_s_keys_are_sent_to_nobody() -> None:
    with pytest.raises(InvalidSpec, match=r"secretRef names star-store, which holds the keys of the artifact store"):
        resolve("https://api.example.com/v1", secret="star-store")


def test_others_are_called() -> None:
    resolve("https://api.example.com/v1", secret="key", hosts=(".example.com",))
    resolve("http://10.0.0.1:8000/v1")
