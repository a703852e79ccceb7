"""One step of a run as Kubernetes objects: job spec (ConfigMap), Indexed Job, and a headless Service for groups.

Two shapes: **shards** are independent pods, each retried by itself (`backoffLimitPerIndex`, KEP-3850), so that one
failure does not rebuild healthy pods; a single pod or a **group** (`compute.nodes` > 1) works as one, so its first
failure ends the Job and the next attempt starts all of it anew. Exit code 65 ends the Job at once, a disruption
(preemption, eviction, node drain) costs no retry (KEP-3329), and a pod is replaced only when it is gone (KEP-3939).

A Job's pod template is immutable: apply these objects once. `suspend` is only the first word: later it belongs to the
queue (Kueue, `Run A Kubernetes Job`) or to whoever suspends the resource. There is no ttlSecondsAfterFinished: it would
count from the end of the step, and a result that is not read yet would be gone.

A pod of a step with LLM servers is ready when it needs them, and not before: see `_asking`.
"""

import re
from collections.abc import Mapping
from typing import Any

from star_contracts.artifact import DIGEST_PATTERN, Producer, artifact_uri, memo_uri, work_uri
from star_contracts.base import canonical_json, value_hash
from star_contracts.job import JOB_SPEC_PATH, JobSpec, Shard, Whole
from star_contracts.names import LABEL_STEP
from star_contracts.progress import ProgressTarget
from star_contracts.result import ExitCode
from star_operator.api.common import CachePolicy, RunSpec, SecretKeyRef
from star_operator.builders.keys import RAY_KEY, makes_ray_cluster, step_key_refs, step_keys_name
from star_operator.builders.names import child_name, labels, owner_reference
from star_operator.builders.network import goes_outside, group_policy
from star_operator.builders.placement import image_of
from star_operator.builders.pod import MAIN, Container, EnvValue, FieldRef, PodPlan, ca_files, key_path, pod_template
from star_operator.builders.step import ASK_PORT, Owner, Step
from star_operator.core.errors import InvalidSpec
from star_operator.core.labels import PRIORITY_ANNOTATION, QUEUE_ANNOTATION, label_value, resource_labels, uses_label
from star_operator.core.objects import KubeObject, compact
from star_operator.core.reasons import ConditionReason
from star_operator.core.settings import Settings

JOB_FILE = "job.json"
QUEUE_LABEL = "kueue.x-k8s.io/queue-name"
JOB_NAME_LABEL = "batch.kubernetes.io/job-name"
INDEX_ANNOTATION = "metadata.annotations['batch.kubernetes.io/job-completion-index']"
RENDEZVOUS_PORT = 29500
ASK_PORT_NAME = "asks"
GROUP_ROLES = ("trainer", "rollout")
"""Image roles whose pods can work as a group."""
GRACE_SECONDS = {"jobs": 60, "trainer": 120, "rollout": 120}
"""Time to put the last part or checkpoint away after SIGTERM."""


def step_job(owner: Owner, step: Step, attempt: int, settings: Settings, run: RunSpec) -> list[KubeObject]:
    """Return the objects of one attempt of a step, in the order to apply them: ConfigMap, [group's], Job.

    A group has a Service, which names its pods, and a NetworkPolicy, which lets them reach each other.

    The Secret with its keys (`builders.keys.step_keys`) is not among them: it is made once, and never changed.
    Raises InvalidSpec: unknown pool, pool without images, or nodes for a step that does not work as a group.
    """
    group = _is_group(step)
    name = child_name(owner, attempt, step.name)
    meta: KubeObject = {
        "namespace": owner.namespace,
        "name": name,
        "labels": labels(owner, step.name, attempt),
        "ownerReferences": [owner_reference(owner)],
    }
    spec = job_spec(owner, step, attempt, settings, run)
    config_map = {
        "apiVersion": "v1",
        "kind": "ConfigMap",
        "metadata": meta,
        "data": {JOB_FILE: canonical_json(spec.to_json_dict()).decode(), **ca_files(settings)},
    }
    keys = step_key_refs(step_keys_name(owner, attempt, step.name), step)
    template = pod_template(_pod_plan(step, meta, keys), settings)
    job = {
        "apiVersion": "batch/v1",
        "kind": "Job",
        "metadata": meta | _queue(step, meta["labels"]),
        "spec": _job_shape(step, run) | {"template": template},
    }
    service = [_group_service(meta), *_group_policy(owner, step, settings)] if group else []
    return [compact(obj) for obj in (config_map, *service, job)]


