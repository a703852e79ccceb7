"""Star resources in tests: made in a line, looked at in a line."""

import json
from typing import Any

from star_operator.api.meta import API_VERSION
from tests.support.kubectl import Kubectl, eventually

DIGEST = "sha256:" + "b" * 64
DATASET = {"source": {"format": "MovieLens", "uri": "s3://star/raw/ml-100k"}, "retries": 1}
BASE_LLM = {"server": {"model": {"checkpoint": "base"}}}


def star(kind: str, namespace: str, name: str, spec: dict[str, Any]) -> dict[str, Any]:
    """A resource."""
    metadata = {"name": name, "namespace": namespace}
    return {"apiVersion": API_VERSION, "kind": kind, "metadata": metadata, "spec": spec}


def checkpoint(namespace: str, name: str = "base", digest: str = DIGEST) -> dict[str, Any]:
    """A Checkpoint of an imported model."""
    return star("Checkpoint", namespace, name, {"uri": f"s3://star/models/{name}", "digest": digest})


def chain(namespace: str) -> list[dict[str, Any]]:
    """The whole chain up to the GRPO checkpoint, small."""
    sft = {"globalBatchSize": 2, "microBatchSize": 2, "sharding": "None"}
    grpo = {"tensorParallelSize": 1, "trainBatchSize": 4, "miniBatchSize": 4}
    return [
        checkpoint(namespace),
        star("RecDataset", namespace, "d", DATASET),
        star("Verbalization", namespace, "v", {"dataset": {"name": "d"}, "llm": BASE_LLM}),
        star("TeacherRun", namespace, "t", {"dataset": {"name": "d"}, "verbalization": {"name": "v"}, "llm": BASE_LLM}),
        star(
            "SFTJob",
            namespace,
            "sft",
            {"model": {"checkpoint": "base"}, "trajectories": {"name": "t"}, "hyperparameters": sft},
        ),
        star(
            "GRPOJob",
            namespace,
            "grpo",
            {
                "model": {"checkpoint": "sft"},
                "dataset": {"name": "d"},
                "verbalization": {"name": "v"},
                "hyperparameters": grpo,
            },
        ),
    ]


def status(kubectl: Kubectl, kind: str, namespace: str, name: str) -> dict[str, Any]:
    """A resource's status."""
    found: dict[str, Any] = kubectl.get(kind.lower(), name, namespace).get("status", {})
    return found


def wait_phase(kubectl: Kubectl, kind: str, namespace: str, name: str, phase: str) -> dict[str, Any]:
    """Wait until a resource has the phase, and return its status."""
    seen: dict[str, Any] = {}

    def has_it() -> bool:
        seen.clear()
        seen.update(status(kubectl, kind, namespace, name))
        return seen.get("phase") == phase

    try:
        eventually(has_it, f"{kind} {name} is {phase}")
    except AssertionError as error:
        raise AssertionError(f"{error}; its status is {json.dumps(seen)}") from None
    return seen


def wait_message(kubectl: Kubectl, kind: str, namespace: str, name: str, wanted: str) -> str:
    """Wait until the Ready condition begins with these words, and return all of it.

    A phase does not say as much: in one phase, one reason may follow another.
    """
    seen: list[str] = [""]

    def says_it() -> bool:
        seen[0] = ready_message(status(kubectl, kind, namespace, name))
        return seen[0].startswith(wanted)

    try:
        eventually(says_it, f"{kind} {name} says {wanted!r}")
    except AssertionError as error:
        raise AssertionError(f"{error}; it says {seen[0]!r}") from None
    return seen[0]


def ready_message(found: dict[str, Any]) -> str:
    """What the Ready condition says."""
    return next((c["message"] for c in found.get("conditions", []) if c["type"] == "Ready"), "")


def names(kubectl: Kubectl, kind: str, namespace: str, selector: str = "") -> list[str]:
    """Names of all objects of a kind."""
    return sorted(item["metadata"]["name"] for item in kubectl.list(kind, namespace, selector))
