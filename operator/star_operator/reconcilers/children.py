"""Children of what stands: what others have made of them is put right and told, and what nobody wants any more ends."""

from star_operator.api.evaluation import Evaluation
from star_operator.api.stardeployment import StarDeployment
from star_operator.core.errors import Taken
from star_operator.core.objects import KubeObject, is_owned
from star_operator.core.reasons import ConditionReason
from star_operator.kube.cluster import Cluster
from star_operator.kube.events import post_event
from star_operator.kube.resources import STAR_TYPES
from star_operator.policy.gates import Verdict
from star_operator.policy.status import is_finished

SHOWN = 5
"""Fields named in one Event."""


async def apply_child(cluster: Cluster, owner: KubeObject, obj: KubeObject, now: str) -> None:
    """Make a child as its owner says, and post an Event about each field that somebody else had given another value.

    A field that the owner says nothing of is whoever's writes it: an autoscaler's, for example.
    """
    try:
        await cluster.claim(obj)
    except Taken as taken:
        more = f" and {len(taken.fields) - SHOWN} more" if len(taken.fields) > SHOWN else ""
        name, who = f"{obj['kind']} {obj['metadata']['name']}", " and ".join(taken.managers) or "somebody"
        text = f"{name}: {who} had changed {', '.join(taken.fields[:SHOWN])}{more}; it is as this resource says again"
        await post_event(cluster, owner, ConditionReason.DRIFT_CORRECTED, text, now)  # rather twice than never
        await cluster.apply(obj)


async def end_measuring(cluster: Cluster, resource: StarDeployment, wanted: str) -> None:
    """Delete the Evaluation of a candidate that is not wanted any more, where it has not ended: its pods go with it.

    Should the candidate be wanted again, another one goes on from the parts that are stored.
    """
    rtype, namespace = STAR_TYPES[Evaluation.INFO.kind], resource.metadata.namespace
    for one in resource.status.revisions:
        if one.gate != Verdict.RUNNING or one.digest == wanted or not one.evaluation:
            continue
        body = await cluster.get(rtype, namespace, one.evaluation)
        if body is None or not is_owned(body, resource.metadata.uid) or is_finished(Evaluation.parse_status(body)):
            continue
        await cluster.delete(rtype, namespace, one.evaluation, uid=body["metadata"]["uid"], foreground=True)