def job_spec(owner: Owner, step: Step, attempt: int, settings: Settings, run: RunSpec) -> JobSpec:
    """Return what the pods are told.

    The work prefix follows from the work, so that a retry, a new attempt and a re-created resource continue it, and a
    collecting step reads its shards' parts. The output names work and resource (its UID): a re-created resource of the
    same name may do other work, artifacts are never overwritten, and what was let go of the one before may be on its
    way out. Under cachePolicy Never the work is the resource's own as well: nothing of an earlier one is met. A
    look-up is told of the work that it looks for.
    """
    place = (settings.store.uri, owner.namespace, owner.kind)
    fresh = run.cache_policy == CachePolicy.NEVER
    stage, job_step, role, pool = step.stage, step.name, step.role, step.compute.pool
    step = step.looks_for or step
    parts, parts_hash = step.work_area
    whole = step.collected_by if not fresh else None
    output_step = f"{step.name}-{_key(step.work_hash, owner, fresh=True).removeprefix('sha256:')[:8]}"
    return JobSpec(
        store=settings.store.connection,
        producer=Producer(
            kind=owner.kind,
            namespace=owner.namespace,
            name=owner.name,
            uid=owner.uid,
            step=step.name,
            work_hash=step.work_hash,
            image=image_of(role, pool, settings),
        ),
        output=artifact_uri(*place, owner.name, attempt, output_step),
        work=work_uri(*place, owner.name, parts, _key(parts_hash, owner, fresh=fresh)),
        memo=memo_uri(*place, step.name, step.work_hash) if step.has_artifact and not fresh else None,
        whole=_whole(whole, memo_uri(*place, whole.name, whole.work_hash)) if whole else None,
        inputs=_digests(step.inputs),
        shard=Shard(count=step.shards),
        progress=_told_to(owner, attempt, job_step, settings),
        stage=stage,
    )


def _whole(step: Step, memo: str) -> Whole:
    return Whole(memo=memo, work_hash=step.work_hash, step=step.name, inputs=_digests(step.inputs))


def _digests(inputs: Mapping[str, str]) -> dict[str, str]:
    """Return the inputs that are artifacts; others are names, of a hub's models for example."""
    return {role: digest for role, digest in inputs.items() if re.match(DIGEST_PATTERN, digest)}


def _told_to(owner: Owner, attempt: int, step: str, settings: Settings) -> ProgressTarget | None:
    """Return where pods report progress; nowhere, where the owner is no resource (yet) that a status could be of."""
    if not owner.uid:
        return None
    return ProgressTarget(
        url=settings.progress_url,
        kind=owner.kind,
        namespace=owner.namespace,
        name=owner.name,
        uid=owner.uid,
        attempt=attempt,
        step=step,
    )


def _key(work_hash: str, owner: Owner, *, fresh: bool) -> str:
    return value_hash({"work": work_hash, "uid": owner.uid}) if fresh else work_hash


def _is_group(step: Step) -> bool:
    if step.compute.nodes == 1:
        return False
    if step.role not in GROUP_ROLES or step.shards > 1:
        raise InvalidSpec(
            ConditionReason.NOT_A_GROUP,
            f"spec.compute.nodes is {step.compute.nodes}, but the pods of step {step.name!r} work independently: "
            "set spec.compute.nodes to 1 and, where the kind has it, spec.shards to the number of pods",
        )
    return True


def _job_shape(step: Step, run: RunSpec) -> dict[str, Any]:
    pods = max(step.shards, step.compute.nodes)
    retries = {"backoffLimitPerIndex": run.retries, "maxFailedIndexes": 0} if step.shards > 1 else {"backoffLimit": 0}
    return {
        "completionMode": "Indexed",
        "completions": pods,
        "parallelism": pods,
        "podReplacementPolicy": "Failed",
        "podFailurePolicy": {"rules": failure_rules()},
        "suspend": run.suspend or step.compute.queue_name is not None,
        "activeDeadlineSeconds": run.active_deadline_seconds,
        **retries,
    }


