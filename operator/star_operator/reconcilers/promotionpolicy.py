"""One pass over a PromotionPolicy: what was promoted, what `auto` makes, what is superseded, and what is forgotten."""

from pydantic import ValidationError

from star_operator.api.meta import Phase
from star_operator.api.promotion import Promotion
from star_operator.api.promotionpolicy import PromotionPolicy, PromotionPolicyStatus
from star_operator.api.starpipeline import StarPipeline
from star_operator.builders.promotion import automatic, is_automatic
from star_operator.core.errors import InvalidSpec, Refused, Retryable
from star_operator.core.labels import SUPERSEDED_ANNOTATION
from star_operator.core.objects import KubeObject
from star_operator.core.queue import Key
from star_operator.core.reasons import ConditionReason
from star_operator.core.times import timestamp
from star_operator.kube.events import post_event
from star_operator.kube.resources import STAR_TYPES
from star_operator.policy import promotion as policy
from star_operator.policy.promotionfacts import Environment
from star_operator.policy.promotionplace import fault, governing
from star_operator.policy.promotionrules import short
from star_operator.policy.served import ALL
from star_operator.policy.status import Moment, told
from star_operator.reconcilers.context import Context
from star_operator.reconcilers.parse import parse_or_tell
from star_operator.reconcilers.promotionfacts import Look, environment, look_at
from star_operator.reconcilers.write import write_status

LOOK_SECONDS = 60.0
EXISTS = "AlreadyExists"
PROMOTION = STAR_TYPES[Promotion.INFO.kind]


class PromotionPolicyReconciler:
    """Reconciles PromotionPolicies."""

    def __init__(self, context: Context) -> None:
        self._context = context
        self._cluster = context.cluster

    async def reconcile(self, key: Key) -> None:
        """Look at one environment."""
        body = await self._cluster.get(STAR_TYPES[key.kind], key.namespace, key.name)
        if body is None or "deletionTimestamp" in body["metadata"]:
            return
        at = Moment(timestamp(self._context.now()), body["metadata"].get("generation", 0))
        resource = await parse_or_tell(self._cluster, PromotionPolicy, body, at)
        if resource is None:
            return
        try:
            status = await self._advance(resource, body, at)
        except Refused as refused:
            status = told(resource.status, at, Phase.WAITING, refused.reason, refused.message)
            await write_status(self._cluster, body, status, at.now)
            raise
        await write_status(self._cluster, body, status, at.now)

    async def _advance(self, resource: PromotionPolicy, body: KubeObject, at: Moment) -> PromotionPolicyStatus:
        look = await look_at(self._cluster, resource.metadata.namespace)
        here = [one for one in look.promotions if resource in governing(one.spec.target, [resource])]
        seen = [_seen(one, resource) for one in here]
        wrong = fault(resource, look.policies)
        promoted = policy.promoted(resource.status.promoted, seen)
        status = resource.status.model_copy(
            update={
                "promoted": promoted,
                "standing": promoted[0].digest if promoted else "",
                "waiting": sum(not one.ended and not one.begun for one in seen),
                "running": sum(not one.ended and one.begun for one in seen),
            }
        )
        if wrong is not None:
            return told(status, at, Phase.DEGRADED, wrong.reason, wrong.message)
        status = await self._automatic(resource, body, status, look, seen, at)
        await self._supersede(resource, seen)
        for one in policy.outdated(resource.spec, seen):
            await self._cluster.delete(PROMOTION, resource.metadata.namespace, one.name)
        return told(status, at, Phase.READY, ConditionReason.GOVERNING, _summed_up(resource, status))

    async def _automatic(
        self,
        resource: PromotionPolicy,
        body: KubeObject,
        status: PromotionPolicyStatus,
        look: Look,
        seen: list[policy.Seen],
        at: Moment,
    ) -> PromotionPolicyStatus:
        """Make the Promotion whose turn it is. It is made before that is written down, under a name that it keeps."""
        spec, meta = resource.spec, resource.metadata
        if not spec.auto:
            return status
        self._context.queue.add_after(Key(resource.kind, meta.namespace, meta.name), LOOK_SECONDS)
        found = policy.auto(spec, await self._candidate(resource, look), seen, status.made, status.standing)
        if found is None or (spec.hold is not None and spec.hold.digest != found.digest):
            return status
        named = {"name": found.name} if found.name else {"uri": found.uri}
        wish = automatic(resource, found.digest, {**named, "digest": found.digest})
        try:
            await self._cluster.create(wish)
        except Retryable as error:
            if error.reason != EXISTS:
                raise
        except InvalidSpec as error:
            await post_event(self._cluster, body, error.reason, f"no Promotion could be made: {error.message}", at.now)
            return status
        return status.model_copy(update={"made": policy.with_made(status.made, found.digest)})

    async def _candidate(self, resource: PromotionPolicy, look: Look) -> policy.Candidate | None:
        """Return the digest that could move here: what the series made last, or what arrived before."""
        spec, namespace = resource.spec, resource.metadata.namespace
        if spec.from_ is not None:
            bodies = await self._cluster.list_objects(STAR_TYPES[StarPipeline.INFO.kind], namespace)
            return _newest([one for one in bodies if _series(one) == spec.from_.series])
        before = next((one for one in look.policies if one.metadata.name == spec.after), None)
        if before is None:
            return None
        digest = _arrived(before, await environment(self._cluster, before, look.promotions))
        record = next((one for one in look.checkpoints if one.spec.digest == digest), None)
        if record is not None:
            return policy.Candidate(record.spec.digest, name=record.metadata.name)
        uri = next((one.status.uri for one in look.promotions if digest and one.status.digest == digest), "")
        return policy.Candidate(digest, uri=uri) if uri else None

    async def _supersede(self, resource: PromotionPolicy, seen: list[policy.Seen]) -> None:
        done = [one for one in seen if one.phase is Phase.SUCCEEDED]
        for one in policy.superseded(seen):
            later = max(done, key=lambda other: other.created).name
            patch = {"metadata": {"annotations": {SUPERSEDED_ANNOTATION: later}}, "spec": {"cancel": True}}
            await self._cluster.merge(PROMOTION, resource.metadata.namespace, one.name, patch)


