"""What holds for every pod of every golden case, and what differs between pools."""

import json
from collections.abc import Iterator
from typing import Any

import pytest

from star_contracts.progress import TOKEN_AUDIENCE, TOKEN_PATH
from star_operator.api.common import Compute, PodTemplate, SecretKeyRef, SecretRef
from star_operator.builders.placement import image_of
from star_operator.builders.pod import Container, FieldRef, PodPlan, key_path, pod_template
from star_operator.core.errors import InvalidSpec
from star_operator.core.objects import KubeObject
from star_operator.core.podmeta import PodDefaults, PodSecurity
from star_operator.core.settings import Pool, Settings
from tests.support.goldens import CASES, children, resource, settings

STORE_KEYS = {"AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"}


def templates(objects: list[KubeObject]) -> Iterator[KubeObject]:
    for obj in objects:
        if "template" in obj.get("spec", {}):
            yield obj["spec"]["template"]


def containers(template: KubeObject) -> list[KubeObject]:
    return [*template["spec"].get("initContainers", []), *template["spec"]["containers"]]


def plan(pool: str = "cpu", **changes: Any) -> PodPlan:
    main = Container(role="jobs", command=("star-job",), store_access=True)
    return PodPlan(
        **{"main": main, "compute": Compute(pool=pool), "labels": {"a": "b"}, "config_map": "spec"} | changes
    )


