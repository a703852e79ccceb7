"""What pods get to reach the outside with: credentials or none, certificate authorities, proxies."""

from typing import Any

import pytest
from pydantic import ValidationError

from star_contracts.job import ModelSource
from star_operator.api.common import LLMServer, ModelRef
from star_operator.builders.llmserver import server_objects
from star_operator.builders.step import ServerPlan
from star_operator.core.objects import KubeObject
from star_operator.core.settings import Settings
from star_operator.policy.trouble import secret_uses
from tests.support import goldens
from tests.support.goldens import CASES, children, resource, settings

PEM = "-----BEGIN CERTIFICATE-----\nMIIB\n-----END CERTIFICATE-----\n"
AWS_KEYS = {"AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN"}


@pytest.fixture
def cluster(monkeypatch: pytest.MonkeyPatch) -> Any:
    """Make the goldens' cluster one with these settings."""

    def change(**changes: Any) -> Settings:
        changed = Settings.model_validate(settings().model_dump() | changes)
        monkeypatch.setattr(goldens, "settings", lambda: changed)
        return changed

    return change


def templates(objects: list[KubeObject]) -> list[tuple[KubeObject, KubeObject]]:
    """Pod templates, each with the data of the ConfigMap it mounts."""
    configs = {obj["metadata"]["name"]: obj["data"] for obj in objects if obj["kind"] == "ConfigMap"}
    pods = [obj["spec"]["template"]["spec"] for obj in objects if "template" in obj.get("spec", {})]
    return [(pod, configs.get(_config_map(pod), {})) for pod in pods]


def _config_map(pod: KubeObject) -> str | None:
    sources = [source for volume in pod["volumes"] for source in volume.get("projected", {}).get("sources", [])]
    return next((source["configMap"]["name"] for source in sources if "configMap" in source), None)


def environment(container: KubeObject) -> dict[str, Any]:
    return {variable["name"]: variable.get("value", variable.get("valueFrom")) for variable in container["env"]}


def containers(pod: KubeObject) -> list[KubeObject]:
    return [*pod.get("initContainers", []), *pod["containers"]]


@pytest.mark.case("session-token")
@pytest.mark.parametrize("case", CASES)
def test_whoever_gets_keys_gets_their_token_where_there_is_one(case: str) -> None:
    for pod, _ in templates(children(resource(case))):
        for container in containers(pod):
            found = environment(container)
            assert found.keys() >= AWS_KEYS or not AWS_KEYS & found.keys()
            if found.keys() >= AWS_KEYS:
                ref = {"name": "star-store", "key": "AWS_SESSION_TOKEN", "optional": True}
                assert found["AWS_SESSION_TOKEN"] == {"secretKeyRef": ref}


@pytest.mark.parametrize("case", CASES)
def test_without_a_secret_pods_have_no_keys_and_need_none(case: str, cluster: Any) -> None:
    changed = cluster(store={"uri": "s3://star", "secret_name": ""})
    for pod, _ in templates(children(resource(case))):
        assert not any(AWS_KEYS & environment(container).keys() for container in containers(pod))
    assert "" not in {use.name for use in secret_uses(resource(case).spec, changed)}


@pytest.mark.case("private-ca")
@pytest.mark.parametrize("case", CASES)
def test_every_pod_trusts_the_private_authorities(case: str, cluster: Any) -> None:
    cluster(ca_bundle=PEM)
    found = templates(children(resource(case)))
    assert found
    for pod, files in found:
        assert files["ca.crt"] == PEM
        for container in containers(pod):
            trusted = {
                environment(container)[name] for name in ("AWS_CA_BUNDLE", "REQUESTS_CA_BUNDLE", "SSL_CERT_FILE")
            }
            assert trusted == {"/etc/star/ca.crt"}
            assert {"name": "star", "mountPath": "/etc/star", "readOnly": True} in container["volumeMounts"]


@pytest.mark.case("private-ca")
def test_a_server_of_a_hub_model_trusts_them_too() -> None:
    plan = ServerPlan(LLMServer(model=ModelRef(uri="hf://a/b")), ModelSource(hub="a/b"))
    changed = Settings.model_validate(settings().model_dump() | {"ca_bundle": PEM})
    ((_, files),) = templates(server_objects("ns", plan, [], changed))
    assert files == {"ca.crt": PEM}
    assert [obj["kind"] for obj in server_objects("ns", plan, [], settings())] == [
        "NetworkPolicy", "Service", "Deployment"
    ]  # fmt: skip


@pytest.mark.parametrize("case", CASES)
def test_proxies_reach_every_container_and_never_stand_before_the_cluster(case: str, cluster: Any) -> None:
    proxy = {"https": "http://proxy.example:3128", "no_proxy": ("minio.example", ".corp.example")}
    cluster(proxy=proxy, cluster_domain="cluster.test")
    for pod, _ in templates(children(resource(case))):
        for container in containers(pod):
            found = environment(container)
            assert found["HTTPS_PROXY"] == found["https_proxy"] == "http://proxy.example:3128"
            assert "HTTP_PROXY" not in found
            direct = "localhost,127.0.0.1,.svc,.cluster.test,minio.example,.corp.example"
            assert found["NO_PROXY"] == found["no_proxy"] == direct


@pytest.mark.bad_input
@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"ca_bundle": "/etc/ssl/ca.pem"}, "ca_bundle"),
        ({"ca_bundle": PEM + "-----BEGIN PRIVATE KEY-----\nx\n-----END PRIVATE KEY-----\n"}, "private key"),
        ({"proxy": {"https": "http://user:password@proxy:3128"}}, "proxy.https"),
        ({"proxy": {"https": "proxy:3128"}}, "proxy.https"),
        ({"proxy": {"no_proxy": ("a,b",)}}, "proxy.no_proxy"),
    ],
)
def test_settings_that_cannot_work_are_refused(changes: dict[str, Any], says: str) -> None:
    with pytest.raises(ValidationError) as refused:
        Settings.model_validate(settings().model_dump() | changes)
    error = refused.value.errors()[0]
    assert says in ".".join(str(part) for part in error["loc"]) + error["msg"]