def failure_rules() -> list[KubeObject]:
    """Return how a Job's pods fail: a terminal error ends it at once, a disruption costs no retry."""
    codes = {"containerName": MAIN, "operator": "In", "values": [int(ExitCode.TERMINAL)]}
    return [
        {"action": "FailJob", "onExitCodes": codes},
        {"action": "Ignore", "onPodConditions": [{"type": "DisruptionTarget", "status": "True"}]},
    ]


def _queue(step: Step, labels: dict[str, str]) -> KubeObject:
    queue, priority = step.compute.queue_name, step.compute.priority_class_name
    asked = {QUEUE_ANNOTATION: queue or "", PRIORITY_ANNOTATION: priority or ""}
    return {"labels": labels | ({QUEUE_LABEL: label_value(queue)} if queue else {}), "annotations": asked}


def _pod_plan(step: Step, meta: KubeObject, keys: Mapping[str, SecretKeyRef]) -> PodPlan:
    group = _is_group(step)
    env: dict[str, EnvValue] = {"STAR_JOB_SPEC": JOB_SPEC_PATH}
    if group:
        env |= _group_environment(meta["name"], step)
    return PodPlan(
        main=Container(role=step.role, command=("star-job",), env=env, store_access=True, **_asking(step)),
        compute=step.compute,
        labels=meta["labels"] | {uses_label(server.name): "true" for server in step.servers},
        config_map=meta["name"],
        api_keys={**step.api_keys, **keys},
        group={JOB_NAME_LABEL: meta["name"]} if group else {},
        subdomain=meta["name"] if group else None,
        outside=goes_outside(step.stage),
        operator_token=True,
        restart_policy="Never",
        grace_seconds=GRACE_SECONDS[step.role],
    )


def _asking(step: Step) -> dict[str, Any]:
    """Return the port and the readiness probe by which a pod asks for its step's servers; none for other steps.

    Only the pod can tell whether there is anything to do: the operator has no access to the store. No Service selects
    these pods, so that being ready means nothing else.
    """
    if not step.servers:
        return {}
    probe = {"tcpSocket": {"port": ASK_PORT_NAME}, "periodSeconds": 1}
    return {"ports": {ASK_PORT_NAME: ASK_PORT}, "extra": {"readinessProbe": probe}}


def _group_environment(name: str, step: Step) -> dict[str, EnvValue]:
    """Return torchrun's view of the group (pytorch.org, `torchrun`): pod <job>-0 of the headless Service leads."""
    return {
        "MASTER_ADDR": f"{name}-0.{name}",
        "MASTER_PORT": str(RENDEZVOUS_PORT),
        "NNODES": str(step.compute.nodes),
        "NPROC_PER_NODE": str(max(1, step.compute.gpus_per_node)),
        "NODE_RANK": FieldRef(INDEX_ANNOTATION),
        **(_ray_authentication() if makes_ray_cluster(step) else {}),
    }


def _ray_authentication() -> dict[str, EnvValue]:
    """Return how pods of a group join a Ray cluster, and nobody else (docs.ray.io, `Ray token authentication`)."""
    return {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN_PATH": key_path(RAY_KEY)}


def _group_policy(owner: Owner, step: Step, settings: Settings) -> list[KubeObject]:
    """Return the policy of a step's group: of all attempts, as two never run at once."""
    members = resource_labels(owner.kind, owner.name) | {LABEL_STEP: step.name}
    meta: KubeObject = {
        "namespace": owner.namespace,
        "name": child_name(owner, None, f"{step.name}-group"),
        "labels": labels(owner, step.name),
        "ownerReferences": [owner_reference(owner)],
    }
    return group_policy(meta, members, settings)


def _group_service(meta: KubeObject) -> KubeObject:
    """Return the Service that gives the group's pods names, before they are ready: they wait for each other."""
    return {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": meta,
        "spec": {
            "clusterIP": "None",
            "publishNotReadyAddresses": True,
            "selector": {JOB_NAME_LABEL: meta["name"]},
            "ports": [{"name": "rendezvous", "port": RENDEZVOUS_PORT}],
        },
    }
