"""What people do to manifests: apply them twice, leave the quotes out, scale what they made."""

import json
from pathlib import Path
from typing import Any

import pytest

from star_contracts.job import ModelSource
from star_operator.api.kinds import BY_KIND
from star_operator.api.stardeployment import StarDeployment
from star_operator.builders.stardeployment import revision_of, serving_objects
from star_operator.builders.step import Inputs
from tests.contract.bad_manifests import SAMPLES
from tests.contract.test_admission import server_dry_run
from tests.contract.test_crds import MINIMAL, minimal
from tests.support.goldens import ARTIFACTS, CHECKPOINT, settings
from tests.support.kubectl import Kubectl

MANIFESTS = SAMPLES.parent
FOLDERS = sorted({path.parent for part in ("samples", "paper") for path in (MANIFESTS / part).rglob("*.yaml")})
FULL_LISTS: dict[str, dict[str, Any]] = {
    "Evaluation": {
        "llm": {"endpoint": {"url": "http://llm/v1", "model": "m"}},
        "beside": [{"evaluation": "other"}, {"uri": "s3://star/x", "digest": f"sha256:{'0' * 64}"}],
    },
    "StarDeployment": {
        "gates": {"rules": [{"metric": "hrAvg", "value": 0.3}, {"metric": "valid", "value": 0.9}]},
        "rollout": {"steps": [{"weight": 10, "pauseSeconds": 60}]},
        "server": {"compute": {"podTemplate": {"imagePullSecrets": [{"name": "ours"}]}}},
        "verbalization": {"name": "v"},
    },
}
"""Every list of objects that a spec has, filled as sparsely as it may be."""


@pytest.fixture(scope="module")
def applied(kubectl: Kubectl) -> str:
    """A namespace of this module."""
    kubectl.apply({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "applied"}})
    return "applied"


