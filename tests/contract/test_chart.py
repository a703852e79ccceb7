"""The Helm chart: it lints, renders, says what its values say, and a real API server takes it."""

import copy
import json
from pathlib import Path
from typing import Any

import pytest
import yaml

from star_cli.generate import INSTALL_HEAD
from star_operator.api.kinds import KINDS
from star_operator.api.values import Values
from star_operator.core.network import PodNetwork
from star_operator.core.settings import Settings
from tests.contract.conftest import ROOT
from tests.support.helm import CHART, helm, only, render
from tests.support.kubectl import Kubectl

EMBEDDED = CHART / "values-embedded.yaml"
EVERYTHING = ("--set", "metrics.serviceMonitor.enabled=true,networkPolicy.enabled=true,priorityClassName=high")


@pytest.fixture(scope="module")
def rendered() -> list[dict[str, Any]]:
    return render(*EVERYTHING)


LINTED = {"default": [], "embedded": ["--values", str(EMBEDDED)], "all": list(EVERYTHING)}


@pytest.mark.parametrize("values", LINTED.values(), ids=LINTED)
def test_lints_strictly(values: list[str]) -> None:
    assert "0 chart(s) failed" in helm("lint", str(CHART), "--strict", *values)


@pytest.mark.parametrize("values", [[], ["--values", str(EMBEDDED)]], ids=["default", "embedded"])
def test_the_settings_file_is_one_that_the_operator_reads(values: list[str]) -> None:
    data = only(render(*values), "ConfigMap")["data"]
    assert list(data) == ["settings.yaml"]
    settings = Settings.model_validate(yaml.safe_load(data["settings.yaml"]))
    assert set(settings.pools) == {"h20", "cpu"}
    assert settings.progress_url == "http://star-operator.star-system.svc:8081/v1/progress"
    h20 = settings.pools["h20"]
    assert h20.node_selector == {"star.recsys.dev/pool": "h20"}
    assert h20.gpu_resource == "nvidia.com/gpu"
    assert [toleration.key for toleration in h20.tolerations] == ["nvidia.com/gpu"]
    if values:
        assert (h20.image_variant, h20.shm_size, h20.topology_key) == ("cpu", "1Gi", None)
        assert settings.store.connection.endpoint == "http://s3.star-system.svc.cluster.local:7070"
    else:
        assert (h20.image_variant, h20.shm_size) == ("cuda", "64Gi")
        assert h20.topology_key is not None


def test_every_setting_can_be_set() -> None:
    """What the operator reads and the chart does not write could not be configured."""
    text = only(render(), "ConfigMap")["data"]["settings.yaml"]
    written = set(yaml.safe_load(text))
    assert written == {field.alias for field in Settings.model_fields.values()}


def test_the_values_are_those_of_the_schemas_model() -> None:
    loaded = yaml.safe_load((CHART / "values.yaml").read_text())
    Values.model_validate(loaded)
    assert set(loaded) == {field.alias for field in Values.model_fields.values()}


@pytest.mark.bad_input
@pytest.mark.parametrize(
    ("setting", "says"),
    [
        ("pools.h20.imageVariat=cuda", "'/pools/h20': additional properties 'imageVariat' not allowed"),
        ("pools.h20.imageVariant=rocm", "'/pools/h20/imageVariant'"),
        ("store.uri=http://minio", "'/store/uri'"),
        ("replicas=-1", "'/replicas'"),
        ("storage.uri=s3://x", "additional properties 'storage' not allowed"),
        ("settings.workers=0", "'/settings/workers'"),
        ("imagePullPolicy=Sometimes", "'/imagePullPolicy'"),
        ("pools.h20.shmSize=64 GB", "'/pools/h20/shmSize'"),
        ("podSecurity.runAsUser=0", "'/podSecurity/runAsUser'"),
        ("pods.labels.a=-", "'/pods/labels/a'"),
        ("pods.labels.-a=b", "invalid propertyName '-a'"),
        ("caBundle=/etc/ssl/ca.pem", "'/caBundle'"),
        ("caBundle=-----BEGIN CERTIFICATE----- -----BEGIN PRIVATE KEY-----", "'/caBundle'"),
        ("networkPolicy.pods.outside[0].ipBlock.cidr=all", "'/networkPolicy/pods/outside/0/ipBlock/cidr'"),
        ("networkPolicy.pods.outside[0].host=a", "additional properties 'host' not allowed"),
        ("proxy.https=http://user:password@proxy:3128", "'/proxy/https'"),
        ("pods.labels.job-name=b", "invalid propertyName 'job-name'"),
        (r"pools.cpu.pods.annotations.star\.recsys\.dev/config=b", "invalid propertyName 'star.recsys.dev/config'"),
    ],
)
def test_bad_values_are_refused_by_name(setting: str, says: str) -> None:
    with pytest.raises(RuntimeError) as refusal:
        render("--set", setting)
    assert says in str(refusal.value)


