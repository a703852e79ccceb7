"""One pass over a Promotion: what must hold -> its Job -> what that answered -> the pull request, followed.

What begins stands in status before there is a Job, with the requirements as they were; the Job's orders stand in a
ConfigMap before that. So an operator that dies between two writes finds where it was, and no Job is made twice. Before
each further Job it is decided once more: a commit of an earlier one is found by its trailer, and is not made again.
"""

import asyncio
from collections import defaultdict

from star_contracts.promotion import ReportClaim
from star_operator.api.meta import Condition, Phase
from star_operator.api.promotion import ApprovalStatus, Promotion, PromotionStatus
from star_operator.builders.hosts import require_git
from star_operator.builders.promotion import (
    PROMOTE,
    Proofs,
    orders,
    orders_digest,
    orders_map,
)
from star_operator.core.errors import InvalidSpec, Refused, Waiting
from star_operator.core.objects import KubeObject
from star_operator.core.queue import Key
from star_operator.core.reasons import ConditionReason
from star_operator.core.times import timestamp
from star_operator.kube.events import post_event
from star_operator.kube.resources import STAR_TYPES
from star_operator.policy import promotion as policy
from star_operator.policy.conditions import OVERRIDDEN, find, set_condition
from star_operator.policy.promotionfacts import Facts, Requirement
from star_operator.policy.promotionrules import approved, requirements, short
from star_operator.policy.status import Moment, is_finished, told
from star_operator.reconcilers.context import Context
from star_operator.reconcilers.inputs import checkpoint_of
from star_operator.reconcilers.parse import parse_or_tell
from star_operator.reconcilers.promotionfacts import checkpoint_facts, facts, look_at
from star_operator.reconcilers.promotionjobs import PromotionJobs, cancelled, failed, key_of
from star_operator.reconcilers.write import write_status

LOOK_SECONDS = 60.0
"""How often what waits is looked at, besides when something of its namespace changes."""


