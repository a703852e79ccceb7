"""One pass over a StarPipeline: look at its stages' resources -> decide -> make what lacks -> write status once."""

from dataclasses import replace
from typing import Any

from pydantic import ValidationError

from star_operator.api.chain import INFO, MODEL, STAGES, TRAINING, PlannedStage, StageName
from star_operator.api.checkpoint import Checkpoint
from star_operator.api.kinds import BY_KIND
from star_operator.api.meta import Phase, Resource, Status
from star_operator.api.stardeployment import StarDeployment
from star_operator.api.starpipeline import BaseModelChoice, PinnedModel, StarPipeline, StarPipelineStatus
from star_operator.builders.starpipeline import child, deployment, deployment_name, plan, series_of
from star_operator.core.errors import InvalidSpec, Refused
from star_operator.core.labels import LABEL_SERIES, LABEL_VARIANT, RETRY_ANNOTATION, TRY_ANNOTATION, label_value
from star_operator.core.objects import KubeObject
from star_operator.core.queue import Key
from star_operator.core.reasons import AnyReason, ConditionReason, known_reason
from star_operator.core.times import timestamp
from star_operator.kube.resources import STAR_TYPES
from star_operator.policy import pipeline as policy
from star_operator.policy.conditions import READY, find
from star_operator.policy.status import Moment, is_finished, seen_again, told
from star_operator.reconcilers.aside import is_set_aside
from star_operator.reconcilers.context import UNWATCHED_SECONDS, Context
from star_operator.reconcilers.parse import parse_or_tell
from star_operator.reconcilers.write import write_status

DEPLOYMENT = INFO[StageName.DEPLOYMENT].kind
CONTINUED = {StageName.VERBALIZATION: "previous", StageName.TEACHER: "previous_teacher"}
"""Stages that take over from the series' last run, and the field of the status that names it."""
OF_VARIANTS = "previous_of_variants"


