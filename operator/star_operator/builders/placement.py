"""Where a pod runs: pool, image variant, scheduling and resource requests."""

from typing import Any

from star_operator.api.common import Compute
from star_operator.core.errors import InvalidSpec
from star_operator.core.reasons import ConditionReason
from star_operator.core.settings import Pool, Settings

GROUP_WEIGHT = 100


def pool_of(name: str, settings: Settings, field: str = "spec.compute.pool") -> Pool:
    """Return the pool of that name.

    Raises InvalidSpec(UnknownPool) naming the field and the pools there are.
    """
    pool = settings.pools.get(name)
    if pool is None:
        known = ", ".join(sorted(settings.pools)) or "none"
        raise InvalidSpec(
            ConditionReason.UNKNOWN_POOL,
            f"{field} is {name!r}, which is not a pool of this cluster (pools: {known}): "
            "name one of them, or define the pool in the chart's values",
        )
    return pool


def image_of(role: str, pool_name: str, settings: Settings, field: str = "spec.compute.pool") -> str:
    """Return the image of a role in the variant that runs on the pool.

    Raises InvalidSpec(UnknownPool), or InvalidSpec(NoImageVariant) when the chart names no images of the variant.
    """
    variant = pool_of(pool_name, settings, field).image_variant
    images = settings.images.get(variant)
    if images is None:
        known = ", ".join(sorted(settings.images)) or "none"
        raise InvalidSpec(
            ConditionReason.NO_IMAGE_VARIANT,
            f"{field} is {pool_name!r}, whose image variant {variant!r} has no images here (variants: {known}): "
            "choose another pool, or set the images of this variant in the chart's values",
        )
    found = images.of(role)
    if not found:
        text = f"image variant {variant!r} has no image for {role}: set images.{variant}.{role} in the chart's values"
        raise InvalidSpec(ConditionReason.NO_IMAGE_VARIANT, text)
    return found


def scheduling(compute: Compute, pool: Pool, group: dict[str, str]) -> dict[str, Any]:
    """Return the pod spec's scheduling part. `group` are the labels of the pods to stay close to.

    Nearness by the pool's topology key is a preference: as a requirement the first pod of a group could settle where
    the others have no room, and the group would wait for ever.
    """
    return {
        "nodeSelector": dict(pool.node_selector),
        "tolerations": [toleration.to_json_dict() for toleration in pool.tolerations],
        "runtimeClassName": pool.runtime_class_name,
        "priorityClassName": compute.priority_class_name,
        "affinity": _nearness(pool.topology_key, group) if group and pool.topology_key else None,
    }


def resources(compute: Compute, pool: Pool) -> dict[str, Any]:
    """Return the main container's resources: what is asked for, GPUs, and the RDMA device for groups.

    Extended resources cannot be overcommitted: request and limit are equal (kubernetes.io, `Extended resources`).
    """
    wanted = compute.resources
    devices: dict[str, str] = {}
    if compute.gpus_per_node:
        devices[pool.gpu_resource] = str(compute.gpus_per_node)
        if pool.rdma_resource and compute.nodes > 1:
            devices[pool.rdma_resource] = "1"
    return {
        "requests": {"cpu": wanted.cpu, "memory": wanted.memory, **devices},
        "limits": {"memory": wanted.memory_limit, **devices},
    }


def _nearness(topology_key: str, group: dict[str, str]) -> dict[str, Any]:
    term = {"topologyKey": topology_key, "labelSelector": {"matchLabels": group}}
    return {
        "podAffinity": {
            "preferredDuringSchedulingIgnoredDuringExecution": [{"weight": GROUP_WEIGHT, "podAffinityTerm": term}]
        }
    }
