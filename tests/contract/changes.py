"""Changes of resources that are there already, as data: those that must be refused, and those that must be taken."""

from dataclasses import dataclass
from typing import Any, Final

from tests.contract.bad_manifests import GONE


@dataclass(frozen=True)
class Change:
    """A change of a resource that is there already."""

    name: str
    kind: str
    changes: dict[str, Any]
    field: str
    """The field that is changed, and that a refusal must name."""


BAD_CHANGES: Final[tuple[Change, ...]] = (
    Change("another-dataset", "teacherrun", {"spec.dataset.name": "other"}, "spec.dataset"),
    Change("more-passes", "teacherrun", {"spec.passes": 8}, "spec.passes"),
    Change("another-llm", "verbalization", {"spec.llm.concurrency": 1}, "spec.llm"),
    Change("field-added", "teacherrun", {"spec.tasks": 10}, "spec.tasks"),
    Change("field-removed", "grpojob", {"spec.verbalization": GONE}, "spec.verbalization"),
    Change("another-source", "recdataset", {"spec.source.uri": "s3://star/raw/yelp"}, "spec.source"),
    Change("another-rate", "sftjob", {"spec.hyperparameters.learningRate": 1.0e-4}, "spec.hyperparameters"),
    Change("another-pool", "sftjob", {"spec.compute.pool": "cpu"}, "spec.compute.pool"),
    Change("more-memory", "sftjob", {"spec.compute.resources.memory": "1Ti"}, "spec.compute.resources"),
    Change("fewer-retries", "evaluation", {"spec.retries": 0}, "spec.retries"),
    Change("another-digest", "checkpoint", {"spec.digest": f"sha256:{'0' * 64}"}, "spec.digest"),
    Change("another-lineage", "checkpoint", {"spec.lineage.producerName": "me"}, "spec.lineage"),
    Change("another-place", "promotion", {"spec.target.path": "dev/star.yaml"}, "spec.target"),
    Change("another-mode", "promotion", {"spec.mode": "Commit"}, "spec.mode"),
    Change("no-environment", "promotion", {"spec.environment": GONE}, "spec.environment"),
    Change("another-checkpoint", "promotion", {"spec.checkpoint.name": "other"}, "spec.checkpoint"),
)

GOOD_CHANGES: Final[tuple[Change, ...]] = (
    Change("suspend", "teacherrun", {"spec.suspend": True}, "spec.suspend"),
    Change("keep-longer", "sftjob", {"spec.ttlSecondsAfterFinished": 7200}, "spec.ttlSecondsAfterFinished"),
    Change("deadline", "grpojob", {"spec.activeDeadlineSeconds": 86400}, "spec.activeDeadlineSeconds"),
    Change("priority", "sftjob", {"spec.compute.priorityClassName": "high"}, "spec.compute.priorityClassName"),
    Change("queue", "grpojob", {"spec.compute.queueName": "research"}, "spec.compute.queueName"),
    Change("new-checkpoint", "stardeployment", {"spec.checkpoint.checkpoint": "new"}, "spec.checkpoint.checkpoint"),
    Change("suspend-a-promotion", "promotion", {"spec.suspend": True}, "spec.suspend"),
    Change("cancel-a-promotion", "promotion", {"spec.cancel": True}, "spec.cancel"),
    Change("fewer-approvals", "promotionpolicy", {"spec.requires.approvals": 1}, "spec.requires.approvals"),
    Change("no-gates", "stardeployment", {"spec.gates": GONE}, "spec.gates"),
)
"""Changes that must be taken."""
