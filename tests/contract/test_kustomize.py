"""Overlays: prefixes and hashed Secrets reach every field of our kinds that holds a name, by the real kustomize."""

import json
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from star_cli.local.binaries import Binaries
from star_contracts.base import Model
from star_operator.api import kustomize
from star_operator.api.common import Name
from star_operator.api.kinds import BY_KIND
from tests.contract.bad_manifests import SAMPLES
from tests.contract.test_admission import documents

MANIFESTS = SAMPLES.parent
FOLDERS = sorted({path.parent for part in ("samples", "paper") for path in (MANIFESTS / part).rglob("*.yaml")})
SETTINGS = yaml.safe_load(kustomize.files()["name-references.yaml"])
RAW = {"source": {"format": "MovieLens", "uri": "s3://star/raw/ml-100k"}}


def star(kind: str, name: str, **spec: Any) -> dict[str, Any]:
    return {"apiVersion": "star.recsys.dev/v1alpha1", "kind": kind, "metadata": {"name": name}, "spec": spec}


def build(folder: Path, *resources: dict[str, Any], **kustomization: Any) -> dict[str, dict[str, Any]]:
    """Kind and name -> what kustomize makes of these resources, with the component that ships."""
    shutil.copytree(MANIFESTS / "kustomize", folder / "star")
    overlay = folder / "overlay"
    overlay.mkdir()
    (overlay / "all.yaml").write_text("\n---\n".join(json.dumps(one) for one in resources))
    wanted = {"resources": ["all.yaml"], "components": ["../star"], "namePrefix": "dev-", **kustomization}
    (overlay / "kustomization.yaml").write_text(yaml.safe_dump(wanted))
    command = [str(Binaries().ensure("kubectl")), "kustomize", str(overlay)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    built = [one for one in yaml.safe_load_all(done.stdout) if one]
    return {f"{one['kind']}/{one['metadata']['name']}": one for one in built}


def at(node: Any, path: list[str]) -> Iterator[str]:
    """What stands at a path, through lists."""
    if isinstance(node, list):
        for item in node:
            yield from at(item, path)
    elif not path:
        yield node
    elif path[0] in node:
        yield from at(node[path[0]], path[1:])


def references(resource: dict[str, Any]) -> list[tuple[str, str, str]]:
    """(field, kind, name) of all that a resource names."""
    return [
        (spec["path"], one["kind"], name)
        for one in SETTINGS["nameReference"]
        for spec in one["fieldSpecs"]
        if spec["kind"] == resource["kind"]
        for name in at(resource, spec["path"].split("/"))
    ]


@pytest.mark.case("kustomize")
def test_a_prefix_and_a_generated_secret_reach_a_chain(tmp_path: Path) -> None:
    endpoint = {"url": "http://llm.default.svc:8000/v1", "model": "m", "secretRef": {"name": "llm-key"}}
    chain = (
        star("RecDataset", "ml-100k", **RAW),
        star("Evaluation", "base", dataset={"name": "ml-100k"}, llm={"endpoint": endpoint}),
    )
    built = build(tmp_path, *chain, secretGenerator=[{"name": "llm-key", "literals": ["apiKey=made-up"]}])
    spec = built["Evaluation/dev-base"]["spec"]
    assert spec["dataset"]["name"] == "dev-ml-100k"
    (secret,) = (key for key in built if key.startswith("Secret/dev-llm-key-"))
    assert spec["llm"]["endpoint"]["secretRef"]["name"] == secret.removeprefix("Secret/")


@pytest.mark.case("kustomize")
@pytest.mark.parametrize("folder", FOLDERS, ids=lambda folder: str(folder.relative_to(MANIFESTS)))
def test_what_is_named_within_a_folder_is_named_by_its_new_name(tmp_path: Path, folder: Path) -> None:
    given = [manifest for path in sorted(folder.glob("*.yaml")) for manifest in documents(path)]
    there = {(one["kind"], one["metadata"]["name"]) for one in given}
    built = build(tmp_path, *given, nameSuffix="-v2")
    followed = 0
    for one in given:
        after = built[f"{one['kind']}/dev-{one['metadata']['name']}-v2"]
        for (path, kind, name), (_, _, now) in zip(references(one), references(after), strict=True):
            if (kind, name) in there:
                assert now == f"dev-{name}-v2", f"{one['kind']} {path}"
                followed += 1
    assert followed or len(given) == 1


@pytest.mark.case("kustomize")
def test_every_secret_of_every_kind_follows_its_generator(tmp_path: Path) -> None:
    """Each field that names a Secret, filled: the names that stand in lists and maps as well."""
    endpoint = {"url": "http://llm/v1", "model": "m", "secretRef": {"name": "gen"}}
    template = {"imagePullSecrets": [{"name": "gen"}, {"name": "other"}], "serviceAccountName": "pods"}
    teacher = star(
        "TeacherRun",
        "t",
        dataset={"name": "d"},
        llm={"endpoint": endpoint},
        agentLlms={"planner": {"endpoint": endpoint}, "recommend": {"endpoint": endpoint}},
        compute={"podTemplate": template},
    )
    live = star("StarDeployment", "s", gateway={"apiKeys": {"name": "gen"}, "podTemplate": template})
    account = {"apiVersion": "v1", "kind": "ServiceAccount", "metadata": {"name": "pods"}}
    built = build(tmp_path, teacher, live, account, secretGenerator=[{"name": "gen", "literals": ["apiKey=made-up"]}])
    (secret,) = (key.removeprefix("Secret/") for key in built if key.startswith("Secret/"))
    for key in ("TeacherRun/dev-t", "StarDeployment/dev-s"):
        named = [(kind, name) for _, kind, name in references(built[key]) if kind in ("Secret", "ServiceAccount")]
        assert {name for kind, name in named if kind == "Secret"} == {secret, "other"}
        assert {name for kind, name in named if kind == "ServiceAccount"} == {"dev-pods"}
    assert built["TeacherRun/dev-t"]["spec"]["agentLlms"]["recommend"]["endpoint"]["secretRef"]["name"] == secret


@pytest.mark.case("kustomize")
def test_a_checkpoint_is_named_by_the_job_that_makes_it(tmp_path: Path) -> None:
    sft = star("SFTJob", "sft", model={"uri": "hf://a/b"}, trajectories={"name": "elsewhere"})
    built = build(tmp_path, sft, star("StarDeployment", "s", checkpoint={"checkpoint": "sft"}, dataset={"name": "d"}))
    spec = built["StarDeployment/dev-s"]["spec"]
    assert (spec["checkpoint"]["checkpoint"], spec["dataset"]["name"]) == ("dev-sft", "d"), "what is not here stays"


@pytest.mark.case("kustomize")
def test_what_scales_and_routes_follows_and_replicas_can_be_set(tmp_path: Path) -> None:
    target = {"apiVersion": "star.recsys.dev/v1alpha1", "kind": "StarDeployment", "name": "s"}
    scalers = [
        {"apiVersion": version, "kind": kind, "metadata": {"name": "x"}, "spec": {"scaleTargetRef": target}}
        for version, kind in (("autoscaling/v2", "HorizontalPodAutoscaler"), ("keda.sh/v1alpha1", "ScaledObject"))
    ]
    live = star("StarDeployment", "s", server={"replicas": 1})
    built = build(tmp_path, live, *scalers, replicas=[{"name": "s", "count": 3}])
    assert built["StarDeployment/dev-s"]["spec"]["server"]["replicas"] == 3
    for kind in ("HorizontalPodAutoscaler", "ScaledObject"):
        assert built[f"{kind}/dev-x"]["spec"]["scaleTargetRef"]["name"] == "dev-s"


def test_the_committed_configuration_is_the_generated_one() -> None:
    for name, text in kustomize.files().items():
        assert (MANIFESTS / "kustomize" / name).read_text() == text, "run `make generate` and commit what it wrote"


def test_every_kind_but_those_that_name_nothing_is_in_it() -> None:
    naming = {spec["kind"] for one in SETTINGS["nameReference"] for spec in one["fieldSpecs"]}
    assert set(BY_KIND) - naming == {"Checkpoint", "RetrainSchedule"}, "a schedule names what is in other namespaces"


def test_a_name_that_does_not_say_of_what_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    class Silent(Model):
        """Names something."""

        other: Name

    class Kind:
        INFO = BY_KIND["SFTJob"].INFO

        @staticmethod
        def spec_type() -> type[Model]:
            return Silent

    monkeypatch.setattr(kustomize, "KINDS", [Kind])
    with pytest.raises(ValueError, match="spec/other holds a name"):
        kustomize.name_references()
