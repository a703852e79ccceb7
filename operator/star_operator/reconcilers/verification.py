"""Verification of what a StarDeployment is to serve: signatures and the gates' verdict, by a Job before other pods."""

from dataclasses import dataclass

from star_contracts.artifact import ArtifactRef
from star_contracts.proofs import BoundVerdict, PublicKey
from star_operator.api.checkpoint import Checkpoint
from star_operator.api.signatures import RequireSignatures, TrustedKey
from star_operator.api.stardeployment import StarDeployment
from star_operator.builders.errand import errand_name, errand_objects
from star_operator.builders.proofs import Claim, deployment_owner, verify_errand
from star_operator.core.errors import InvalidSpec, Refused, Waiting
from star_operator.core.labels import ERRAND_ANNOTATION, PROOF_ANNOTATION, VERIFY
from star_operator.core.objects import is_owned
from star_operator.core.queue import Key
from star_operator.core.reasons import AnyReason, ConditionReason
from star_operator.kube.cluster import Cluster
from star_operator.kube.namesakes import require_no_strangers
from star_operator.kube.namespaces import require_living
from star_operator.kube.observe import observe_run
from star_operator.kube.resources import CONFIG_MAP, JOB, STAR_TYPES
from star_operator.kube.secrets import require_store_secret
from star_operator.policy.conditions import ATTESTED, find
from star_operator.policy.errand import look
from star_operator.policy.gates import Verdict
from star_operator.policy.verification import Anew, Asked, Unproven, Verified, Verify, Verifying, decide
from star_operator.reconcilers.context import UNWATCHED_SECONDS, Context
from star_operator.reconcilers.errand import clear_others, end_side_cars


@dataclass(frozen=True)
class Finding:
    """What verification says so far."""

    verdict: Verdict
    reason: AnyReason
    message: str


PASSED = Finding(Verdict.PASSED, ConditionReason.SERVING, "verified")


CANNOT_RUN_SECONDS = 60.0
"""How soon to look again whether what could not be verified can be."""


async def verification(
    context: Context, resource: StarDeployment, checkpoint: ArtifactRef, verdict: BoundVerdict | None
) -> Finding:
    """Return whether the checkpoint may be served, and bring its verification one step further.

    Where something serves, it goes on and is looked after whatever keeps verification from running: that is a finding.
    Raises otherwise Waiting (a key's ConfigMap, the store's Secret, a namespace that is being deleted), Refused (a
    quota, a webhook) and InvalidSpec (the Job does not fit this cluster or these settings).
    """
    try:
        return await _verify(context, resource, checkpoint, verdict)
    except (Waiting, Refused, InvalidSpec) as error:
        if not any(revision.weight for revision in resource.status.revisions):
            raise
        meta = resource.metadata
        key = Key(resource.kind, meta.namespace, meta.name)
        context.waiting[meta.namespace].add(key)
        context.queue.add_after(key, CANNOT_RUN_SECONDS)
        return Finding(Verdict.RUNNING, error.reason, f"it cannot be verified: {error.message}")


