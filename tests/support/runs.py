"""Runs of a series as the cluster holds them: pipelines, their stages and what these made, each a line in a test."""

from typing import Any

from star_contracts.base import value_hash
from star_operator.api.meta import API_VERSION
from tests.support.pipelines import KINDS, SPEC
from tests.support.star import BASE_LLM, DATASET, star

Body = dict[str, Any]
STEPS = {
    "dataset": "prepare",
    "verbalization": "collect",
    "teacher": "collect",
    "sft": "train",
    "grpo": "train",
    "evaluation": "evaluate",
}


def made(run: str, stage: str) -> Body:
    """The artifact of a run's stage."""
    uri = f"s3://star/team/{KINDS[stage].lower()}/{run}-{stage}/1/{STEPS[stage]}-12345678"
    return {"uri": uri, "digest": value_hash(f"{run}/{stage}"), "bytes": 1}


def owned(body: Body, owner: Body) -> Body:
    """With a controller."""
    reference = {
        "apiVersion": API_VERSION,
        "kind": owner["kind"],
        "name": owner["metadata"]["name"],
        "uid": owner["metadata"]["uid"],
        "controller": True,
    }
    body["metadata"]["ownerReferences"] = [reference]
    return body


def identified(body: Body, created: str = "", **status: Any) -> Body:
    """With what the API server and the operator add."""
    kind, name = body["kind"], body["metadata"]["name"]
    body["metadata"] |= {"uid": f"uid-{kind}-{name}", "resourceVersion": "1", "creationTimestamp": created}
    return {**body, "status": status}


def run(number: int, phase: str = "Succeeded", spec: Body | None = None, **reused: int) -> list[Body]:
    """A run of series `weekly`: its pipeline first. `reused` names the run whose artifact a stage found."""
    name, at = f"r{number}", f"2026-01-{number:02d}T00:00:00Z"
    pipeline = star("StarPipeline", "team", name, {**SPEC, "series": "weekly", **(spec or {})})
    ended = {"completionTime": at} if phase in ("Succeeded", "Failed") else {}
    pipeline = identified(pipeline, at, phase=phase, **ended)
    specs: dict[str, Body] = {
        "dataset": DATASET,
        "verbalization": {"dataset": {"name": f"{name}-dataset"}, "llm": BASE_LLM},
        "teacher": {
            "dataset": {"name": f"{name}-dataset"},
            "verbalization": {"name": f"{name}-verbalization"},
            "llm": BASE_LLM,
        },
        "sft": {"model": {"uri": "hf://org/base"}, "trajectories": {"name": f"{name}-teacher"}},
        "grpo": {"model": {"checkpoint": f"{name}-sft"}, "dataset": {"name": f"{name}-dataset"}},
        "evaluation": {
            "dataset": {"name": f"{name}-dataset"},
            "llm": {"server": {"model": {"checkpoint": f"{name}-grpo"}}},
        },
    }
    if number > 1:
        for stage in ("verbalization", "teacher"):
            specs[stage]["previous"] = {"name": f"r{number - 1}-{stage}"}
    found = [pipeline]
    for stage, kind in KINDS.items():
        artifact = made(f"r{reused.get(stage, number)}", stage)
        status = {"phase": phase, **ended, **({"artifact": artifact} if phase == "Succeeded" else {})}
        found.append(owned(identified(star(kind, "team", f"{name}-{stage}", specs[stage]), at, **status), pipeline))
    return found + [record(found, name, stage) for stage in ("sft", "grpo") if phase == "Succeeded"]


def record(bodies: list[Body], name: str, stage: str) -> Body:
    """The Checkpoint of a training stage."""
    job = next(body for body in bodies if body["metadata"]["name"] == f"{name}-{stage}")
    by_stage = {body["metadata"]["name"].removeprefix(f"{name}-"): body for body in bodies}
    before = {"sft": {"trajectories": "teacher"}, "grpo": {"model": "sft", "dataset": "dataset"}}[stage]
    lineage = {
        "producerKind": job["kind"],
        "producerName": job["metadata"]["name"],
        "producerUid": job["metadata"]["uid"],
        "inputs": {role: by_stage[one]["status"]["artifact"]["digest"] for role, one in before.items()},
    }
    artifact = job["status"]["artifact"]
    spec = {"uri": artifact["uri"], "digest": artifact["digest"], "lineage": lineage}
    return identified(star("Checkpoint", "team", job["metadata"]["name"], spec), phase="Ready")


def serving(run_name: str, digest: str | None = None) -> Body:
    """A StarDeployment that serves a run's checkpoint."""
    spec = {"checkpoint": {"checkpoint": f"{run_name}-grpo"}, "dataset": {"name": f"{run_name}-dataset"}}
    artifact = made(run_name, "grpo")
    revision = {
        "name": artifact["digest"][7:19],
        "uri": artifact["uri"],
        "digest": digest or artifact["digest"],
        "weight": 100,
    }
    return identified(star("StarDeployment", "team", "live", spec), phase="Ready", revisions=[revision])
