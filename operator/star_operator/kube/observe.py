"""A look at one run: its Jobs, pods and servers as small values for the policies.

It is as new as the cache is. A Job and its pods come by different watches, and a Job that has ended may be told of
before what its pods have said: then the API server is asked.
"""

from datetime import timedelta
from typing import Any

from star_contracts.names import LABEL_ATTEMPT, LABEL_STEP
from star_operator.core.labels import ANSWER_ANNOTATION, PRIORITY_ANNOTATION, QUEUE_ANNOTATION, resource_labels
from star_operator.core.objects import KubeObject
from star_operator.core.views import JobView, PodView, RunView, Stranger, Trouble
from star_operator.kube.cluster import Cluster
from star_operator.kube.kueue import QUEUE_LABEL, not_admitted
from star_operator.kube.namesakes import controller_of, told_apart
from star_operator.kube.refused import refused_of_job
from star_operator.kube.resources import JOB, POD
from star_operator.kube.trouble import (
    JOB_NAME_LABEL,
    MAIN,
    container_statuses,
    disruption,
    how_it_ended,
    is_older,
    is_slow_to_start,
    mount_trouble,
    parse_result,
    pod_trouble,
)

LONG_TOLD = timedelta(minutes=10)
"""A watch that is further behind than this is dead, which is found elsewhere."""


async def observe_run(cluster: Cluster, kind: str, namespace: str, name: str, uid: str | None = None) -> RunView:
    """Look at the Jobs and pods of a resource: with `uid` at those of this very one."""
    view = await _observe(cluster, kind, namespace, name, uid)
    if cluster.live is not cluster and any(_pods_are_behind(view, job) for job in view.jobs):
        view = await _observe(cluster.live, kind, namespace, name, uid)
    return view


async def _observe(cluster: Cluster, kind: str, namespace: str, name: str, uid: str | None) -> RunView:
    labels = resource_labels(kind, name)
    jobs = await cluster.list_objects(JOB, namespace, labels)
    pods = [pod for pod in await cluster.list_objects(POD, namespace, labels) if LABEL_STEP in _labels(pod)]
    strangers: tuple[Stranger, ...] = ()
    if uid is not None:
        jobs, pods, strangers = told_apart(jobs, pods, uid)
    troubles = {pod["metadata"]["uid"]: pod_trouble(pod) for pod in pods}
    slow = next((pod for pod in pods if troubles[pod["metadata"]["uid"]] is None and is_slow_to_start(pod)), None)
    if slow is not None:  # one of them speaks for all
        troubles[slow["metadata"]["uid"]] = await mount_trouble(cluster, slow)
    return RunView(
        jobs=tuple([job_view(job, await _job_trouble(cluster, job, pods)) for job in jobs]),
        pods=tuple(pod_view(pod, troubles[pod["metadata"]["uid"]]) for pod in pods),
        strangers=strangers,
    )


async def observe_jobs(cluster: Cluster, kind: str, namespace: str, name: str, uid: str) -> list[JobView]:
    """Look at the Jobs of this very resource alone."""
    found = await cluster.list_objects(JOB, namespace, resource_labels(kind, name))
    return [job_view(job) for job in found if controller_of(job) == uid]


def _pods_are_behind(view: RunView, job: JobView) -> bool:
    """Say whether a Job ended just now and its pods are not seen to have ended as it says."""
    if not (job.complete or job.failed) or job.deleting or is_older(job.ended_at, LONG_TOLD):
        return False
    pods = view.pods_of(job.attempt, job.step)
    if job.complete:
        return sum(pod.phase == "Succeeded" or pod.exit_code == 0 for pod in pods) < min(job.succeeded, job.completions)
    working = any(pod.phase not in ("Succeeded", "Failed") and not pod.deleting for pod in pods)
    return working or not any(pod.phase == "Failed" or pod.exit_code for pod in pods)


async def _job_trouble(cluster: Cluster, job: KubeObject, pods: list[KubeObject]) -> Trouble | None:
    if job["spec"].get("suspend"):
        return await not_admitted(cluster, job)
    made = {_index(pod) for pod in pods if _labels(pod).get(JOB_NAME_LABEL) == job["metadata"]["name"]}
    return await refused_of_job(cluster, job, len(made))


