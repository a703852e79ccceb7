"""What is looked at before it is decided about a Promotion: policies, evaluations, data, and what serves elsewhere."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, TypeVar

from pydantic import ValidationError

from star_contracts.artifact import ArtifactRef
from star_contracts.base import value_hash
from star_contracts.promotion import CheckpointFacts, Figure
from star_operator.api.checkpoint import Checkpoint
from star_operator.api.evaluation import Evaluation
from star_operator.api.meta import Phase, Resource
from star_operator.api.promotion import Promotion
from star_operator.api.promotionpolicy import PromotionPolicy
from star_operator.api.recdataset import RecDataset
from star_operator.api.stardeployment import StarDeployment
from star_operator.builders.promotion import MAX_FACTS
from star_operator.core.labels import OBSERVERS_ANNOTATION, observers
from star_operator.core.reasons import ConditionReason
from star_operator.kube.cluster import Cluster
from star_operator.kube.guard import guarded_since
from star_operator.kube.resources import STAR_TYPES
from star_operator.policy.promotionfacts import Dataset, Environment, Facts, Measured
from star_operator.policy.promotionplace import Fault, fault, governing, place
from star_operator.policy.promotionrules import data_age_days
from star_operator.policy.served import longest_gap
from star_operator.policy.status import is_finished
from star_operator.reconcilers.context import Context

ResourceT = TypeVar("ResourceT", bound=Resource[Any, Any])
MAX_NAME = 253
"""Characters of what the commit tells; what is called by a longer name is left out."""
MAX_FIGURES = 24
"""Of one checkpoint that the commit tells."""
LOW, HIGH = "CiLow", "CiHigh"


@dataclass
class Look:
    """What there is in a Promotion's namespace."""

    policies: list[PromotionPolicy]
    unread: list[str]
    """Policies that do not fit this operator's version."""
    promotions: list[Promotion]
    checkpoints: list[Checkpoint] = field(default_factory=list)
    evaluations: list[Evaluation] = field(default_factory=list)
    datasets: list[RecDataset] = field(default_factory=list)


async def look_at(cluster: Cluster, namespace: str) -> Look:
    """List what matters to promotions."""
    policies, unread = await _parsed(cluster, PromotionPolicy, namespace)
    promotions, _ = await _parsed(cluster, Promotion, namespace)
    look = Look(policies, unread, promotions)
    look.checkpoints, _ = await _parsed(cluster, Checkpoint, namespace)
    look.evaluations, _ = await _parsed(cluster, Evaluation, namespace)
    look.datasets, _ = await _parsed(cluster, RecDataset, namespace)
    return look


async def _parsed(cluster: Cluster, kind: type[ResourceT], namespace: str) -> tuple[list[ResourceT], list[str]]:
    found, unread = [], []
    for body in await cluster.list_objects(STAR_TYPES[kind.INFO.kind], namespace):
        try:
            found.append(kind.parse(body))
        except ValidationError:  # its own condition says so
            unread.append(body["metadata"]["name"])
    return found, unread


async def facts(context: Context, promotion: Promotion, digest: str, look: Look) -> Facts:
    """Return what is known when it is decided about a Promotion."""
    now, gap = context.now(), longest_gap(context.settings.resync_seconds)
    found, policy = governor(promotion, look)
    needs_guard = bool(promotion.spec.approvals or promotion.spec.override)
    needs_guard |= policy is not None and policy.spec.requires.approvals > 0
    since = await guarded_since(context.cluster) if needs_guard else ""
    created = promotion.metadata.creation_timestamp
    late = since is not None and created != "" and created < since
    return Facts(
        digest=digest,
        now=now,
        gap=gap,
        policy=policy,
        fault=found,
        measured=_measured(digest, look),
        datasets={one.metadata.name: _dataset(one) for one in look.datasets},
        trained_on=_trained_on(digest, look),
        environments={} if found or policy is None else await _environments(context.cluster, policy, look),
        guarded=since is not None and not late,
        guarded_since=since if since and late else "",
        ahead=_ahead(promotion, look.promotions),
    )