def _seen(one: Promotion, resource: PromotionPolicy) -> policy.Seen:
    meta, status = one.metadata, one.status
    return policy.Seen(
        name=meta.name,
        uid=meta.uid,
        created=meta.creation_timestamp,
        digest=status.digest or one.spec.checkpoint.digest or "",
        phase=status.phase,
        begun=status.begun is not None,
        cancelled=one.spec.cancel,
        automatic=is_automatic(one, resource),
        commit=status.commit,
        completed=status.completion_time or "",
    )


def _series(body: KubeObject) -> str:
    return str(body["spec"].get("series") or body["metadata"]["name"])


def _newest(bodies: list[KubeObject]) -> policy.Candidate | None:
    """Return what the pipeline made that succeeded last."""
    found: list[tuple[str, policy.Candidate]] = []
    for body in bodies:
        try:
            status = StarPipeline.parse(body).status
        except ValidationError:  # its own condition says so
            continue
        if status.phase is Phase.SUCCEEDED and status.checkpoint is not None:
            made = status.checkpoint
            uri = "" if made.checkpoint else made.uri
            found.append((status.completion_time or "", policy.Candidate(made.digest, made.checkpoint, uri)))
    return max(found, key=lambda one: one[0])[1] if found else None


def _arrived(before: PromotionPolicy, known: Environment) -> str:
    """Return the digest that stands in an environment: what serves there alone, or what was promoted there last."""
    if known.serves:
        return next((row.digest for row in known.history if row.serving and row.weight == ALL), "")
    return before.status.promoted[0].digest if before.status.promoted else ""


def _summed_up(resource: PromotionPolicy, status: PromotionPolicyStatus) -> str:
    stands = f"{short(status.standing)} was promoted last" if status.standing else "nothing was promoted yet"
    hold = resource.spec.hold
    held = f"; held at {short(hold.digest)}: {hold.reason}" if hold is not None else ""
    return f"{stands}; {status.waiting} wait, {status.running} run{held}"