@pytest.mark.case("private-ca")
def test_a_bundle_of_certificate_authorities_reaches_the_operator(tmp_path: Path) -> None:
    pem = "-----BEGIN CERTIFICATE-----\nMIIB\n-----END CERTIFICATE-----\n"
    (tmp_path / "ca.pem").write_text(pem)
    proxy = "proxy.https=http://proxy:3128,proxy.noProxy={minio.example,.corp}"
    objects = render("--set-file", f"caBundle={tmp_path / 'ca.pem'}", "--set", proxy)
    settings = Settings.model_validate(yaml.safe_load(only(objects, "ConfigMap")["data"]["settings.yaml"]))
    assert settings.ca_bundle == pem
    assert settings.proxy.https == "http://proxy:3128"
    assert settings.proxy.no_proxy == ("minio.example", ".corp")


@pytest.mark.parametrize("setting", ["store.secretName=", "store.secretName=null"])
def test_pods_may_have_no_keys(setting: str) -> None:
    objects = render("--set", setting)
    settings = Settings.model_validate(yaml.safe_load(only(objects, "ConfigMap")["data"]["settings.yaml"]))
    assert settings.store.secret_name == ""


def test_values_of_a_chart_of_before_do() -> None:
    """`helm upgrade --reuse-values`: what they lack is as the chart's own values say."""
    ours, theirs = (
        render(),
        render("--set", "caBundle=null,proxy=null,pods=null,podSecurity=null,networkPolicy.pods=null"),
    )
    settings = [yaml.safe_load(only(one, "ConfigMap")["data"]["settings.yaml"]) for one in (ours, theirs)]
    assert Settings.model_validate(settings[0]) == Settings.model_validate(settings[1])
    pods = [only(one, "Deployment")["spec"]["template"]["spec"]["securityContext"] for one in (ours, theirs)]
    assert pods[0] == pods[1]


def test_what_tenants_may_call_and_set_reaches_the_operator() -> None:
    lists = {
        "allowedEngineArgs": ["--speculative-config"],
        "allowedEndpointHosts": [".models.example.com", "2001:db8::1"],
        "allowedGitHosts": ["git.example.com"],
    }
    objects = render(
        *(part for key, one in lists.items() for part in ("--set-json", f"settings.{key}={json.dumps(one)}"))
    )
    found = yaml.safe_load(only(objects, "ConfigMap")["data"]["settings.yaml"])
    assert {key: found[key] for key in lists} == lists
    settings = Settings.model_validate(found)
    assert settings.allowed_engine_args == ("--speculative-config",)
    assert settings.allowed_git_hosts == ("git.example.com",)
    none = Settings.model_validate(yaml.safe_load(only(render(), "ConfigMap")["data"]["settings.yaml"]))
    assert (none.allowed_engine_args, none.allowed_endpoint_hosts, none.allowed_git_hosts) == ((), (), ())


def test_the_embedded_clusters_store_is_no_pod() -> None:
    settings = Settings.model_validate(
        yaml.safe_load(only(render("--values", str(EMBEDDED)), "ConfigMap")["data"]["settings.yaml"])
    )
    assert [one.ip_block.cidr for one in settings.network.store if one.ip_block] == ["0.0.0.0/0"]


def test_policies_of_pods_can_be_narrowed_and_switched_off() -> None:
    scraper = "networkPolicy.pods.scrapers[0].podSelector.matchLabels.app=prometheus"
    narrow = f"networkPolicy.pods.outside[0].ipBlock.cidr=198.51.100.0/24,{scraper}"
    for setting, enabled in ((narrow, True), ("networkPolicy.pods.enabled=false", False)):
        data = only(render("--set", setting), "ConfigMap")["data"]["settings.yaml"]
        network = Settings.model_validate(yaml.safe_load(data)).network
        assert network.enabled is enabled
        assert bool(network.outside and network.scrapers) is enabled
        assert network.dns == PodNetwork().dns


