"""The proof of a Checkpoint: facts are gathered here, and written to the store by a Job in the namespace.

Only what names lead to is looked at: the training job, what its spec names, what that names. The Job takes out of it
what the digests in manifests do not vouch for.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from pydantic import ValidationError

from star_contracts.artifact import ArtifactRef
from star_contracts.names import LABEL_STEP
from star_contracts.proofs import CARD, PROVENANCE, MadeBy, Measured, bundle_of, proof_uri
from star_contracts.result import JobResult
from star_operator.api.checkpoint import Checkpoint, CheckpointStatus
from star_operator.api.kinds import BY_KIND
from star_operator.api.meta import Resource
from star_operator.api.references import named
from star_operator.api.schema import json_schema
from star_operator.builders.errand import errand_name, errand_objects
from star_operator.builders.proofs import ProofPlan, attest_errand, checkpoint_owner, proofs_of
from star_operator.core.errors import InvalidSpec, Refused, Waiting
from star_operator.core.labels import ATTEST, ATTEST_ANNOTATION, resource_labels
from star_operator.core.objects import KubeObject
from star_operator.core.queue import Key
from star_operator.core.reasons import ConditionReason
from star_operator.core.views import RunView
from star_operator.kube.cluster import Cluster
from star_operator.kube.namesakes import require_no_strangers
from star_operator.kube.namespaces import let_go, require_living
from star_operator.kube.observe import observe_run
from star_operator.kube.resources import CONFIG_MAP, JOB, POD, STAR_TYPES
from star_operator.kube.secrets import require_store_secret
from star_operator.kube.trouble import MAIN
from star_operator.policy.errand import Begin, Ended, GaveUp, GoingOn, look
from star_operator.policy.proofs import attested, facts_of, measured, not_attested
from star_operator.policy.status import Moment
from star_operator.reconcilers.context import Context
from star_operator.reconcilers.errand import clear_others, end_side_cars

MAX_SOURCES = 32
"""Resources of a lineage that are told of."""
REFUSED_SECONDS = 300.0
"""How soon to look again whether what others forbade is allowed."""
FILES = (CARD, PROVENANCE, bundle_of(PROVENANCE))


async def with_proof(
    context: Context, checkpoint: Checkpoint, status: CheckpointStatus, reports: Sequence[Measured], at: Moment
) -> CheckpointStatus:
    """Return the status with what is to be said of the checkpoint's proof, and bring that one step further.

    Raises Retryable where the API is in trouble; what others forbid is told.
    """
    settings = context.settings
    if not settings.proofs.enabled:
        return status
    facts = facts_of(checkpoint, reports, settings.proofs.signing_secret_name)
    owner = checkpoint_owner(checkpoint)
    key = Key(owner.kind, owner.namespace, owner.name)
    if status.proofs is not None and status.proofs.facts == facts:
        leave(context, key)
        return attested(status, at)
    if status.failed_facts == facts:
        leave(context, key)
        return status
    try:
        return await _one_step(context, checkpoint, status, Facts(key, facts, reports), at)
    except Waiting as waiting:
        said = not_attested(status, at, waiting.reason, f"its card and provenance wait: {waiting.message}")
    except InvalidSpec as error:
        said = not_attested(status, at, error.reason, f"its card and provenance cannot be written: {error.message}")
    except Refused as refused:
        context.queue.add_after(key, REFUSED_SECONDS)
        text = f"its card and provenance wait: {refused.message}"
        said = not_attested(status, at, refused.reason, text)
    leave(context, key)
    return said


def leave(context: Context, key: Key) -> None:
    """No Job writes the checkpoint's proof any more: it may be another one's turn."""
    following = context.proofs.leave(key)
    if following is not None:
        context.queue.add(following)


@dataclass(frozen=True)
class Facts:
    """What a proof is to speak of."""

    key: Key
    """The Checkpoint."""
    digest: str
    reports: Sequence[Measured]


async def _one_step(
    context: Context, checkpoint: Checkpoint, status: CheckpointStatus, facts: Facts, at: Moment
) -> CheckpointStatus:
    """Look at the Job that writes the proof, or start it. Raises Waiting, InvalidSpec, Refused, Retryable."""
    cluster, owner = context.cluster, checkpoint_owner(checkpoint)
    name = errand_name(owner, ATTEST, facts.digest)
    view = await observe_run(cluster, owner.kind, owner.namespace, owner.name, owner.uid)
    await let_go(cluster, owner.namespace, view)
    await end_side_cars(cluster, owner.namespace, view, name, ATTEST)
    match look(view, name, ATTEST):
        case Begin():
            await require_no_strangers(cluster, owner.kind, owner.namespace, owner.name, view)
            if not context.proofs.take(facts.key):
                context.queue.add_after(facts.key, context.proofs.pause(facts.key))
                text = "its card and provenance wait their turn: other checkpoints' are being written"
                return not_attested(status, at, ConditionReason.ATTESTING, text)
            await _begin(context, checkpoint, facts)
            return not_attested(status, at, ConditionReason.ATTESTING, "its card and provenance are being written")
        case GoingOn(message):
            context.proofs.hold(facts.key)
            return not_attested(status, at, ConditionReason.ATTESTING, f"Job {name}: {message}")
        case GaveUp(reason, message, _, terminal):
            leave(context, facts.key)
            text = f"its card and provenance cannot be written: {message}"
            if not terminal:  # its Job goes after an hour, and another one follows
                return not_attested(status, at, reason, text)
            await cluster.delete(CONFIG_MAP, owner.namespace, name)
            await _leave_job(cluster, owner.namespace, view, name)
            again = f"; once that is mended, give it the annotation {ATTEST_ANNOTATION} with any new text"
            failed = status.model_copy(update={"failed_facts": facts.digest})
            return not_attested(failed, at, reason, text + again)
        case Ended(result):
            leave(context, facts.key)
            status = await _recorded(context, checkpoint, status, facts.digest, result, at)
            await _leave_job(cluster, owner.namespace, view, name)
            return status


async def _leave_job(cluster: Cluster, namespace: str, view: RunView, name: str) -> None:
    """Delete a Job whose answer has been read and that does not end, as its time to live would never begin."""
    for job in view.jobs:
        if job.name == name and not (job.complete or job.failed):
            await cluster.delete(JOB, namespace, name, uid=job.uid or None, foreground=True)


async def _begin(context: Context, checkpoint: Checkpoint, facts: Facts) -> None:
    settings, cluster, owner = context.settings, context.cluster, checkpoint_owner(checkpoint)
    await require_living(cluster, owner.namespace)
    await require_store_secret(cluster, owner.namespace, settings.store.secret_name)
    told = measured(checkpoint, facts.reports)
    plan = ProofPlan(checkpoint, facts.digest, told, await sources(cluster, checkpoint))
    await clear_others(cluster, owner, ATTEST, errand_name(owner, ATTEST, facts.digest))
    for obj in errand_objects(owner, attest_errand(plan, settings), settings):
        await cluster.apply(obj)


async def _recorded(
    context: Context,
    checkpoint: Checkpoint,
    status: CheckpointStatus,
    facts: str,
    result: JobResult | None,
    at: Moment,
) -> CheckpointStatus:
    """Take down what a Job has written; one whose answer is lost is made again, and finds what it wrote."""
    owner = checkpoint_owner(checkpoint)
    name = errand_name(owner, ATTEST, facts)
    proofs, ref = None, checkpoint.spec
    if result is not None and result.artifact is not None and result.artifact.uri == proof_uri(ref.uri, facts):
        proofs = proofs_of(facts, result.artifact, result.files, FILES)
    if proofs is None:
        await context.cluster.delete(JOB, owner.namespace, name)
        return not_attested(status, at, ConditionReason.ATTESTING, "the answer of its Job is lost; it is asked again")
    await context.cluster.delete(CONFIG_MAP, owner.namespace, name)  # its Job goes by itself, this would stay
    context.wake_waiting(owner.namespace)
    return attested(status.model_copy(update={"proofs": proofs, "failed_facts": None}), at)


async def sources(cluster: Cluster, checkpoint: Checkpoint) -> tuple[MadeBy, ...]:
    """Return the training job of a checkpoint, then what its spec names, then what that names, each once."""
    lineage, namespace = checkpoint.spec.lineage, checkpoint.metadata.namespace
    found: dict[str, MadeBy] = {}
    waiting = [(lineage.producer_kind, lineage.producer_name, lineage.producer_uid)]
    while waiting and len(found) < MAX_SOURCES:
        kind, name, uid = waiting.pop(0)
        body = await cluster.get(STAR_TYPES[kind], namespace, name) if kind in STAR_TYPES and name else None
        if body is None or (uid and body["metadata"]["uid"] != uid) or body["metadata"]["uid"] in found:
            continue
        try:
            resource = BY_KIND[kind].parse(body)
        except ValidationError:  # of another version
            continue
        if isinstance(resource, Checkpoint) and resource.spec.lineage.producer_kind:
            made = resource.spec.lineage
            waiting.append((made.producer_kind, made.producer_name, made.producer_uid))
            continue
        images = {} if found else await _images(cluster, resource)
        found[resource.metadata.uid] = _made_by(resource, body, images)
        waiting += [(one, target, "") for one, target in _names(resource, body)]
    return tuple(found.values())


def _names(resource: Resource[Any, Any], body: KubeObject) -> list[tuple[str, str]]:
    """Return kind and name of what a spec is made from; a model by its record."""
    schema = json_schema(type(resource).spec_type())
    return [
        (kinds[0], name)
        for path, kinds, name in named(schema, body.get("spec") or {})
        if kinds[0] in STAR_TYPES and not path.startswith("previous")
    ]


def _made_by(resource: Resource[Any, Any], body: KubeObject, images: dict[str, str]) -> MadeBy:
    artifact, status = resource.status.artifact, resource.status
    ref = ArtifactRef(uri=artifact.uri, digest=artifact.digest) if artifact is not None else None
    if isinstance(resource, Checkpoint):
        ref = ArtifactRef(uri=resource.spec.uri, digest=resource.spec.digest)
    return MadeBy(
        kind=resource.kind,
        name=resource.metadata.name,
        uid=resource.metadata.uid,
        parameters=body.get("spec") or {},
        artifact=ref,
        started=status.start_time or "",
        finished=status.completion_time or "",
        images=images,
    )


async def _images(cluster: Cluster, resource: Resource[Any, Any]) -> dict[str, str]:
    """Return by step the image that the pods of a resource ran, with its digest where the kubelet tells it."""
    found: dict[str, str] = {}
    for pod in await cluster.list_objects(
        POD, resource.metadata.namespace, resource_labels(resource.kind, resource.metadata.name)
    ):
        step = (pod["metadata"].get("labels") or {}).get(LABEL_STEP)
        spec: KubeObject = next((one for one in pod["spec"].get("containers", ()) if one["name"] == MAIN), {})
        states = pod.get("status", {}).get("containerStatuses") or ()
        ran = next((one.get("imageID", "") for one in states if one["name"] == MAIN), "")
        image, _, digest = ran.rpartition("://")[2].partition("@")
        asked = spec.get("image", "").partition("@")[0] or image
        if step and asked:
            found[step] = f"{asked}@{digest}" if digest else spec.get("image", asked)
    return found
