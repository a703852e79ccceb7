"""Pods that others made: an annotation that has the kubelet look at a pod's volumes at once, and why none runs."""

from collections.abc import Mapping

from star_operator.core.objects import KubeObject
from star_operator.core.views import Trouble
from star_operator.kube.cluster import Cluster
from star_operator.kube.resources import POD
from star_operator.kube.trouble import is_slow_to_start, mount_trouble, pod_trouble


async def annotate_pods(
    cluster: Cluster, namespace: str, labels: Mapping[str, str], annotations: Mapping[str, str]
) -> list[KubeObject]:
    """Give the pods with these labels the annotations, where they differ, and return the pods."""
    pods = await cluster.list_objects(POD, namespace, labels)
    for pod in pods:
        has = pod["metadata"].get("annotations", {})
        if any(has.get(key) != value for key, value in annotations.items()):
            patch = {"metadata": {"annotations": dict(annotations)}}
            await cluster.merge(POD, namespace, pod["metadata"]["name"], patch, uid=pod["metadata"]["uid"])
    return pods


async def why_not_started(cluster: Cluster, pods: list[KubeObject]) -> Trouble | None:
    """Return what keeps the first of these pods that has trouble."""
    for pod in pods:
        trouble = pod_trouble(pod)
        if trouble is None and is_slow_to_start(pod):
            trouble = await mount_trouble(cluster, pod)
        if trouble is not None:
            return trouble
    return None