@pytest.mark.parametrize("case", CASES)
def test_pods_are_restricted(case: str) -> None:
    """Pod Security Standard `restricted`, and a read-only root and no API token besides."""
    for template in templates(children(resource(case))):
        spec = template["spec"]
        assert spec["securityContext"]["runAsNonRoot"] is True
        assert (spec["securityContext"]["runAsUser"], spec["securityContext"]["runAsGroup"]) == (65532, 65532)
        assert spec["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
        assert spec["automountServiceAccountToken"] is False
        assert not {"hostNetwork", "hostPID", "hostIPC"} & spec.keys()
        assert all({"emptyDir", "projected"} & volume.keys() for volume in spec["volumes"])
        for container in containers(template):
            assert container["securityContext"] == {
                "allowPrivilegeEscalation": False,
                "readOnlyRootFilesystem": True,
                "capabilities": {"drop": ["ALL"]},
            }


@pytest.mark.parametrize("case", CASES)
def test_no_variable_volume_or_port_is_named_twice(case: str) -> None:
    """Server-side apply refuses a list-map with two entries of one key."""
    for template in templates(children(resource(case))):
        for container in containers(template):
            for field in ("env", "ports"):
                names = [item["name"] for item in container.get(field, [])]
                assert len(names) == len(set(names))
            paths = [mount["mountPath"] for mount in container["volumeMounts"]]
            assert len(paths) == len(set(paths))


@pytest.mark.parametrize("case", CASES)
def test_mounts_have_volumes(case: str) -> None:
    for template in templates(children(resource(case))):
        volumes = {volume["name"] for volume in template["spec"]["volumes"]}
        for container in containers(template):
            assert {mount["name"] for mount in container["volumeMounts"]} == volumes


@pytest.mark.parametrize("case", CASES)
def test_secrets_are_only_ever_referred_to(case: str) -> None:
    """Credentials are references in the environment of star-job containers; arguments and ConfigMaps know of none."""
    objects = children(resource(case))
    for obj in objects:
        assert obj["kind"] != "Secret"
        assert not any(key in json.dumps(obj.get("data", {})) for key in STORE_KEYS)
    for template in templates(objects):
        for container in containers(template):
            env = {item["name"]: item for item in container["env"]}
            wants_store = container["command"][0] == "star-job" and container["command"] != ["star-job", "vllm"]
            assert STORE_KEYS & env.keys() == (STORE_KEYS if wants_store else set())
            for key in STORE_KEYS & env.keys():
                assert env[key]["valueFrom"]["secretKeyRef"] == {"name": "star-store", "key": key}


def test_writable_folders_and_files_to_read() -> None:
    keys = {"llm": SecretKeyRef(name="deepseek", key="token")}
    compute = Compute(pool="h20", resources={"scratch": "10Gi"})
    spec = pod_template(plan(compute=compute, api_keys=keys, operator_token=True), settings())["spec"]
    volumes = {volume["name"]: volume for volume in spec["volumes"]}
    assert volumes["work"]["emptyDir"] == {"medium": "", "sizeLimit": "10Gi"}
    assert volumes["shm"]["emptyDir"] == {"medium": "Memory", "sizeLimit": "64Gi"}
    item = {"key": "token", "path": "keys/llm", "mode": 0o440}
    assert volumes["star"]["projected"]["sources"] == [
        {"configMap": {"name": "spec"}},
        {"secret": {"name": "deepseek", "items": [item]}},
    ]
    assert key_path("llm") == "/etc/star/keys/llm"
    token = {"path": "token", "audience": TOKEN_AUDIENCE, "expirationSeconds": 3600}
    assert volumes["token"]["projected"]["sources"] == [{"serviceAccountToken": token}]
    mounts = {mount["name"]: mount["mountPath"] for mount in spec["containers"][0]["volumeMounts"]}
    assert mounts["token"] + "/token" == TOKEN_PATH
    assert spec["securityContext"]["fsGroup"] == 65532


def test_environment_fixed_before_own_before_pool_before_default() -> None:
    pools = {"cpu": Pool(env={"A": "pool", "B": "pool", "HOME": "/pool", "AWS_ACCESS_KEY_ID": "pool"})}
    main = Container(
        role="jobs", command=("x",), env={"B": "own", "IP": FieldRef("status.podIP")}, defaults={"A": "d", "C": "d"}
    )
    found = settings().model_copy(update={"pools": pools})
    env = pod_template(plan(main=main), found)["spec"]["containers"][0]["env"]
    values = {item["name"]: item.get("value") or item["valueFrom"]["fieldRef"]["fieldPath"] for item in env}
    assert values == {
        "A": "pool",
        "B": "own",
        "C": "d",
        "IP": "status.podIP",
        "HOME": "/tmp",
        "STAR_WORK_DIR": "/work",
    }


def test_h20_pods_ask_for_what_cpu_pods_do_not() -> None:
    compute = {"nodes": 2, "gpus_per_node": 8, "priority_class_name": "high"}
    h20 = pod_template(plan(compute=Compute(pool="h20", **compute), group={"job": "x"}), settings())["spec"]
    cpu = pod_template(plan(), settings())["spec"]
    limits = {"nvidia.com/gpu": "8", "rdma/hca": "1"}
    assert h20["containers"][0]["resources"] == {"requests": limits, "limits": limits}
    assert h20["nodeSelector"] == {"star.recsys.dev/pool": "h20"}
    assert h20["tolerations"] == [{"key": "nvidia.com/gpu", "operator": "Exists", "effect": "NoSchedule"}]
    assert h20["runtimeClassName"] == "nvidia"
    assert h20["priorityClassName"] == "high"
    term = h20["affinity"]["podAffinity"]["preferredDuringSchedulingIgnoredDuringExecution"][0]["podAffinityTerm"]
    assert term == {"topologyKey": "topology.kubernetes.io/zone", "labelSelector": {"matchLabels": {"job": "x"}}}
    assert h20["containers"][0]["image"] == "star/jobs:cuda-1"
    assert cpu["containers"][0]["image"] == "star/jobs:cpu-1"
    assert not {"nodeSelector", "tolerations", "affinity", "runtimeClassName", "priorityClassName"} & cpu.keys()
    assert "resources" not in cpu["containers"][0]


def test_a_single_node_takes_no_rdma_device_and_init_containers_no_gpu() -> None:
    init = Container(role="vllm", name="fetch", command=("star-job", "fetch"))
    compute = Compute(pool="h20", gpus_per_node=1, resources={"cpu": "4"})
    spec = pod_template(plan(compute=compute, init=(init,)), settings())["spec"]
    gpu = {"nvidia.com/gpu": "1"}
    assert spec["containers"][0]["resources"] == {"requests": {"cpu": "4", **gpu}, "limits": gpu}
    assert spec["initContainers"][0]["resources"] == {"requests": {"cpu": "4"}}


@pytest.mark.bad_input
def test_an_unknown_pool_is_named_with_the_pools_there_are() -> None:
    with pytest.raises(InvalidSpec) as caught:
        pod_template(plan(pool="h100", pool_field="spec.server.compute.pool"), settings())
    assert caught.value.reason == "UnknownPool"
    assert "spec.server.compute.pool is 'h100'" in caught.value.message
    assert "pools: cpu, h20" in caught.value.message


@pytest.mark.bad_input
def test_a_pool_without_images_is_named_with_its_variant() -> None:
    found: Settings = settings().model_copy(update={"images": {"cpu": settings().images["cpu"]}})
    with pytest.raises(InvalidSpec) as caught:
        image_of("vllm", "h20", found)
    assert caught.value.reason == "NoImageVariant"
    assert "'cuda'" in caught.value.message
    assert "variants: cpu" in caught.value.message


def mesh(**pods: Any) -> Settings:
    """Settings in which the cluster, and the pool `h20` besides, have pods carry something."""
    known = settings()
    pools = {**known.pools, "h20": known.pools["h20"].model_copy(update={"pods": PodDefaults(**pods)})}
    everywhere = PodDefaults(
        labels={"sidecar.istio.io/inject": "false", "cost": "ml"}, service_account_name="star-pods"
    )
    return known.model_copy(update={"pods": everywhere, "pools": pools})


@pytest.mark.case("side-car")
def test_labels_and_annotations_of_cluster_pool_and_resource_each_stand_over_the_one_before() -> None:
    pool = mesh(labels={"cost": "gpu", "star.recsys.dev/name": "wrong"}, annotations={"sidecar.istio.io/inject": "no"})
    own = PodTemplate(labels={"team": "a"}, annotations={"sidecar.istio.io/inject": "false"})
    compute = Compute(pool="h20", pod_template=own)
    template = pod_template(plan(compute=compute, labels={"star.recsys.dev/name": "own"}), pool)
    assert template["metadata"]["labels"] == {
        "sidecar.istio.io/inject": "false",
        "cost": "gpu",
        "star.recsys.dev/egress": "inside",
        "team": "a",
        "star.recsys.dev/name": "own",  # pods are found by it
    }
    assert template["metadata"]["annotations"] == {"sidecar.istio.io/inject": "false"}
    plain = pod_template(plan(), pool)["metadata"]
    assert plain["labels"] == {
        "sidecar.istio.io/inject": "false",
        "cost": "ml",
        "a": "b",
        "star.recsys.dev/egress": "inside",
    }
    assert "annotations" not in plain


def test_a_service_account_is_that_of_the_resource_the_pool_or_the_cluster() -> None:
    own = Compute(pool="h20", pod_template=PodTemplate(service_account_name="mine"))
    assert pod_template(plan(compute=own), mesh())["spec"]["serviceAccountName"] == "mine"
    assert pod_template(plan("h20"), mesh(service_account_name="gpu"))["spec"]["serviceAccountName"] == "gpu"
    assert pod_template(plan(), mesh())["spec"]["serviceAccountName"] == "star-pods"
    assert "serviceAccountName" not in pod_template(plan(), settings())["spec"]


def test_pull_secrets_of_a_resource_join_those_of_the_cluster() -> None:
    names = (SecretRef(name="registry"), SecretRef(name="team"))
    template = pod_template(plan(compute=Compute(pod_template=PodTemplate(image_pull_secrets=names))), settings())
    assert template["spec"]["imagePullSecrets"] == [{"name": "registry"}, {"name": "team"}]


def test_ids_can_be_left_to_the_cluster() -> None:
    """OpenShift's `restricted-v2` gives each namespace ids of its own, and refuses others."""
    none = PodSecurity(run_as_user=None, run_as_group=None, fs_group=None)
    spec = pod_template(plan(), settings().model_copy(update={"pod_security": none}))["spec"]
    assert spec["securityContext"] == {"runAsNonRoot": True, "seccompProfile": {"type": "RuntimeDefault"}}
    user = next(variable for variable in spec["containers"][0]["env"] if variable["name"] == "USER")
    assert user["value"] == "star", "an id that /etc/passwd does not know has no name"
    assert pod_template(plan(), settings())["spec"]["securityContext"]["fsGroup"] == 65532
