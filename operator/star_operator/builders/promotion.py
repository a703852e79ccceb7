"""Promotion -> the Job that commits, or looks at a pull request once: a ConfigMap with its orders, and a pod with Git.

The Secret of the Git credentials is mounted as files, in the tenant's own namespace; nobody else reads it. What the Job
is told stands in the ConfigMap, which is written before the Job: a later change of policies or facts changes neither.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from star_contracts.base import canonical_json, value_hash
from star_contracts.promotion import (
    GIT_DIR,
    PROMOTION_DIGEST_ENV,
    PROMOTION_SPEC_PATH,
    ApprovalFact,
    CheckpointFacts,
    GateFact,
    OverrideFact,
    PromotionAction,
    PromotionIdentity,
    PromotionSpec,
    PromotionTarget,
    PullRequestRef,
    ReportClaim,
)
from star_operator.api.common import Compute
from star_operator.api.meta import API_VERSION
from star_operator.api.promotion import Delivery, Promotion, PromotionStatus, RequirementState
from star_operator.api.promotionpolicy import PromotionPolicy
from star_operator.builders.hosts import require_git
from star_operator.builders.job import failure_rules
from star_operator.builders.names import child_name, dns_label, labels, owner_reference
from star_operator.builders.pod import Container, PodPlan, ca_files, pod_template
from star_operator.builders.step import Owner
from star_operator.core.objects import KubeObject, compact
from star_operator.core.settings import Settings
from star_operator.core.times import parse_timestamp

PROMOTE, FOLLOW, CLOSE = "promote", "follow", "close"
ACTIONS = {PROMOTE: PromotionAction.PROMOTE, FOLLOW: PromotionAction.FOLLOW, CLOSE: PromotionAction.CLOSE}
ORDERS_FILE = PROMOTION_SPEC_PATH.rpartition("/")[2]
GRACE_SECONDS = 60
START_SECONDS = 600
"""Beyond the Job's own limit: to pull the image, and to be scheduled."""
MAX_FACTS = 64


@dataclass(frozen=True)
class Proofs:
    """What the commit says, and what is verified before."""

    facts: Sequence[CheckpointFacts] = ()
    """Of this checkpoint first."""
    claims: Sequence[ReportClaim] = ()


def deadline_seconds(delivery: Delivery) -> int:
    """Return how long a Job may take."""
    return delivery.limits.seconds + START_SECONDS


def owner_of(promotion: Promotion) -> Owner:
    """Return whose the Jobs are."""
    meta = promotion.metadata
    return Owner(promotion.kind, meta.namespace, meta.name, meta.uid)


def orders(
    promotion: Promotion, status: PromotionStatus, step: str, proofs: Proofs, settings: Settings
) -> PromotionSpec:
    """Return what a step's Job is told. The approvals and requirements are those in status, where they were fixed."""
    spec, meta, request = promotion.spec, promotion.metadata, status.pull_request
    comments = {one.user: one.comment or "" for one in spec.approvals}
    overridden = any(one.state is RequirementState.OVERRIDDEN for one in status.requirements)
    return PromotionSpec(
        action=ACTIONS[step],
        mode=spec.mode,
        promotion=PromotionIdentity(namespace=meta.namespace, name=meta.name, uid=meta.uid),
        created=parse_timestamp(meta.creation_timestamp) if meta.creation_timestamp else None,
        target=PromotionTarget.model_validate(spec.target.model_dump()),
        uri=status.uri,
        digest=status.digest,
        environment=status.environment,
        facts=tuple(proofs.facts[:MAX_FACTS]),
        gates=tuple(
            GateFact(name=one.name, met=one.state is RequirementState.MET, message=one.message)
            for one in status.requirements
        ),
        approvals=tuple(
            ApprovalFact(
                user=one.user, seen=parse_timestamp(one.seen) if one.seen else None, comment=comments.get(one.user, "")
            )
            for one in status.approvals
            if one.digest == status.digest
        ),
        override=OverrideFact(user=spec.override.user, reason=spec.override.reason)
        if spec.override is not None and overridden
        else None,
        store=settings.store.connection if step == PROMOTE and status.environment else None,
        reports=tuple(_merged(proofs.claims)),
        author=spec.git.author,
        signing=spec.git.signing,
        forge=spec.git.forge,
        pull_request=PullRequestRef(number=request.number, url=request.url) if request is not None else None,
        reason="the Promotion was cancelled" if step == CLOSE else "",
        limits=spec.limits,
    )


def orders_digest(told: PromotionSpec) -> str:
    """Return the digest of the file that a Job is told by, as `orders_map` writes it."""
    return value_hash(told.to_json_dict())