def governor(promotion: Promotion, look: Look) -> tuple[Fault | None, PromotionPolicy | None]:
    """Return the policy that governs a Promotion, or why none can be followed."""
    if look.unread:
        text = f"PromotionPolicy {look.unread[0]} does not fit this operator's version, and could govern the target"
        return Fault(ConditionReason.INVALID_SPEC, f"{text}; apply the CRDs of this version"), None
    found, named = governing(promotion.spec.target, look.policies), promotion.spec.environment
    if named is not None and named not in [one.metadata.name for one in look.policies]:
        text = f"spec.environment names PromotionPolicy {named}, which does not exist in this namespace"
        return Fault(ConditionReason.INPUT_MISSING, f"{text}: create it, or create a Promotion without"), None
    if named is not None and named not in [one.metadata.name for one in found]:
        text = f"spec.environment names PromotionPolicy {named}, which governs another place than spec.target"
        return Fault(ConditionReason.NOT_GOVERNED, f"{text}: create a Promotion with its target, or without it"), None
    if not found:
        return None, None
    policy = next((one for one in found if one.metadata.name == named), found[0])
    return fault(policy, look.policies) or _rivals(found), policy


def _rivals(found: Sequence[PromotionPolicy]) -> Fault | None:
    """Two may govern a target that do not govern the same place: one that could be either's."""
    if len(found) == 1:
        return None
    names = " and ".join(one.metadata.name for one in found)
    text = f"spec.target may be the place of PromotionPolicy {names}: write the field or the document that it is"
    return Fault(ConditionReason.POLICY_CONFLICT, text)


def _measured(digest: str, look: Look) -> list[Measured]:
    """Return the Evaluations that claim to have measured a digest."""
    named = {one.metadata.name for one in look.checkpoints if one.spec.digest == digest}
    found = []
    for one in look.evaluations:
        model = one.spec.llm.server.model if one.spec.llm is not None and one.spec.llm.server is not None else None
        if model is None or digest != (model.digest or (digest if model.checkpoint in named else "")):
            continue
        made, status = one.status.artifact, one.status
        found.append(
            Measured(
                name=one.metadata.name,
                dataset=one.spec.dataset.name,
                settings=value_hash(one.spec.settings.to_json_dict()),
                phase=status.phase,
                completed=status.completion_time or "",
                report=ArtifactRef(uri=made.uri, digest=made.digest) if made is not None else None,
                metrics=status.metrics,
                pinned=model.digest is not None,
            )
        )
    return found


def _dataset(one: RecDataset) -> Dataset:
    made, source = one.status.artifact, one.status.source
    return Dataset(one.metadata.name, made.digest if made else None, source.newest if source else None)


def _trained_on(digest: str, look: Look) -> Dataset | None:
    inputs = next((one.spec.lineage.inputs for one in look.checkpoints if one.spec.digest == digest), {})
    data = [_dataset(one) for one in look.datasets]
    return next((one for one in data if one.digest is not None and one.digest == inputs.get("dataset")), None)


def _ahead(promotion: Promotion, others: Sequence[Promotion]) -> str:
    """Return what another Promotion to the same place is doing, if one has begun and not ended."""
    here = place(promotion.spec.target)
    for one in others:
        if one.metadata.uid == promotion.metadata.uid or is_finished(one.status) or one.status.begun is None:
            continue
        if place(one.spec.target).overlaps(here):
            request = one.status.pull_request
            does = f"has an open pull request ({request.url})" if request is not None else "is being committed"
            return f"Promotion {one.metadata.name} to the same place {does}"
    return ""


async def _environments(cluster: Cluster, policy: PromotionPolicy, look: Look) -> dict[str, Environment]:
    soak = policy.spec.requires.soak
    names = {policy.spec.after, (soak.environment or policy.spec.after) if soak is not None else None}
    return {
        one.metadata.name: await environment(cluster, one, look.promotions)
        for one in look.policies
        if one.metadata.name in names
    }