def test_region_and_addressing_style_reach_the_operator() -> None:
    objects = render("--set", "store.connection.region=eu-west-1,store.connection.pathStyle=false")
    settings = Settings.model_validate(yaml.safe_load(only(objects, "ConfigMap")["data"]["settings.yaml"]))
    assert (settings.store.connection.region, settings.store.connection.path_style) == ("eu-west-1", False)


def test_a_registry_goes_in_front_of_every_image() -> None:
    objects = render("--set", "imageRegistry=registry.example.com:5000/mirror")
    settings = yaml.safe_load(only(objects, "ConfigMap")["data"]["settings.yaml"])
    references = [reference for images in settings["images"].values() for reference in images.values()]
    references.append(only(objects, "Deployment")["spec"]["template"]["spec"]["containers"][0]["image"])
    assert len(references) == 13
    assert all(reference.startswith("registry.example.com:5000/mirror/star/") for reference in references)


@pytest.mark.parametrize("user", [65532, 1000680000, None])
def test_ids_are_those_of_the_values_for_every_pod(user: int | None) -> None:
    """Null leaves them to the cluster: OpenShift's ids are of ten digits, and other ones are refused there."""
    value = "null" if user is None else str(user)
    ids = [f"podSecurity.{key}={value}" for key in ("runAsUser", "runAsGroup", "fsGroup")]
    objects = render("--set", ",".join(ids))
    settings = Settings.model_validate(yaml.safe_load(only(objects, "ConfigMap")["data"]["settings.yaml"]))
    assert {getattr(settings.pod_security, field) for field in type(settings.pod_security).model_fields} == {user}
    operator = only(objects, "Deployment")["spec"]["template"]["spec"]["securityContext"]
    test = only(objects, "Pod", "star-operator-test")["spec"]["securityContext"]
    wanted = {} if user is None else dict.fromkeys(["runAsUser", "runAsGroup", "fsGroup"], user)
    assert operator == test == {"runAsNonRoot": True, "seccompProfile": {"type": "RuntimeDefault"}, **wanted}


@pytest.mark.case("side-car")
def test_what_pods_carry_is_set_for_the_cluster_and_for_a_pool() -> None:
    values = {
        "pods": {"labels": {"sidecar.istio.io/inject": "false"}, "serviceAccountName": "star"},
        "pools": {"h20": {"pods": {"annotations": {"cost": "gpu"}}}},
    }
    arguments = [f"{key}={json.dumps(value)}" for key, value in values.items()]
    text = only(render(*(part for one in arguments for part in ("--set-json", one))), "ConfigMap")["data"]
    settings = Settings.model_validate(yaml.safe_load(text["settings.yaml"]))
    assert settings.pods.labels == {"sidecar.istio.io/inject": "false"}
    assert settings.pods.service_account_name == "star"
    assert settings.pools["h20"].pods.annotations == {"cost": "gpu"}


@pytest.mark.case("unquoted-quantity")
def test_quantities_of_pools_need_no_quotes() -> None:
    text = only(render("--set-json", "pools.h20.shmSize=1073741824"), "ConfigMap")["data"]["settings.yaml"]
    assert Settings.model_validate(yaml.safe_load(text)).pools["h20"].shm_size == "1073741824"


def test_new_settings_start_new_pods() -> None:
    one, two = (
        only(render(*values), "Deployment")["spec"]["template"]["metadata"]["annotations"]
        for values in ([], ["--set", "settings.workers=3"])
    )
    assert one != two


def test_crds_are_kept_and_can_be_left_out(rendered: list[dict[str, Any]]) -> None:
    crds = [obj for obj in rendered if obj["kind"] == "CustomResourceDefinition"]
    assert len(crds) == len(KINDS)
    assert all(obj["metadata"]["annotations"]["helm.sh/resource-policy"] == "keep" for obj in crds)
    assert not [obj for obj in render("--set", "crds.install=false") if obj["kind"] == "CustomResourceDefinition"]


def test_the_committed_install_manifest_is_the_rendered_chart() -> None:
    text = helm("template", "star-operator", str(CHART), "--namespace", "star-system", "--no-hooks")
    committed = (ROOT / "manifests" / "install.yaml").read_text()
    assert committed == INSTALL_HEAD + text, "run `make generate` and commit what it wrote"