class StarPipelineReconciler:
    """Reconciles StarPipelines."""

    def __init__(self, context: Context) -> None:
        self._context = context
        self._cluster = context.cluster

    async def reconcile(self, key: Key) -> None:
        """Look at one pipeline and bring it one decision further."""
        body = await self._cluster.get(STAR_TYPES[key.kind], key.namespace, key.name)
        if body is None or "deletionTimestamp" in body["metadata"]:
            return
        at = Moment(timestamp(self._context.now()), body["metadata"].get("generation", 0))
        pipeline = await parse_or_tell(self._cluster, StarPipeline, body, at)
        if pipeline is None:
            return
        asked = pipeline.metadata.annotations.get(RETRY_ANNOTATION, "")
        if is_finished(pipeline.status) and not asked and not pipeline.status.retrying:
            await write_status(self._cluster, body, seen_again(pipeline.status, at), at.now)
            return
        if (asked or pipeline.status.phase is Phase.SUSPENDED) and await is_set_aside(self._cluster, pipeline):
            pipeline = pipeline.model_copy(update={"spec": pipeline.spec.model_copy(update={"suspend": True})})
        try:
            status = self._retried(pipeline, asked, at) or await self._advance(pipeline, at)
        except InvalidSpec as error:
            status = _failed(pipeline.status, at, error.reason, error.message)
        except Refused as refused:
            status = told(pipeline.status, at, Phase.WAITING, refused.reason, refused.message)
            await write_status(self._cluster, body, status, at.now)
            raise
        await write_status(self._cluster, body, status, at.now)
        if asked and (status.retrying == asked or is_finished(status)):  # what has ended has nothing to wait for
            patch = {"metadata": {"annotations": {RETRY_ANNOTATION: None}}}
            await self._cluster.merge(STAR_TYPES[key.kind], key.namespace, key.name, patch)
        if is_finished(status):
            self._context.wake_waiting(key.namespace)

    def _retried(self, pipeline: StarPipeline, asked: str, at: Moment) -> StarPipelineStatus | None:
        """Begin anew from the stage that the annotation names, once: what was begun stands in status until it is gone.

        None when there is nothing of that kind to do.
        """
        status = pipeline.status
        if status.retrying:
            return status if asked == status.retrying else status.model_copy(update={"retrying": ""})
        if not asked:
            return None
        if asked not in [str(stage) for stage in STAGES] or pipeline.spec.stage(StageName(asked)) is None:
            there = ", ".join(stage for stage in STAGES if pipeline.spec.stage(stage) is not None)
            text = f"annotation {RETRY_ANNOTATION} names stage {asked!r}; this pipeline has {there}: name one of them"
            return told(status, at, status.phase, ConditionReason.UNKNOWN_STAGE, text)
        if pipeline.spec.cancel:
            text = "a cancelled pipeline is not retried: create a new one, which reuses what was done"
            return told(status, at, status.phase, ConditionReason.CANCELLED, text)
        begun = policy.retried(status, StageName(asked), asked)
        if pipeline.spec.suspend:
            return told(begun, at, Phase.SUSPENDED, ConditionReason.SUSPENDED, f"begins anew from stage {asked} later")
        return told(begun, at, Phase.RUNNING, ConditionReason.STARTING, f"begun anew from stage {asked}")

    async def _advance(self, pipeline: StarPipeline, at: Moment) -> StarPipelineStatus:
        status = pipeline.status
        if not status.resolved:  # written down before anything is made of it: a later look may find another
            found = await self._resolve(pipeline)
            status = status.model_copy(update={**found, "resolved": True, "start_time": at.now})
            return told(status, at, Phase.RUNNING, ConditionReason.STARTING, "the stages are about to be made")
        rows = plan(pipeline)
        seen = {row.row: one for row in rows.rows if (one := await self._look(pipeline, row)) is not None}
        decision = policy.decide(pipeline.spec, rows, seen, status, self._context.now())
        for row in decision.delete:
            await self._delete(pipeline, row, seen[row.row])
        for row in reversed(decision.make):  # one that is refused is so before what it would work on has begun
            tries = next((one.tries for one in status.stages if one.name == row.row), 1)
            await self._cluster.apply(child(pipeline, row, tries))
        for row in decision.suspend:
            patch = {"spec": {"suspend": pipeline.spec.suspend}}
            await self._cluster.merge(STAR_TYPES[row.kind], pipeline.metadata.namespace, row.name, patch)
        status, phase, reason, message = decision.status, decision.phase, decision.reason, decision.message
        name = deployment_name(pipeline)
        if decision.chosen is not None and name is not None:
            model = _deployable(status.checkpoint)
            told_to = await self._deploy(pipeline, name, rows.chains[decision.chosen], model)
            status, phase, reason, message = policy.deployed(status, name, model, told_to)
        elif decision.chosen is not None:
            phase, reason = Phase.SUCCEEDED, ConditionReason.SUCCEEDED
        if phase is Phase.FAILED:
            return _failed(status, at, reason, message)
        if phase is Phase.SUCCEEDED:
            return self._done(status, at, message)
        if name is not None or not all(row.made for row in rows.rows):
            self._context.queue.add_after(_key(pipeline), UNWATCHED_SECONDS)
        return told(status, at, phase, reason, message)

    async def _resolve(self, pipeline: StarPipeline) -> dict[str, Any]:
        """Return what a run starts from: the incumbent, where it is asked for, and the last of the series."""
        cluster, namespace, name = self._cluster, pipeline.metadata.namespace, deployment_name(pipeline)
        found: dict[str, Any] = {}
        if pipeline.spec.base_model is BaseModelChoice.INCUMBENT and name is not None:
            body = await cluster.get(STAR_TYPES[DEPLOYMENT], namespace, name)
            found["incumbent"] = _serving(StarDeployment.parse(body)) if body is not None else None
        rows = [row for row in plan(pipeline).rows if row.made]
        for stage, field in CONTINUED.items():
            made = [row for row in rows if row.stage is stage]
            if made:
                found |= await self._previous(pipeline, made, field, found.get(OF_VARIANTS, {}))
        return found

    async def _previous(
        self, pipeline: StarPipeline, rows: list[PlannedStage], field: str, known: dict[str, str]
    ) -> dict[str, Any]:
        """Return what rows of one stage take over from: the last one of their variant, or of what all shared."""
        labels = {LABEL_SERIES: label_value(series_of(pipeline))}
        kind = rows[0].kind
        listed = await self._cluster.list_objects(STAR_TYPES[kind], pipeline.metadata.namespace, labels)
        of: dict[str, list[KubeObject]] = {}
        for body in listed:
            if not _is_ours(body, pipeline):
                of.setdefault(body["metadata"]["labels"].get(LABEL_VARIANT, ""), []).append(body)
        last = {variant: _newest(BY_KIND[kind], bodies) for variant, bodies in of.items()}
        shared = last.get("", "")
        own = {row.row: last.get(row.variant) or shared for row in rows if row.variant}
        found: dict[str, Any] = {OF_VARIANTS: {**known, **{row: name for row, name in own.items() if name}}}
        return found | ({field: shared} if len(own) < len(rows) else {})

    async def _look(self, pipeline: StarPipeline, row: PlannedStage) -> policy.Seen | None:
        """Look at a row's resource; None where one that is to be made is not there."""
        if row.kind == MODEL:
            model = PinnedModel(uri=row.name, digest=row.digest) if row.digest is not None else None
            return policy.Seen("", ours=True, phase=Phase.SUCCEEDED, model=model, message=f"{row.name} is used")
        body = await self._cluster.get(STAR_TYPES[row.kind], pipeline.metadata.namespace, row.name)
        if body is not None:
            return _seen(body, row, pipeline)
        if row.made:
            return None
        text = f"spec.{row.stage}.use names {row.kind} {row.name}, which does not exist in this namespace"
        message = f"{text}; create it or correct the name"
        return policy.Seen("", ours=True, phase=Phase.WAITING, reason=ConditionReason.INPUT_MISSING, message=message)

    async def _delete(self, pipeline: StarPipeline, row: PlannedStage, seen: policy.Seen) -> None:
        """Delete a row's resource, and the Checkpoint that it made where nothing serves that."""
        cluster, namespace = self._cluster, pipeline.metadata.namespace
        if row.stage in TRAINING and not pipeline.spec.cancel:
            body = await cluster.get(STAR_TYPES["Checkpoint"], namespace, row.name)
            if body is not None and body["spec"].get("lineage", {}).get("producerUid") == seen.uid:
                users = await cluster.list_objects(STAR_TYPES[DEPLOYMENT], namespace)
                if not any(user["spec"]["checkpoint"].get("checkpoint") == row.name for user in users):
                    await cluster.delete(STAR_TYPES["Checkpoint"], namespace, row.name)
        await cluster.delete(STAR_TYPES[row.kind], namespace, row.name, foreground=True)

    async def _deploy(
        self, pipeline: StarPipeline, name: str, chain: tuple[PlannedStage, ...], model: PinnedModel
    ) -> policy.Seen:
        """Tell the deployment to serve the model, once, and return what it says.

        Raises InvalidSpec when it is somebody else's.
        """
        cluster, namespace, rtype = self._cluster, pipeline.metadata.namespace, STAR_TYPES[DEPLOYMENT]
        stage, wish = pipeline.spec.deployment, deployment(pipeline, chain, model)
        assert stage is not None
        body = await cluster.get(rtype, namespace, name)
        moved = policy.is_told(pipeline.status)
        if body is None and stage.template is None:
            text = f"spec.deployment.use names StarDeployment {name}, which does not exist; create it, or give template"
            raise InvalidSpec(ConditionReason.INPUT_MISSING, text)
        if body is not None and stage.template is not None and not _of_the_series(body, pipeline):
            text = f"StarDeployment {name} is there and is not of series {series_of(pipeline)}: set deployment.use.name"
            raise InvalidSpec(ConditionReason.NAME_TAKEN, f"{text} to move it, or deployment.name to make another one")
        if not moved or body is None:
            if stage.template is not None:
                if body is not None and _is_scaled(body):  # its copies are whoever's scales it
                    wish["spec"]["server"]["replicas"] = body["spec"]["server"]["replicas"]
                body = await cluster.apply(wish)
            else:
                body = await cluster.merge(rtype, namespace, name, {"spec": wish["spec"]}) or body
        assert body is not None
        row = PlannedStage(StageName.DEPLOYMENT, "", DEPLOYMENT, name)
        seen = _seen(body, row, pipeline)
        behind = body.get("status", {}).get("observedGeneration", 0) < body["metadata"].get("generation", 0)
        phase = Phase.RUNNING if behind else seen.phase
        return replace(seen, phase=phase, digest=body["spec"]["checkpoint"].get("digest", ""))

    def _done(self, status: StarPipelineStatus, at: Moment, message: str) -> StarPipelineStatus:
        model, reused = status.checkpoint, sum(row.reused for row in status.stages)
        text = f"{message}; {reused} of {len(status.stages)} stages reused" if reused else message
        done = status.model_copy(update={"completion_time": at.now, "gpu_seconds_left": None})
        if model is not None:
            text = f"{text}; Checkpoint {model.checkpoint}" if model.checkpoint else text
        return told(done, at, Phase.SUCCEEDED, ConditionReason.SUCCEEDED, text)