async def environment(cluster: Cluster, policy: PromotionPolicy, promotions: Sequence[Promotion]) -> Environment:
    """Return what is known of an environment."""
    name, namespace, serves = policy.metadata.name, policy.metadata.namespace, policy.spec.serves
    done = {
        one.status.digest
        for one in promotions
        if one.status.environment == name and one.status.phase is Phase.SUCCEEDED
    }
    known = Environment(name, frozenset(done | {row.digest for row in policy.status.promoted}))
    if serves is None:
        return known
    elsewhere = serves.namespace or namespace
    title = f"StarDeployment {serves.name}" + (f" in {elsewhere}" if elsewhere != namespace else "")
    body = await cluster.get(STAR_TYPES[StarDeployment.INFO.kind], elsewhere, serves.name)
    field_ = f"spec.serves of PromotionPolicy {name} names {title}"
    if elsewhere != namespace and (body is None or namespace not in observers(body)):
        text = (
            f"{field_}, which is not there or does not let us look: its annotation {OBSERVERS_ANNOTATION} has to name"
        )
        return Environment(name, known.promoted, title, fault=Fault(NOT_OBSERVABLE, f"{text} {namespace}"))
    if body is None:
        missing = Fault(ConditionReason.INPUT_MISSING, f"{field_}, which does not exist: create it or correct the name")
        return Environment(name, known.promoted, title, fault=missing)
    try:
        history = StarDeployment.parse(body).status.served
    except ValidationError:
        text = f"{field_}, which does not fit this operator's version; apply the CRDs of this version"
        return Environment(name, known.promoted, title, fault=Fault(ConditionReason.INVALID_SPEC, text))
    return Environment(name, known.promoted, title, history)


NOT_OBSERVABLE = ConditionReason.NOT_OBSERVABLE


def checkpoint_facts(found: Facts, look: Look) -> list[CheckpointFacts]:
    """Return what the commit can say of checkpoints: of the one that moves first, then of the newest."""
    ordered = sorted(look.checkpoints, key=lambda one: one.metadata.creation_timestamp, reverse=True)
    digests = dict.fromkeys([found.digest, *(one.spec.digest for one in ordered)])
    return [_facts_of(digest, found, look) for digest in list(digests)[:MAX_FACTS]]


def _facts_of(digest: str, found: Facts, look: Look) -> CheckpointFacts:
    record = next((one for one in look.checkpoints if one.spec.digest == digest), None)
    done = [one for one in _measured(digest, look) if one.phase is Phase.SUCCEEDED]
    last = max(done, key=lambda one: (one.pinned, one.completed, one.name), default=None)
    data = found.datasets.get(last.dataset) if last is not None else None
    lineage = record.spec.lineage if record is not None else None
    made = f"{lineage.producer_kind}/{lineage.producer_name}" if lineage is not None and lineage.producer_kind else ""
    return CheckpointFacts(
        digest=digest,
        name=record.metadata.name if record is not None else "",
        producer=made[:MAX_NAME],
        inputs={role: one for role, one in lineage.inputs.items() if len(role) <= MAX_NAME} if lineage else {},
        dataset=data.digest if data is not None else None,
        data_age_days=data_age_days(data, found.now),
        metrics=_figures(dict(last.metrics)) if last is not None else {},
    )


def _figures(metrics: dict[str, float]) -> dict[str, Figure]:
    names = [name for name in metrics if not name.endswith((LOW, HIGH)) and len(name) <= MAX_NAME]
    names.sort(key=lambda name: (name + LOW not in metrics, "." in name, name))
    return {
        name: Figure(value=metrics[name], low=metrics.get(name + LOW), high=metrics.get(name + HIGH))
        for name in names[:MAX_FIGURES]
    }
