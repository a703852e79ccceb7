"""Endpoints that resources name: which hosts, and which Secrets, are refused."""

import pytest
from pydantic import ValidationError

from star_operator.api.common import LLM, Endpoint
from star_operator.builders.hosts import require_git
from star_operator.builders.llm import resolve_llm
from star_operator.core.errors import InvalidSpec
from tests.support.goldens import settings
from tests.support.promotions import GIT, promotion_of
from tests.support.promotions import target as place

pytestmark = pytest.mark.bad_input


def resolve(url: str, secret: str | None = None, hosts: tuple[str, ...] = (), role: str = "llm") -> None:
    endpoint: dict[str, object] = {"url": url, "model": "m"} | ({"secretRef": {"name": secret}} if secret else {})
    signed = settings().proofs.model_copy(update={"signing_secret_name": "signer"})
    found = settings().model_copy(
        update={"allowed_endpoint_hosts": hosts, "proofs": signed, "image_pull_secrets": ("pull",)}
    )
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


@pytest.mark.parametrize(
    ("secret", "holds"),
    [
        ("star-store", "the keys of the artifact store"),
        ("signer", "the key that proofs are signed with"),
        ("pull", "a password of the image registry"),
    ],
)
def test_what_is_the_platforms_is_sent_to_nobody(secret: str, holds: str) -> None:
    with pytest.raises(InvalidSpec, match=rf"llm\.endpoint\.secretRef names {secret}, which holds {holds}"):
        resolve("https://api.example.com/v1", secret=secret)


@pytest.mark.parametrize(
    "url",
    [
        "http://169.254.169.254\\.example.com/v1",
        "http://169.254.169%2e254/v1",
        "http://169\u3002254\u3002169\u3002254/v1",
        "http://user@169.254.169.254/v1",
        "http://api.example.com:80:80/v1",
        "http://[fe80::1%25eth0]/v1",
        "http://-x/v1",
        "http:///v1",
    ],
)
def test_a_host_that_clients_could_read_in_two_ways_is_no_host(url: str) -> None:
    with pytest.raises(ValidationError, match="url"):
        Endpoint(url=url, model="m")


@pytest.mark.parametrize(
    ("target", "forge", "hosts", "says"),
    [
        ("https://git.example.com/a", None, (".example.org",), r"spec\.target\.repository names git\.example\.com"),
        ("git@git.example.com:a", None, ("example.com",), r"settings\.allowedGitHosts"),
        ("https://metadata.google.internal/a", None, (), "credentials of their own"),
        ("ssh://git@2852039166/a", None, (), "credentials of their own"),
        ("https://git.example.com/a", "https://api.example.org", (".example.com",), r"spec\.git\.forge\.url names api"),
        ("https://git.example.com/a", "https://169.254.169.254", (), r"spec\.git\.forge\.url names 169"),
    ],
)
def test_a_repository_or_a_forge_that_pods_may_not_call_is_refused(
    target: str, forge: str | None, hosts: tuple[str, ...], says: str
) -> None:
    with pytest.raises(InvalidSpec, match=rf"ForbiddenEndpoint.*{says}"):
        call(target, forge, hosts)


def call(target: str, forge: str | None = None, hosts: tuple[str, ...] = ()) -> None:
    git = {**GIT, "forge": {"kind": "Gitea", **({"url": forge} if forge else {})}}
    found = promotion_of(target=place(repository=target), git=git)
    require_git(found.spec, settings().model_copy(update={"allowed_git_hosts": hosts}))


def test_others_are_called() -> None:
    call("git@git.example.com:a", "https://git.example.com", (".example.com",))
    call("https://git.example.com:8443/a")
    resolve("http://[2001:db8::1]:8000/v1", hosts=("2001:db8::1",))
    resolve("http://my_llm.example.com./v1", hosts=("my_llm.example.com",))
    resolve("https://api.example.com/v1", secret="key", hosts=(".example.com",))
    resolve("http://10.0.0.1:8000/v1")