def _merged(claims: Sequence[ReportClaim]) -> list[ReportClaim]:
    """Return one claim for each report, with all figures that were held against rules."""
    found: dict[str, ReportClaim] = {}
    for one in claims:
        before = found.get(one.report.digest)
        figures = {**before.metrics, **one.metrics} if before is not None else one.metrics
        found[one.report.digest] = one.model_copy(update={"metrics": figures})
    return list(found.values())


def orders_name(promotion: Promotion, step: str) -> str:
    """Return the name of the ConfigMap with a step's orders, which all its tries share."""
    return child_name(owner_of(promotion), None, step)


def orders_map(promotion: Promotion, told: PromotionSpec, step: str, settings: Settings) -> KubeObject:
    """Return the ConfigMap with a step's orders."""
    meta = _meta(owner_of(promotion), step, None)
    data = {ORDERS_FILE: canonical_json(told.to_json_dict()).decode(), **ca_files(settings)}
    obj: KubeObject = compact({"apiVersion": "v1", "kind": "ConfigMap", "metadata": meta, "data": data})
    return obj


def _meta(owner: Owner, step: str, number: int | None) -> KubeObject:
    return {
        "namespace": owner.namespace,
        "name": child_name(owner, number, step),
        "labels": labels(owner, step, number),
        "ownerReferences": [owner_reference(owner)],
    }


def promotion_job(
    promotion: Promotion, step: str, number: int, settings: Settings, *, digest: str, reads_store: bool
) -> KubeObject:
    """Return the Job of one try of a step; `reads_store` says that it looks there at checkpoint and reports.

    `digest` is that of its orders: it refuses others.

    Raises InvalidSpec: unknown pool, a pool without images, or a host that must not be called.
    """
    owner, spec = owner_of(promotion), promotion.spec
    require_git(spec, settings)
    meta = _meta(owner, step, number)
    env = {"STAR_PROMOTION_SPEC": PROMOTION_SPEC_PATH, **({PROMOTION_DIGEST_ENV: digest} if digest else {})}
    plan = PodPlan(
        main=Container(role="git", command=("star-job",), args=("promote",), env=env, store_access=reads_store),
        compute=Compute(pool=spec.pool, pod_template=spec.pod_template),
        labels=meta["labels"],
        config_map=orders_name(promotion, step),
        pool_field="spec.pool",
        secrets={GIT_DIR: spec.git.secret_ref.name},
        outside=True,
        restart_policy="Never",
        grace_seconds=GRACE_SECONDS,
    )
    job: KubeObject = {
        "apiVersion": "batch/v1",
        "kind": "Job",
        "metadata": meta,
        "spec": {
            "backoffLimit": 0,
            "suspend": False,
            "activeDeadlineSeconds": deadline_seconds(spec),
            "podReplacementPolicy": "Failed",
            "podFailurePolicy": {"rules": failure_rules()},
            "template": pod_template(plan, settings),
        },
    }
    made: KubeObject = compact(job)
    return made


def automatic(policy: PromotionPolicy, digest: str, checkpoint: KubeObject) -> KubeObject:
    """Return the Promotion that `auto` makes of a digest; its name says which, so that it is made once.

    `checkpoint` is the Promotion's `spec.checkpoint`.
    """
    meta = policy.metadata
    obj: KubeObject = compact(
        {
            "apiVersion": API_VERSION,
            "kind": Promotion.INFO.kind,
            "metadata": {
                "namespace": meta.namespace,
                "name": automatic_name(meta.name, digest),
                "labels": _automatic_labels(policy),
            },
            "spec": {**template(policy), "checkpoint": checkpoint},
        }
    )
    return obj


def is_automatic(promotion: Promotion, policy: PromotionPolicy) -> bool:
    """Say whether a policy's `auto` made a Promotion."""
    return _automatic_labels(policy).items() <= promotion.metadata.labels.items()


def _automatic_labels(policy: PromotionPolicy) -> dict[str, str]:
    meta = policy.metadata
    return labels(Owner(policy.kind, meta.namespace, meta.name, meta.uid))


def automatic_name(policy: str, digest: str) -> str:
    """Return the name of an automatic Promotion."""
    return dns_label(f"{policy}-{digest.removeprefix('sha256:')[:12]}", 63)


def template(policy: PromotionPolicy) -> KubeObject:
    """Return the part of a Promotion's spec that its environment says."""
    given = policy.spec.to_json_dict()
    fields = [one.alias or name for name, one in Delivery.model_fields.items()]
    return {**{name: given[name] for name in fields if name in given}, "environment": policy.metadata.name}
