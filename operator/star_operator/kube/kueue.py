"""What Kueue says of a Job that waits in one of its queues (kueue.sigs.k8s.io, `Workload`).

Kueue makes a Workload of each Job it has taken, and says in its condition QuotaReserved why the Job is not admitted: no
such LocalQueue, no quota left. So no right to read queues is needed.
"""

from star_operator.core.errors import Refused
from star_operator.core.objects import KubeObject
from star_operator.core.reasons import ConditionReason
from star_operator.core.views import Trouble
from star_operator.kube.cluster import Cluster, NotFound
from star_operator.kube.resources import WORKLOAD
from star_operator.kube.trouble import is_older

QUEUE_LABEL = "kueue.x-k8s.io/queue-name"
JOB_UID_LABEL = "kueue.x-k8s.io/job-uid"
MISCONFIGURED = "doesn't exist"
"""Of a LocalQueue, or of the ClusterQueue behind it."""
CORRECT = "correct spec.compute.queueName, which may change while the run waits, or leave it out"


async def not_admitted(cluster: Cluster, job: KubeObject) -> Trouble | None:
    """Say why a Job that waits in a queue is not admitted; nothing for other Jobs, and while nobody can know."""
    meta = job["metadata"]
    queue = meta.get("labels", {}).get(QUEUE_LABEL)
    if not job["spec"].get("suspend") or queue is None:
        return None
    try:
        workloads = await cluster.list_objects(WORKLOAD, meta["namespace"], {JOB_UID_LABEL: meta["uid"]})
    except NotFound:
        text = f"no queue {queue}: this cluster has no Kueue ({WORKLOAD.api_version}); {CORRECT}"
        return Trouble(ConditionReason.QUEUE_MISSING, text)
    except Refused:  # a role of somebody's own may lack this right
        return None
    if not workloads:
        if not is_older(meta.get("creationTimestamp")):
            return None
        text = f"Kueue has not taken Job {meta['name']}: see whether it runs, and manages namespace {meta['namespace']}"
        return Trouble(ConditionReason.QUEUE_MISSING, text)
    return next((found for workload in workloads if (found := _told(workload)) is not None), None)


def _told(workload: KubeObject) -> Trouble | None:
    for condition in workload.get("status", {}).get("conditions", []):
        if condition["type"] == "QuotaReserved" and condition["status"] == "False":
            text = str(condition.get("message", condition.get("reason", "")))
            if MISCONFIGURED in text:
                return Trouble(ConditionReason.QUEUE_MISSING, f"{text}; {CORRECT}")
            return Trouble(ConditionReason.QUEUED, text)
    return None