def _key(pipeline: StarPipeline) -> Key:
    return Key(pipeline.kind, pipeline.metadata.namespace, pipeline.metadata.name)


def _failed(status: StarPipelineStatus, at: Moment, reason: AnyReason, message: str) -> StarPipelineStatus:
    ended = status.model_copy(update={"completion_time": at.now, "gpu_seconds_left": None})
    return told(ended, at, Phase.FAILED, reason, message)


def _deployable(model: PinnedModel | None) -> PinnedModel:
    """Return the model that is to be served. Raises InvalidSpec(NotPinned) for one of a hub."""
    if model is None:
        text = "the model that the pipeline uses has no digest, so nothing can vouch for what would be deployed"
        raise InvalidSpec(ConditionReason.NOT_PINNED, f"{text}; name a Checkpoint, or an s3:// uri with its digest")
    return model


def _seen(body: KubeObject, row: PlannedStage, pipeline: StarPipeline) -> policy.Seen:
    """Reduce a row's resource. What does not fit its model has no status yet, and says why itself."""
    meta, kind = body["metadata"], BY_KIND[row.kind]
    try:
        status = kind.parse_status(body)
    except ValidationError:
        status = Status()
    ready = find(status.conditions, READY)
    progress = status.progress
    return policy.Seen(
        uid=meta["uid"],
        ours=not row.made or _is_ours(body, pipeline),
        tries=_tries(meta.get("annotations", {}).get(TRY_ANNOTATION, "")),
        deleting="deletionTimestamp" in meta,
        suspended=bool(body["spec"].get("suspend")),
        phase=status.phase,
        reason=known_reason(ready.reason) if ready is not None else ConditionReason.STARTING,
        message=ready.message if ready is not None else "",
        progress=status.progress_text,
        done=progress.done if progress is not None else 0,
        total=progress.total if progress is not None else 0,
        reused=bool(status.steps) and all(step.reused for step in status.steps),
        model=_model(body, row, status),
        digest=_digest(body, row, status),
        metrics=status.metrics,
        headline=status.headline,
    )


