"""What was made for an earlier resource of the same name: never taken for one's own, and out of the way before a start.

The owner of a thing is its UID. Children have names and labels that follow from the resource's name, so one that is
created anew meets what is left of the one before: until the garbage collector has been there, or for ever, where that
was deleted with `--cascade=orphan`.
"""

from star_contracts.names import LABEL_ATTEMPT, LABEL_STEP
from star_operator.core.errors import Waiting
from star_operator.core.objects import KubeObject
from star_operator.core.reasons import ConditionReason
from star_operator.core.views import RunView, Stranger
from star_operator.kube.cluster import Cluster
from star_operator.kube.resources import JOB, POD
from star_operator.kube.trouble import JOB_NAME_LABEL

JOB_UID_LABEL = "batch.kubernetes.io/controller-uid"
STEP_LABELS = (LABEL_ATTEMPT, LABEL_STEP)
GRACE_SECONDS = 30


def controller_of(obj: KubeObject) -> str:
    """Return the UID of an object's controller; empty where it has none."""
    references = obj["metadata"].get("ownerReferences") or ()
    return next((one["uid"] for one in references if one.get("controller")), "")


def told_apart(
    jobs: list[KubeObject], pods: list[KubeObject], uid: str
) -> tuple[list[KubeObject], list[KubeObject], tuple[Stranger, ...]]:
    """Return the Jobs and pods of the resource with that UID, and what there is besides.

    A pod whose Job is gone could be anybody's. It counts as one's own as well, unless there is a Job of one's own for
    the same attempt: nothing starts while it is there, and what it has to say is believed by nobody.
    """
    own = [job for job in jobs if controller_of(job) == uid]
    others = [job for job in jobs if controller_of(job) != uid]
    mine, strange = [], []
    for pod in pods:
        if any(_made(job, pod) for job in own):
            mine.append(pod)
            continue
        strange.append(pod)
        if not any(_made(job, pod) for job in others) and not any(_same_step(job, pod) for job in own):
            mine.append(pod)
    strangers = [_stranger(JOB.kind, job) for job in others] + [_stranger(POD.kind, pod) for pod in strange]
    return own, mine, tuple(strangers)


async def require_no_strangers(cluster: Cluster, kind: str, namespace: str, name: str, view: RunView) -> None:
    """Delete what is left of an earlier resource of the same name, and raise Waiting until it is gone."""
    if not view.strangers:
        return
    for one in view.strangers:
        if one.deleting:
            continue
        if one.kind == JOB.kind:
            await cluster.delete(JOB, namespace, one.name, uid=one.uid, foreground=True)
        else:
            await cluster.delete_pod(namespace, one.name, uid=one.uid, grace_seconds=GRACE_SECONDS)
    first = view.strangers[0]
    text = f"{first.kind} {first.name} is of an earlier {kind} {name}: it is being deleted, and this one starts then"
    raise Waiting(ConditionReason.NAMESAKE_LEFT, text)


def _made(job: KubeObject, pod: KubeObject) -> bool:
    labels = pod["metadata"].get("labels") or {}
    uid = labels.get(JOB_UID_LABEL) or controller_of(pod)
    if uid:
        return bool(uid == job["metadata"]["uid"])
    return bool(labels.get(JOB_NAME_LABEL) == job["metadata"]["name"])


def _same_step(job: KubeObject, pod: KubeObject) -> bool:
    ours, theirs = (one["metadata"].get("labels") or {} for one in (job, pod))
    return all(ours.get(label) == theirs.get(label) for label in STEP_LABELS)


def _stranger(kind: str, obj: KubeObject) -> Stranger:
    meta = obj["metadata"]
    return Stranger(kind, meta["name"], meta["uid"], deleting="deletionTimestamp" in meta)