def job_view(job: KubeObject, trouble: Trouble | None = None) -> JobView:
    """Reduce a Job."""
    labels, status = _labels(job), job.get("status", {})
    ended = {c["type"]: c for c in status.get("conditions", []) if c["status"] == "True"}
    failure = ended.get("Failed", {})
    over = failure or ended.get("Complete", {})
    answered_at, _, answer = job["metadata"].get("annotations", {}).get(ANSWER_ANNOTATION, "").partition(" ")
    return JobView(
        name=job["metadata"]["name"],
        attempt=int(labels.get(LABEL_ATTEMPT, 0)),
        step=labels.get(LABEL_STEP, ""),
        suspended=bool(job["spec"].get("suspend")),
        complete="Complete" in ended,
        failed="Failed" in ended,
        completions=job["spec"].get("completions", 1),
        per_index="backoffLimitPerIndex" in job["spec"],
        reason=failure.get("reason", ""),
        message=failure.get("message", ""),
        active=status.get("active", 0),
        succeeded=status.get("succeeded", 0),
        queue=labels.get(QUEUE_LABEL, ""),
        queue_asked=job["metadata"].get("annotations", {}).get(QUEUE_ANNOTATION),
        priority_asked=job["metadata"].get("annotations", {}).get(PRIORITY_ANNOTATION),
        deleting="deletionTimestamp" in job["metadata"],
        uid=job["metadata"].get("uid", ""),
        ended_at=over.get("lastTransitionTime") or "",
        deadline=job["spec"].get("activeDeadlineSeconds"),
        trouble=trouble,
        answer=parse_result(answer),
        answered_at=answered_at,
    )


def pod_view(pod: KubeObject, trouble: Trouble | None = None) -> PodView:
    """Reduce a pod."""
    labels, status = _labels(pod), pod.get("status", {})
    main: dict[str, Any] = next((c for c in status.get("containerStatuses", []) if c["name"] == MAIN), {})
    ended = main.get("state", {}).get("terminated") or {}
    return PodView(
        name=pod["metadata"]["name"],
        attempt=int(labels.get(LABEL_ATTEMPT, 0)),
        step=labels.get(LABEL_STEP, ""),
        index=_index(pod),
        phase=status.get("phase", "Pending"),
        result=parse_result(ended.get("message", "")),
        trouble=trouble,
        exit_code=ended.get("exitCode"),
        oom_killed=ended.get("reason") == "OOMKilled",
        ready=any(c["type"] == "Ready" and c["status"] == "True" for c in status.get("conditions", [])),
        uid=pod["metadata"].get("uid", ""),
        reason=status.get("reason", ""),
        message=status.get("message", ""),
        disrupted=disruption(pod),
        ended=_bad_end(pod),
        ended_at=ended.get("finishedAt") or "",
        lingers=bool(ended) and _lingers(pod),
        deleting="deletionTimestamp" in pod["metadata"],
    )


def _lingers(pod: KubeObject) -> bool:
    """Say whether a container that others added still runs beside `main`.

    The phase alone is late: the kubelet reports that a pod has ended only after all its containers are gone. A pod that
    is being taken away ends by itself.
    """
    status = pod.get("status", {})
    others = (container for container in status.get("containerStatuses", []) if container["name"] != MAIN)
    taken = "deletionTimestamp" in pod["metadata"] or bool(disruption(pod))
    return status.get("phase") == "Running" and not taken and any("running" in one.get("state", {}) for one in others)


def _bad_end(pod: KubeObject) -> str:
    """Return how a container of the pod failed, `main` before those that others added."""
    bad = [
        (container["name"], ended)
        for container in container_statuses(pod)
        if (ended := container.get("state", {}).get("terminated") or {}).get("exitCode")
    ]
    name, ended = min(bad, key=lambda one: one[0] != MAIN, default=("", {}))
    return f"container {name} ended with {how_it_ended(ended)}" if name else ""


def _index(pod: KubeObject) -> int:
    return int(pod["metadata"].get("annotations", {}).get("batch.kubernetes.io/job-completion-index", 0))


def _labels(obj: KubeObject) -> dict[str, str]:
    labels: dict[str, str] = obj["metadata"].get("labels", {})
    return labels