class PromotionReconciler:
    """Reconciles Promotions."""

    def __init__(self, context: Context) -> None:
        self._context = context
        self._cluster = context.cluster
        self._jobs = PromotionJobs(context)
        self._turns: defaultdict[str, asyncio.Lock] = defaultdict(asyncio.Lock)
        """By namespace: two Promotions to one place must not both find that nobody is ahead."""

    async def reconcile(self, key: Key) -> None:
        """Look at one Promotion and bring it one decision further."""
        async with self._turns[key.namespace]:
            await self._reconcile(key)

    async def _reconcile(self, key: Key) -> None:
        body = await self._cluster.get(STAR_TYPES[key.kind], key.namespace, key.name)
        if body is None or "deletionTimestamp" in body["metadata"]:
            return
        at = Moment(timestamp(self._context.now()), body["metadata"].get("generation", 0))
        promotion = await parse_or_tell(self._cluster, Promotion, body, at)
        if promotion is None or is_finished(promotion.status):
            return
        before = promotion.status
        try:
            status = await self._advance(promotion, at)
        except Waiting as waiting:
            self._context.waiting[key.namespace].add(key)
            self._context.queue.add_after(key, LOOK_SECONDS)
            status = told(before, at, Phase.WAITING, waiting.reason, waiting.message)
        except InvalidSpec as error:
            status = failed(before, at, error.reason, error.message)
        except Refused as refused:
            status = told(before, at, Phase.WAITING, refused.reason, refused.message)
            await write_status(self._cluster, body, status, at.now)
            raise
        status = _with_override(status, promotion, at)
        await self._tell(body, before, status, at.now)  # rather twice than never
        await write_status(self._cluster, body, status, at.now)
        if is_finished(status):
            self._context.wake_waiting(key.namespace)
        elif status.begun != before.begun:
            self._context.queue.add(key)

    async def _advance(self, promotion: Promotion, at: Moment) -> PromotionStatus:
        status = promotion.status
        if status.begun is not None or (promotion.spec.cancel and status.attempt > 0):
            return await self._jobs.go_on(promotion, at)
        if promotion.spec.cancel:
            return cancelled(promotion, status, at)
        require_git(promotion.spec, self._context.settings)  # before anybody waits for what will not happen
        status = await self._resolved(promotion, status, at)
        return await self._begin(promotion, status, at)

    async def _resolved(self, promotion: Promotion, status: PromotionStatus, at: Moment) -> PromotionStatus:
        """Return the status with the digest pinned: what a name stands for is decided once.

        Raises Waiting, or InvalidSpec(DigestMismatch) where the name has come to stand for another digest or uri.
        """
        asked = promotion.spec.checkpoint
        if asked.name is None:
            assert asked.uri is not None  # refused at admission otherwise
            assert asked.digest is not None
            return status.model_copy(
                update={"uri": asked.uri, "digest": asked.digest, "start_time": status.start_time or at.now}
            )
        found = await checkpoint_of(self._cluster, promotion.metadata.namespace, asked.name, "spec.checkpoint.name")
        if asked.digest is not None and found.spec.digest != asked.digest:
            text = f"spec.checkpoint.digest is {asked.digest}, but Checkpoint {asked.name} is {found.spec.digest}"
            raise InvalidSpec(ConditionReason.DIGEST_MISMATCH, f"{text}; create a Promotion with one of them corrected")
        if status.digest and found.spec.digest != status.digest:
            text = (
                f"Checkpoint {asked.name} was {status.digest} when this Promotion was seen first, and was created anew"
            )
            raise InvalidSpec(
                ConditionReason.DIGEST_MISMATCH,
                f"{text} as {found.spec.digest}; create a new Promotion to move that one",
            )
        if status.uri and found.spec.uri != status.uri:
            text = f"Checkpoint {asked.name} was at {status.uri} when this Promotion was seen first"
            raise InvalidSpec(
                ConditionReason.DIGEST_MISMATCH,
                f"{text}, and was created anew at {found.spec.uri}; create a new Promotion to move that one",
            )
        update = {"uri": found.spec.uri, "digest": found.spec.digest, "start_time": status.start_time or at.now}
        return status.model_copy(update=update)

    async def _begin(self, promotion: Promotion, status: PromotionStatus, at: Moment) -> PromotionStatus:
        """Look at what is required, and once all of it holds, write down what the Job will be told."""
        look = await look_at(self._cluster, promotion.metadata.namespace)
        found = await facts(self._context, promotion, status.digest, look)
        required = requirements(promotion.spec, found)
        status = status.model_copy(
            update={
                "environment": found.policy.metadata.name if found.policy is not None else "",
                "requirements": policy.told_requirements(required),
                "approvals": _seen(promotion, status, found, at),
            }
        )
        if promotion.spec.suspend:
            text = "spec.suspend is true; set it to false to go on"
            return told(status, at, Phase.SUSPENDED, ConditionReason.SUSPENDED, text)
        decision = policy.decide(required, found.now.timestamp())
        if isinstance(decision, policy.Hold):
            self._context.queue.add_after(key_of(promotion), min(decision.seconds or LOOK_SECONDS, LOOK_SECONDS))
            return told(status, at, decision.phase, decision.reason, decision.message)
        proofs = Proofs(checkpoint_facts(found, look), _claims(required))
        await self._jobs.require(promotion, reads_store=bool(status.environment))
        wish = orders(promotion, status, PROMOTE, proofs, self._context.settings)
        await self._cluster.apply(orders_map(promotion, wish, PROMOTE, self._context.settings))
        begun = status.model_copy(
            update={"begun": at.now, "attempt": max(1, status.attempt), "orders": orders_digest(wish)}
        )
        text = "all that is required holds: the commit is being made"
        return told(begun, at, Phase.RUNNING, ConditionReason.COMMITTING, text)

    async def _tell(self, body: KubeObject, before: PromotionStatus, status: PromotionStatus, now: str) -> None:
        """Tell of each approval, and of an override, when it is seen first."""
        known = {(one.user, one.digest) for one in before.approvals}
        for one in status.approvals:
            if (one.user, one.digest) not in known:
                text = f"{one.user} approved {short(one.digest)}"
                await post_event(self._cluster, body, ConditionReason.APPROVED, text, now)
        shouted = find(status.conditions, OVERRIDDEN)
        if shouted is not None and find(before.conditions, OVERRIDDEN) is None:
            await post_event(self._cluster, body, ConditionReason.OVERRIDDEN, shouted.message, now)


def _seen(promotion: Promotion, status: PromotionStatus, found: Facts, at: Moment) -> tuple[ApprovalStatus, ...]:
    """Return the approvals that count, each with the time at which it was seen first."""
    if not found.guarded:
        return ()
    before = {(one.user, one.digest): one.seen for one in status.approvals}
    given = promotion.spec.approvals
    count = approved(given, found.policy.spec, found.digest) if found.policy is not None else given
    return tuple(
        ApprovalStatus(user=one.user, digest=one.digest, seen=before.get((one.user, one.digest), at.now))
        for one in count
        if one.digest == found.digest
    )


def _claims(required: tuple[Requirement, ...]) -> list[ReportClaim]:
    return [claim for one in required for claim in one.claims]


def _with_override(status: PromotionStatus, promotion: Promotion, at: Moment) -> PromotionStatus:
    """Return the status with the condition that shouts what is done without."""
    without, override = policy.overridden(status.requirements), promotion.spec.override
    if not without or override is None:
        return status
    text = f"{override.user} decided to do without {', '.join(without)}: {override.reason}"
    condition = Condition(
        type=OVERRIDDEN,
        status="True",
        reason=ConditionReason.OVERRIDDEN,
        message=text[:4096],
        observed_generation=at.generation,
    )
    return status.model_copy(update={"conditions": set_condition(status.conditions, condition, at.now)})
