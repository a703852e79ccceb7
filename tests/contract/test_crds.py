"""The CRDs: what is committed is what the models say, and a real API server serves it well."""

import json
from collections.abc import Iterator
from typing import Any

import pytest
import yaml

from star_operator.api import crd, reference, values
from star_operator.api.kinds import KINDS
from star_operator.api.meta import RULES, Resource
from tests.contract.conftest import CRDS, ROOT
from tests.contract.test_admission import server_dry_run
from tests.support.kubectl import Kubectl

every_kind = pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.INFO.kind)

ELSEWHERE = ".spec.pipeline."
"""What a schedule's template has is explained with StarPipeline."""
PLACE: dict[str, Any] = {
    "target": {"repository": "git@git.example.com:o/r.git", "branch": "main", "path": "prod.yaml"},
    "git": {"secretRef": {"name": "git"}, "author": {"name": "STAR", "email": "star@example.com"}},
}
MINIMAL: dict[str, dict[str, Any]] = {
    "RecDataset": {"source": {"format": "MovieLens", "uri": "s3://star/raw/x"}},
    "Verbalization": {"dataset": {"name": "d"}, "llm": {"server": {"model": {"checkpoint": "base"}}}},
    "TeacherRun": {
        "dataset": {"name": "d"},
        "verbalization": {"name": "v"},
        "llm": {"endpoint": {"url": "http://llm:8000/v1", "model": "m"}},
    },
    "SFTJob": {
        "model": {"checkpoint": "base"},
        "trajectories": {"name": "t"},
        "compute": {"pool": "h20", "gpusPerNode": 8},
    },
    "GRPOJob": {
        "model": {"checkpoint": "sft"},
        "dataset": {"name": "d"},
        "compute": {"pool": "h20", "gpusPerNode": 8},
    },
    "Evaluation": {"dataset": {"name": "d"}, "settings": {"tools": False}},
    "Checkpoint": {"uri": "s3://star/models/x", "digest": f"sha256:{'0' * 64}"},
    "StarDeployment": {"checkpoint": {"checkpoint": "grpo"}, "dataset": {"name": "d"}},
    "StarPipeline": {"dataset": {"template": {"source": {"format": "MovieLens", "uri": "s3://star/raw/x"}}}},
    "RetrainSchedule": {
        "schedule": "0 3 * * SUN",
        "pipeline": {"dataset": {"template": {"source": {"format": "MovieLens", "uri": "s3://star/raw/x"}}}},
    },
    "PromotionPolicy": PLACE,
    "Promotion": {**PLACE, "checkpoint": {"name": "grpo"}},
}
"""The least one can say."""


def minimal(kind: str) -> dict[str, Any]:
    manifest = {"apiVersion": "star.recsys.dev/v1alpha1", "kind": kind, "metadata": {"name": "x"}}
    return {**manifest, "spec": MINIMAL[kind]}


@every_kind
def test_the_committed_crd_is_the_generated_one(kind: type[Resource[Any, Any]]) -> None:
    committed = (CRDS / f"{crd.file_stem(kind.INFO)}.yaml").read_text()
    assert committed == crd.render(kind), "run `make generate` and commit what it wrote"


def test_no_crd_is_left_over() -> None:
    assert {path.stem for path in CRDS.iterdir()} == {crd.file_stem(kind.INFO) for kind in KINDS}


def test_the_committed_reference_and_values_schema_are_the_generated_ones() -> None:
    hint = "run `make generate` and commit what it wrote"
    assert (ROOT / "docs" / "reference.md").read_text() == reference.render(), hint
    assert (ROOT / "charts" / "star-operator" / "values.schema.json").read_text() == values.render(), hint


@every_kind
def test_every_kind_is_established_without_complaints(kubectl: Kubectl, kind: type[Resource[Any, Any]]) -> None:
    stored = kubectl.get("crd", crd.file_stem(kind.INFO))
    conditions = {condition["type"]: condition["status"] for condition in stored["status"]["conditions"]}
    assert conditions["Established"] == conditions["NamesAccepted"] == "True"
    assert "NonStructuralSchema" not in conditions


@every_kind
def test_every_field_is_explained(kubectl: Kubectl, kind: type[Resource[Any, Any]]) -> None:
    for part in ("spec", "status"):
        text = kubectl.run("explain", f"{kind.INFO.plural}.{part}", "--recursive")
        assert (part == "spec" and kind.INFO.kind == "RetrainSchedule") or "<empty>" not in text
    version = crd.crd(kind)["spec"]["versions"][0]
    undescribed = [path for path, node in nodes("", version["schema"]["openAPIV3Schema"]) if "description" not in node]
    undescribed = [path for path in undescribed if not path.startswith(ELSEWHERE)]
    assert [path for path in undescribed if path != ".metadata" and not path.endswith(("[]", "{}"))] == []