async def _verify(
    context: Context, resource: StarDeployment, checkpoint: ArtifactRef, verdict: BoundVerdict | None
) -> Finding:
    cluster, settings, required = context.cluster, context.settings, resource.spec.require_signatures
    if required is None and verdict is None:
        return PASSED
    owner = deployment_owner(resource)
    key = Key(resource.kind, owner.namespace, owner.name)
    proof = ""
    if required is not None:
        record = await _record(cluster, resource)
        if record is not None and _is_on_its_way(record) and settings.proofs.enabled:
            context.waiting[owner.namespace].add(key)
            text = f"the proof of Checkpoint {record.metadata.name} is being written"
            return Finding(Verdict.RUNNING, ConditionReason.VERIFYING, text)
        proof = record.status.proofs.digest if record is not None and record.status.proofs is not None else ""
    keys = await _keys(context, owner.namespace, required)
    claim = Claim(checkpoint, keys, required.threshold if required is not None else 1, verdict)
    errand = verify_errand(claim, proof, settings)
    name = errand_name(owner, VERIFY, errand.key)
    view = await observe_run(cluster, owner.kind, owner.namespace, owner.name, owner.uid)
    job = await cluster.get(JOB, owner.namespace, name)
    if job is not None and not is_owned(job, owner.uid):  # of a deployment of the name that is gone
        job = None
    await end_side_cars(cluster, owner.namespace, view, name, VERIFY)
    said = (job or {}).get("metadata", {}).get("annotations", {})
    asked = Asked(proof, said.get(PROOF_ANNOTATION, ""), same=said.get(ERRAND_ANNOTATION) == errand.key)
    match decide(look(view, name, VERIFY), asked, context.now()):
        case Verify():
            await require_no_strangers(cluster, owner.kind, owner.namespace, owner.name, view)
            await require_living(cluster, owner.namespace)
            await require_store_secret(cluster, owner.namespace, settings.store.secret_name)
            await clear_others(cluster, owner, VERIFY, name)
            for obj in errand_objects(owner, errand, settings):
                await cluster.apply(obj)
            return Finding(Verdict.RUNNING, ConditionReason.VERIFYING, f"Job {name} verifies {_what(claim)}")
        case Anew():
            await cluster.delete(JOB, owner.namespace, name, uid=job["metadata"]["uid"] if job is not None else None)
            return Finding(Verdict.RUNNING, ConditionReason.VERIFYING, f"Job {name} verifies {_what(claim)} again")
        case Verifying(message):
            context.queue.add_after(key, UNWATCHED_SECONDS)
            return Finding(Verdict.RUNNING, ConditionReason.VERIFYING, f"Job {name} verifies {_what(claim)}: {message}")
        case Unproven(reason, message, seconds):
            context.waiting[owner.namespace].add(key)  # a new proof wakes it
            context.queue.add_after(key, seconds)
            return Finding(Verdict.FAILED, reason, message)
        case Verified():
            return PASSED


async def _record(cluster: Cluster, resource: StarDeployment) -> Checkpoint | None:
    name = resource.spec.checkpoint.checkpoint
    body = await cluster.get(STAR_TYPES["Checkpoint"], resource.metadata.namespace, name) if name else None
    return Checkpoint.parse(body) if body is not None else None


def _is_on_its_way(record: Checkpoint) -> bool:
    """Say whether a first proof is still to come."""
    said = find(record.status.conditions, ATTESTED)
    return record.status.proofs is None and (said is None or said.reason == ConditionReason.ATTESTING)


def _what(claim: Claim) -> str:
    parts = ["its signatures"] if claim.keys else []
    parts += [f"the report of Evaluation {claim.verdict.evaluation}"] if claim.verdict is not None else []
    return " and ".join(parts)


async def _keys(context: Context, namespace: str, required: RequireSignatures | None) -> list[PublicKey]:
    keys = required.keys if required is not None else ()
    return [
        PublicKey(name=key.name, pem=await _pem(context, namespace, key, f"spec.requireSignatures.keys[{place}]"))
        for place, key in enumerate(keys)
    ]


async def _pem(context: Context, namespace: str, key: TrustedKey, field: str) -> str:
    if key.public_key is not None:
        return key.public_key.strip() + "\n"
    assert key.config_map_key_ref is not None  # exactly one of both: refused at admission otherwise
    ref = key.config_map_key_ref
    found = await context.cluster.get(CONFIG_MAP, namespace, ref.name)
    text: str = ((found or {}).get("data") or {}).get(ref.key, "").strip()
    if not text or len(text) > MAX_PEM:
        lacks = "does not exist" if found is None else f"has no {ref.key} that could be a key"
        where = f"{field}.configMapKeyRef names ConfigMap {ref.name}, which {lacks} in namespace {namespace}"
        raise Waiting(ConditionReason.INPUT_MISSING, f"{where}; put the public key there in PEM")
    return text + "\n"


MAX_PEM = 4096
"""Characters of a key; the largest that is taken has a few hundred."""