def _tries(text: str) -> int:
    """Return which make of its stage a resource is; 1 where somebody has spoiled the annotation."""
    return int(text) if text.isascii() and text.isdigit() else 1


def _model(body: KubeObject, row: PlannedStage, status: Status) -> PinnedModel | None:
    if row.kind == Checkpoint.INFO.kind:
        return PinnedModel(checkpoint=row.name, uri=body["spec"]["uri"], digest=body["spec"]["digest"])
    if row.stage in TRAINING and status.phase is Phase.SUCCEEDED and status.artifact is not None:
        return PinnedModel(checkpoint=row.name, uri=status.artifact.uri, digest=status.artifact.digest)
    return None


def _digest(body: KubeObject, row: PlannedStage, status: Status) -> str:
    if row.kind == Checkpoint.INFO.kind:
        return str(body["spec"]["digest"])
    return status.artifact.digest if status.artifact is not None else ""


def _is_ours(body: KubeObject, pipeline: StarPipeline) -> bool:
    owners = body["metadata"].get("ownerReferences", [])
    return any(owner["uid"] == pipeline.metadata.uid for owner in owners)


def _is_scaled(body: KubeObject) -> bool:
    """Say whether somebody scales a deployment: `kubectl scale`, or an autoscaler."""
    return any(entry.get("subresource") == "scale" for entry in body["metadata"].get("managedFields", []))


def _of_the_series(body: KubeObject, pipeline: StarPipeline) -> bool:
    series: str = body["metadata"].get("labels", {}).get(LABEL_SERIES, "")
    return series == label_value(series_of(pipeline))


def _serving(resource: StarDeployment) -> PinnedModel | None:
    """Return what a deployment serves."""
    digest = resource.status.serving_digest
    one = next((one for one in resource.status.revisions if one.digest == digest and one.uri), None)
    return PinnedModel(uri=one.uri, digest=one.digest) if one is not None else None


def _newest(kind: type[Resource[Any, Any]], bodies: list[KubeObject]) -> str:
    """Return the name of the resource that succeeded last; empty when none has."""
    done: list[tuple[str, str]] = []
    for body in bodies:
        try:
            resource = kind.parse(body)
        except ValidationError:
            continue
        if resource.status.phase is Phase.SUCCEEDED and "deletionTimestamp" not in body["metadata"]:
            done.append((resource.status.completion_time or "", resource.metadata.name))
    return max(done, default=("", ""))[1]