@every_kind
def test_what_rules_look_at_is_bounded(kind: type[Resource[Any, Any]]) -> None:
    """Cost estimates of CEL, and of the store, need an end to every text, list and map a person writes."""
    spec = crd.crd(kind)["spec"]["versions"][0]["schema"]["openAPIV3Schema"]["properties"]["spec"]
    for path, node in nodes("spec", spec):
        if node.get("type", "string") == "string":
            assert "maxLength" in node or "enum" in node, path
        if node.get("type") == "array":
            assert "maxItems" in node or node["items"].get("enum"), path
        if "additionalProperties" in node:
            assert "maxProperties" in node, path
        for rule in node.get(RULES, ()):
            assert len(rule["message"]) < 600, path


@every_kind
def test_defaults_of_the_api_server_are_the_models_defaults(kubectl: Kubectl, kind: type[Resource[Any, Any]]) -> None:
    manifest = minimal(kind.INFO.kind)
    stored = server_dry_run(kubectl, manifest)
    assert kind.parse(stored).spec == kind.parse(manifest).spec
    assert kind.parse(stored).spec.to_json_dict() == stored["spec"]


@every_kind
def test_defaults_inside_half_filled_objects_too(kubectl: Kubectl, kind: type[Resource[Any, Any]]) -> None:
    """Leave each default object empty: the API server then fills in what stands at its fields."""
    manifest = minimal(kind.INFO.kind)
    spec = crd.crd(kind)["spec"]["versions"][0]["schema"]["openAPIV3Schema"]["properties"]["spec"]
    empty = {name: {} for name, node in spec["properties"].items() if node["type"] == "object" and "default" in node}
    half_filled = {**manifest, "spec": {**empty, **manifest["spec"]}}
    assert kind.parse(server_dry_run(kubectl, half_filled)).spec == kind.parse(half_filled).spec


@every_kind
def test_short_names_and_columns(kubectl: Kubectl, kind: type[Resource[Any, Any]]) -> None:
    manifest = {**minimal(kind.INFO.kind), "metadata": {"name": "columns"}}
    kubectl.run("apply", "--server-side", "-f", "-", stdin=json.dumps(manifest))
    header, row = kubectl.run("get", kind.INFO.short, "columns").splitlines()
    assert header.split()[0] == "NAME"
    assert [column.name.upper() for column in kind.INFO.columns if not column.priority] == header.split()[1:]
    assert row.startswith("columns")


@every_kind
def test_a_status_of_the_models_is_taken_whole(kubectl: Kubectl, kind: type[Resource[Any, Any]]) -> None:
    digest = f"sha256:{'1' * 64}"
    status = {
        "phase": "Running",
        "observedGeneration": 1,
        "attempt": 1,
        "conditions": [
            {
                "type": "Ready",
                "status": "False",
                "reason": "Waiting",
                "message": "0/1 nodes are available",
                "observedGeneration": 1,
                "lastTransitionTime": "2026-11-22T12:00:00Z",
            }
        ],
        "steps": [
            {
                "name": "train",
                "phase": "Running",
                "metrics": {"loss": 1},
                "reused": False,
                "warnings": [{"reason": "DataLeftOut", "message": "item.json: 1 of 9 left out"}],
            }
        ],
        "progress": {
            "done": 1,
            "total": 2,
            "unit": "steps",
            "step": "train",
            "doneByShard": [1],
            "totalByShard": [2],
        },
        "artifact": {"uri": "s3://star/x/y", "digest": digest, "bytes": 1},
        "metrics": {"hrAvg": 0.5},
        "startTime": "2026-11-22T12:00:00Z",
    }
    manifest = {**minimal(kind.INFO.kind), "metadata": {"name": "with-status"}}
    kubectl.run("apply", "--server-side", "-f", "-", stdin=json.dumps(manifest))
    body = json.dumps({"apiVersion": manifest["apiVersion"], "kind": manifest["kind"], "status": status})
    kubectl.run("patch", kind.INFO.plural, "with-status", "--subresource=status", "--type=merge", "-p", body)
    stored = kubectl.get(kind.INFO.plural, "with-status")
    assert stored["status"] == status
    parsed = kind.parse(stored).status.to_json_dict()
    assert {key: parsed[key] for key in status} == status


def test_all_kinds_are_one_category(kubectl: Kubectl) -> None:
    listed = kubectl.run("api-resources", "--categories", crd.CATEGORY, "-o", "name").split()
    assert sorted(listed) == sorted(crd.file_stem(kind.INFO) for kind in KINDS)


def test_unknown_fields_are_dropped_for_clients_that_do_not_validate(kubectl: Kubectl) -> None:
    """The default of the API server, not of kubectl; docs/reference.md says so."""
    manifest = {**minimal("RecDataset"), "metadata": {"name": "lenient"}}
    manifest["spec"] = {**manifest["spec"], "paces": 1}
    arguments = ("create", "--dry-run=server", "--validate=ignore", "-o", "yaml", "-f", "-")
    assert "paces" not in yaml.safe_load(kubectl.run(*arguments, stdin=json.dumps(manifest)))["spec"]


def nodes(path: str, schema: dict[str, Any]) -> Iterator[tuple[str, dict[str, Any]]]:
    yield path, schema
    for name, item in schema.get("properties", {}).items():
        yield from nodes(f"{path}.{name}", item)
    for key, mark in (("items", "[]"), ("additionalProperties", "{}")):
        if key in schema:
            yield from nodes(path + mark, schema[key])
