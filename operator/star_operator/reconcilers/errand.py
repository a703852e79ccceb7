"""What is left of small Jobs: of those that another question was put to, and of those that cannot end by themselves."""

from star_contracts.names import LABEL_STEP
from star_operator.builders.step import Owner
from star_operator.core.labels import ANSWER_ANNOTATION, resource_labels
from star_operator.core.views import RunView
from star_operator.kube.cluster import Cluster
from star_operator.kube.resources import CONFIG_MAP, JOB
from star_operator.policy.errand import lingering

SIDE_CAR_GRACE_SECONDS = 30
"""Time for a container that somebody added to end, once `main` has."""


async def end_side_cars(cluster: Cluster, namespace: str, view: RunView, name: str, step: str) -> None:
    """Let a Job of that name and step end where a container that others added keeps a pod of it going.

    In one write its answer is taken down and its pods are given up, so that who dies has done both or none.
    """
    found = lingering(view, name, step)
    if found.job is not None and found.said is not None and found.said.result is not None:
        answer = f"{found.said.ended_at} {found.said.result.termination_message()}"
        patch = {"metadata": {"annotations": {ANSWER_ANNOTATION: answer}}, "spec": {"parallelism": 0}}
        await cluster.merge(JOB, namespace, name, patch, uid=found.job.uid or None)
    for pod in found.ended:
        await cluster.delete_pod(namespace, pod.name, uid=pod.uid, grace_seconds=SIDE_CAR_GRACE_SECONDS)


async def clear_others(cluster: Cluster, owner: Owner, step: str, name: str) -> None:
    """Delete Jobs and ConfigMaps of a step but those of that name: what they tell of would be kept for their sake."""
    labels = resource_labels(owner.kind, owner.name) | {LABEL_STEP: step}
    for rtype in (JOB, CONFIG_MAP):
        for obj in await cluster.list_objects(rtype, owner.namespace, labels):
            if obj["metadata"]["name"] != name:
                await cluster.delete(rtype, owner.namespace, obj["metadata"]["name"], uid=obj["metadata"]["uid"])
