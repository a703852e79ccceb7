"""Checkpoint: collects the verdicts of the evaluations that measured it, and has its proof written."""

from pydantic import ValidationError

from star_contracts.artifact import ArtifactRef
from star_contracts.proofs import Measured
from star_operator.api.checkpoint import Checkpoint, CheckpointStatus, Verdict
from star_operator.api.evaluation import Evaluation
from star_operator.api.meta import Phase
from star_operator.core.errors import Refused, StarError
from star_operator.core.objects import KubeObject
from star_operator.core.queue import Key
from star_operator.core.reasons import ConditionReason
from star_operator.core.times import timestamp
from star_operator.kube.cluster import Cluster
from star_operator.kube.indexes import DIGEST, MEASURED
from star_operator.kube.resources import STAR_TYPES
from star_operator.policy.status import Moment, told
from star_operator.reconcilers.context import Context
from star_operator.reconcilers.parse import parse_or_tell
from star_operator.reconcilers.proofs import leave, with_proof
from star_operator.reconcilers.write import write_status


class CheckpointReconciler:
    """Reconciles Checkpoints."""

    def __init__(self, context: Context) -> None:
        self._context = context

    async def reconcile(self, key: Key) -> None:
        """Write what the namespace's evaluations say of this checkpoint, and see to its proof."""
        cluster = self._context.cluster
        body = await cluster.get(STAR_TYPES[key.kind], key.namespace, key.name)
        if body is None or "deletionTimestamp" in body["metadata"]:
            leave(self._context, key)
            return
        at = Moment(timestamp(self._context.now()), body["metadata"].get("generation", 0))
        checkpoint = await parse_or_tell(cluster, Checkpoint, body, at)
        if checkpoint is None:
            leave(self._context, key)
            return
        verdicts, reports = [], []
        try:
            evaluations = await _evaluations(cluster, checkpoint)
        except Refused as refused:
            unseen: CheckpointStatus = told(checkpoint.status, at, Phase.WAITING, refused.reason, refused.message)
            await write_status(cluster, body, unseen, at.now)
            raise
        for item in evaluations:
            try:
                evaluation = Evaluation.parse(item)
            except ValidationError:  # its own condition says so
                continue
            if evaluation.status.phase is Phase.SUCCEEDED and _measures(evaluation, checkpoint):
                artifact = evaluation.status.artifact
                report = artifact.digest if artifact else None
                if artifact is not None:
                    ref = ArtifactRef(uri=artifact.uri, digest=artifact.digest)
                    reports.append(Measured(evaluation=evaluation.metadata.name, report=ref))
                verdicts.append(
                    Verdict(evaluation=evaluation.metadata.name, metrics=evaluation.status.metrics, report=report)
                )
        status: CheckpointStatus = told(
            checkpoint.status, at, Phase.READY, ConditionReason.READY, "the record is usable"
        )
        best = max((v.metrics["hrAvg"] for v in verdicts if "hrAvg" in v.metrics), default=None)
        update = {
            "verdicts": tuple(sorted(verdicts, key=lambda verdict: verdict.evaluation)),
            "headline": "" if best is None else f"hrAvg {best:.3f}",
        }
        first = checkpoint.status.phase is not Phase.READY
        status = status.model_copy(update=update)
        try:
            proven = await with_proof(self._context, checkpoint, status, reports, at)
        except StarError:  # a record is usable without a proof
            await self._write(body, status, at, first=first)
            raise
        await self._write(body, proven, at, first=first)

    async def _write(self, body: KubeObject, status: CheckpointStatus, at: Moment, *, first: bool) -> None:
        await write_status(self._context.cluster, body, status, at.now)
        if first:
            self._context.wake_waiting(body["metadata"]["namespace"])


def _measures(evaluation: Evaluation, checkpoint: Checkpoint) -> bool:
    server = evaluation.spec.llm.server if evaluation.spec.llm else None
    if server is None:
        return False
    pinned = next((row.digest for row in evaluation.status.inputs if row.role == "llm"), None)
    if pinned is not None:
        return pinned == checkpoint.spec.digest
    return checkpoint.metadata.name == server.model.checkpoint or checkpoint.spec.digest == server.model.digest


async def _evaluations(cluster: Cluster, checkpoint: Checkpoint) -> list[KubeObject]:
    """Return the Evaluations that ask for a checkpoint by its name or by its digest, or have been given its digest."""
    rtype, meta = STAR_TYPES[Evaluation.INFO.kind], checkpoint.metadata
    by_name = await cluster.list_by(rtype, meta.namespace, MEASURED, meta.name)
    by_digest = await cluster.list_by(rtype, meta.namespace, DIGEST, checkpoint.spec.digest)
    return list({one["metadata"]["uid"]: one for one in (*by_name, *by_digest)}.values())
