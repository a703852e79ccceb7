"""What is left of small Jobs that another question was put to."""

from star_contracts.names import LABEL_STEP
from star_operator.builders.step import Owner
from star_operator.core.labels import resource_labels
from star_operator.kube.cluster import Cluster
from star_operator.kube.resources import CONFIG_MAP, JOB


async def clear_others(cluster: Cluster, owner: Owner, step: str, name: str) -> None:
    """Delete Jobs and ConfigMaps of a step but those of that name: what they tell of would be kept for their sake."""
    labels = resource_labels(owner.kind, owner.name) | {LABEL_STEP: step}
    for rtype in (JOB, CONFIG_MAP):
        for obj in await cluster.list_objects(rtype, owner.namespace, labels):
            if obj["metadata"]["name"] != name:
                await cluster.delete(rtype, owner.namespace, obj["metadata"]["name"], uid=obj["metadata"]["uid"])