def test_the_operator_gets_its_settings_and_nothing_else(rendered: list[dict[str, Any]]) -> None:
    container = only(rendered, "Deployment")["spec"]["template"]["spec"]["containers"][0]
    assert container["args"] == ["--settings=/etc/star-operator/settings.yaml", "--lease=star-operator"]
    assert {variable["name"] for variable in container["env"]} == {"POD_NAME", "POD_NAMESPACE"}
    assert container["livenessProbe"]["httpGet"] == {"path": "/healthz", "port": "http"}
    assert container["readinessProbe"]["httpGet"] == {"path": "/readyz", "port": "http"}
    assert {port["name"]: port["containerPort"] for port in container["ports"]} == {"http": 8080, "progress": 8081}
    ports = only(rendered, "Service")["spec"]["ports"]
    assert {port["name"]: port["port"] for port in ports} == {"http": 8080, "progress": 8081}


def test_the_service_selects_the_operator_and_not_the_test_pod(rendered: list[dict[str, Any]]) -> None:
    selector = only(rendered, "Service")["spec"]["selector"].items()
    assert selector <= only(rendered, "Deployment")["spec"]["template"]["metadata"]["labels"].items()
    assert not selector <= only(rendered, "Pod", "star-operator-test")["metadata"]["labels"].items()


@pytest.fixture(scope="module")
def namespaces(kubectl: Kubectl) -> None:
    """The operator's namespace, under the strictest pod security there is."""
    labels = {"pod-security.kubernetes.io/enforce": "restricted"}
    kubectl.apply({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "star-system", "labels": labels}})


@pytest.mark.usefixtures("namespaces")
def test_the_api_server_takes_every_object(kubectl: Kubectl, rendered: list[dict[str, Any]]) -> None:
    known = [obj for obj in rendered if obj["kind"] != "ServiceMonitor"]  # the Prometheus operator's CRD is not here
    items = {"apiVersion": "v1", "kind": "List", "items": [obj for obj in known if obj["kind"] != "Pod"]}
    arguments = ("apply", "--server-side", "--dry-run=server", "--validate=strict", "-f", "-")
    taken = kubectl.run(*arguments, stdin=json.dumps(items))
    assert len(taken.splitlines()) == len(items["items"])


@pytest.mark.usefixtures("namespaces")
def test_pods_are_restricted(kubectl: Kubectl, rendered: list[dict[str, Any]]) -> None:
    """A namespace that enforces the `restricted` standard takes both pods, and would refuse a lesser one."""
    template = only(rendered, "Deployment")["spec"]["template"]
    operator = {**pod("operator"), "spec": {**template["spec"], "serviceAccountName": "default"}}
    test = only(rendered, "Pod", "star-operator-test")
    for spec in (operator["spec"], test["spec"]):
        # priority and service account are admitted by other objects, which are not under test here
        spec.pop("priorityClassName", None)
    kubectl.apply(
        {"apiVersion": "v1", "kind": "ServiceAccount", "metadata": {"name": "default", "namespace": "star-system"}}
    )
    for manifest in (operator, test):
        kubectl.run("create", "--dry-run=server", "-f", "-", stdin=json.dumps(manifest))
    careless = copy.deepcopy(operator)
    careless["spec"]["containers"][0]["securityContext"].pop("capabilities")
    with pytest.raises(RuntimeError, match="violates PodSecurity"):
        kubectl.run("create", "--dry-run=server", "-f", "-", stdin=json.dumps(careless))


def pod(name: str) -> dict[str, Any]:
    return {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": name, "namespace": "star-system"}}


def test_values_are_all_explained() -> None:
    """Each top-level value has a comment above it or above its block."""
    lines = (CHART / "values.yaml").read_text().splitlines()
    keys = [number for number, line in enumerate(lines) if line and line[0].isalpha()]
    silent = {"imagePullPolicy", "resources", "nodeSelector", "tolerations", "affinity", "priorityClassName"}
    silent |= {"podAnnotations", "podLabels", "serviceAccount", "rbac", "metrics", "networkPolicy"}
    silent |= {"nameOverride", "fullnameOverride"}
    unexplained = [lines[number] for number in keys if not lines[number - 1].startswith("#")]
    assert {line.partition(":")[0] for line in unexplained} <= silent


def test_notes_name_the_next_steps() -> None:
    notes = (CHART / "templates" / "NOTES.txt").read_text()
    assert "create secret generic" in notes
    assert "helm -n" in notes


def test_no_registry_is_written_down() -> None:
    for path in Path(CHART).rglob("*.yaml"):
        assert "localhost:" not in path.read_text(), path