@pytest.mark.case("apply-twice")
@pytest.mark.parametrize("side", ["client", "server"])
@pytest.mark.parametrize("folder", FOLDERS, ids=lambda folder: str(folder.relative_to(MANIFESTS)))
def test_manifests_applied_twice_are_unchanged(kubectl: Kubectl, folder: Path, side: str) -> None:
    namespace = f"{folder.name}-{side}"
    kubectl.apply({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": namespace}})
    apply_twice(kubectl, namespace, side, "\n---\n".join(path.read_text() for path in sorted(folder.glob("*.yaml"))))


@pytest.mark.case("apply-twice")
@pytest.mark.parametrize("side", ["client", "server"])
def test_the_least_one_can_say_applied_twice_is_unchanged(kubectl: Kubectl, side: str) -> None:
    namespace = f"least-{side}"
    kubectl.apply({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": namespace}})
    said = [
        {**minimal(kind), "metadata": {"name": name}, "spec": {**MINIMAL[kind], **spec}}
        for kind in BY_KIND
        for name, spec in (("least", {}), ("lists", FULL_LISTS.get(kind, {})))
    ]
    apply_twice(kubectl, namespace, side, "\n---\n".join(json.dumps(manifest) for manifest in said))


def apply_twice(kubectl: Kubectl, namespace: str, side: str, text: str) -> None:
    arguments = ["apply", "-n", namespace, "-f", "-", *(["--server-side"] if side == "server" else [])]
    for _ in range(2):  # a status whose default no operator has written over is stored at the second one
        kubectl.run(*arguments, stdin=text)
    before = versions(kubectl, namespace)
    said = kubectl.run(*arguments, stdin=text).splitlines()
    if side == "client":
        assert [line for line in said if not line.endswith(" unchanged")] == []
    assert versions(kubectl, namespace) == before


def versions(kubectl: Kubectl, namespace: str) -> dict[str, tuple[str, int]]:
    """Kind and name -> resourceVersion and generation."""
    items = json.loads(kubectl.run("get", "recsys", "-n", namespace, "-o", "json"))["items"]
    metas = {f"{item['kind']}/{item['metadata']['name']}": item["metadata"] for item in items}
    return {key: (meta["resourceVersion"], meta["generation"]) for key, meta in metas.items()}


@pytest.mark.case("unquoted-quantity")
@pytest.mark.parametrize("value", [2, 4294967296, 0.5, 4e9, "2", "500m", ".5", "1e3", "16Gi", "2Pi"])
def test_quantities_with_and_without_quotes(kubectl: Kubectl, value: float | str) -> None:
    """In YAML, as people write it: numbers reach the API server as numbers."""
    resources = dict.fromkeys(["cpu", "memory", "memoryLimit", "scratch"], value)
    dataset = {**minimal("RecDataset"), "spec": {**MINIMAL["RecDataset"], "compute": {"resources": resources}}}
    spec = BY_KIND["RecDataset"].parse(server_dry_run(kubectl, dataset)).spec
    assert spec.compute.resources.cpu == spec.compute.resources.scratch
    assert isinstance(spec.compute.resources.cpu, str)
    star = {**minimal("StarDeployment"), "spec": {**MINIMAL["StarDeployment"], "gateway": {"resources": resources}}}
    assert server_dry_run(kubectl, star)["spec"]["gateway"]["resources"]["cpu"] == value


@pytest.mark.bad_input
@pytest.mark.parametrize("value", ["512 GB", "-1", "", "Gi", -1, -0.5, True, {}, [], {"a": 1}, ["1"]])
def test_what_is_no_quantity_is_refused_by_its_field(kubectl: Kubectl, value: Any) -> None:
    spec = {**MINIMAL["RecDataset"], "compute": {"resources": {"memory": value}}}
    with pytest.raises(RuntimeError) as refusal:
        server_dry_run(kubectl, {**minimal("RecDataset"), "spec": spec})
    assert "spec.compute.resources.memory" in str(refusal.value)
    if isinstance(value, str):
        assert "must be a quantity" in str(refusal.value)


@pytest.mark.case("scale-to-zero")
@pytest.mark.parametrize("zero", ["scale", "patch", "manifest"])
def test_a_deployment_can_be_scaled_to_nothing(kubectl: Kubectl, applied: str, zero: str) -> None:
    manifest = {**minimal("StarDeployment"), "metadata": {"name": f"night-{zero}", "namespace": applied}}
    kubectl.apply(manifest)
    where = ("-n", applied)
    if zero == "scale":
        kubectl.run("scale", f"star/night-{zero}", "--replicas=0", *where)
    elif zero == "patch":
        patch = '{"spec":{"replicas":0}}'
        kubectl.run("patch", "star", f"night-{zero}", "--subresource=scale", "--type=merge", "-p", patch, *where)
    else:
        kubectl.apply({**manifest, "spec": {**manifest["spec"], "server": {"replicas": 0}}})
    assert kubectl.get("star", f"night-{zero}", applied)["spec"]["server"]["replicas"] == 0


@pytest.mark.bad_input
@pytest.mark.parametrize("path", ["llm", "grpo"])
def test_what_a_run_needs_cannot_be_scaled_to_nothing(kubectl: Kubectl, path: str) -> None:
    if path == "llm":
        kind, spec = "Verbalization", {"llm": {"server": {"model": {"checkpoint": "base"}, "replicas": 0}}}
    else:
        kind, spec = "GRPOJob", {"server": {"replicas": 0}}
    with pytest.raises(RuntimeError, match=r"server\.replicas.*greater than or equal to 1"):
        server_dry_run(kubectl, {**minimal(kind), "spec": {**MINIMAL[kind], **spec}})


def test_what_gitops_applies_without_replicas_stays_scaled(kubectl: Kubectl, applied: str) -> None:
    """docs/operator.md: leave server.replicas out of the manifest, and scaling stays."""
    for side in ("client", "server"):
        name = f"scaled-{side}"
        text = json.dumps({**minimal("StarDeployment"), "metadata": {"name": name}})
        arguments = ["apply", "-n", applied, "-f", "-", *(["--server-side"] if side == "server" else [])]
        kubectl.run(*arguments, stdin=text)
        kubectl.run("scale", f"star/{name}", "--replicas=4", "-n", applied)
        kubectl.run(*arguments, stdin=text)
        assert kubectl.get("star", name, applied)["spec"]["server"]["replicas"] == 4


@pytest.mark.case("gateway-scale")
@pytest.mark.parametrize(("said", "kept"), [(None, 3), (2, 2)], ids=["left-out", "set"])
def test_what_an_autoscaler_makes_of_the_gateway_is_left_alone(
    kubectl: Kubectl, applied: str, said: int | None, kept: int
) -> None:
    """The operator applies the gateway's Deployment at every pass, and whoever scales it writes in between."""
    name = f"front-{kept}"
    manifest = {**minimal("StarDeployment"), "metadata": {"name": name, "namespace": applied, "uid": "1"}}
    resource = StarDeployment.parse({**manifest, "spec": {**manifest["spec"], "gateway": {"replicas": said}}})
    revision = revision_of(resource, ModelSource(artifact=CHECKPOINT))
    made = serving_objects(resource, [revision], Inputs(ARTIFACTS), settings())
    (deployment,) = (obj for obj in made if (obj["kind"], obj["metadata"]["name"]) == ("Deployment", name))
    for _ in range(2):
        text = json.dumps(deployment)
        kubectl.run(
            "apply", "--server-side", "--force-conflicts", "--field-manager=star-operator", "-f", "-", stdin=text
        )
        after = kubectl.get("deployment", name, applied)
        kubectl.run("scale", f"deployment/{name}", "--replicas=3", "-n", applied)
    assert after["spec"]["replicas"] == kept
    assert after["metadata"]["generation"] == (2 if said is None else 3)


@pytest.mark.bad_input
@pytest.mark.parametrize(
    ("template", "says"),
    [
        ({"labels": {"star.recsys.dev/name": "x"}}, "set by the operator"),
        ({"labels": {"app.kubernetes.io/name": "x"}}, "set by the operator"),
        ({"annotations": {"batch.kubernetes.io/job-completion-index": "1"}}, "set by the operator"),
        ({"labels": {"-a": "x"}}, "keys must be name or prefix/name"),
        ({"annotations": {"a b": "x"}}, "keys must be name or prefix/name"),
        ({"annotations": {"cdi.k8s.io/gpus": "nvidia.com/gpu=all"}}, "are the platform's"),
        (
            {"annotations": {"container.apparmor.security.beta.kubernetes.io/main": "unconfined"}},
            "in the pods of a pool",
        ),
        ({"labels": {"a": "-"}}, "must be a label's value"),
        ({"labels": {"a": True}}, "must be of type string"),
        ({"serviceAccountName": "Mine"}, "must be a resource's name"),
        ({"runAsUser": 0}, "unknown field"),
    ],
)
def test_what_pods_cannot_carry(kubectl: Kubectl, template: dict[str, Any], says: str) -> None:
    spec = {**MINIMAL["RecDataset"], "compute": {"podTemplate": template}}
    with pytest.raises(RuntimeError, match=r"spec\.compute\.podTemplate") as refusal:
        server_dry_run(kubectl, {**minimal("RecDataset"), "spec": spec})
    assert says in str(refusal.value)
