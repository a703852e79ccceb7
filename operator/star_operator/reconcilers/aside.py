"""Whether a run's schedule has given its place to others: what the schedule's status says of the run's UID."""

from star_operator.api.retrainschedule import RetrainSchedule
from star_operator.api.starpipeline import StarPipeline
from star_operator.builders.retrainschedule import may_be_run, parts_of
from star_operator.kube.cluster import Cluster
from star_operator.kube.resources import STAR_TYPES

SCHEDULE = STAR_TYPES[RetrainSchedule.INFO.kind]


async def is_set_aside(cluster: Cluster, pipeline: StarPipeline) -> bool:
    """Say whether the schedule whose run this is has given its GPUs to others while it was suspended, or ended.

    The name alone tells which schedule that can be: a tenant may take a label off, and cannot change a name. Schedules
    are listed only for names that were too long or too odd for a run's, which hold a hash.
    """
    name = pipeline.metadata.name
    if not may_be_run(name):
        return False
    parts = parts_of(name)
    if parts is not None:
        body = await cluster.get(SCHEDULE, "", parts[0])
        bodies = [body] if body is not None else []
    else:
        bodies = await cluster.list_objects(SCHEDULE, None)
    uid = pipeline.metadata.uid
    return any(
        one.get("uid") == uid and one.get("setAside", False)
        for body in bodies
        for one in (body.get("status") or {}).get("runs", ())
    )
