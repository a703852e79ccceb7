"""StarPipeline -> the resources of its stages, wired to each other.

What one variant has for itself starts at the first stage that it patches; what comes before is everybody's.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from pydantic import ValidationError

from star_contracts.base import Model
from star_operator.api.chain import INFO, MODEL, STAGES, TRAINING, Plan, PlannedStage, StageName
from star_operator.api.common import LLM, ModelRef
from star_operator.api.meta import API_VERSION
from star_operator.api.starpipeline import PinnedModel, Stage, StarPipeline, Variant
from star_operator.builders.gpus import gpus_of
from star_operator.builders.llm import server_for
from star_operator.builders.names import common_labels, dns_label, owner_reference
from star_operator.builders.step import Owner
from star_operator.core.errors import InvalidSpec
from star_operator.core.labels import (
    LABEL_PIPELINE,
    LABEL_SERIES,
    LABEL_STAGE,
    LABEL_VARIANT,
    TRY_ANNOTATION,
    label_value,
)
from star_operator.core.objects import KubeObject
from star_operator.core.reasons import ConditionReason

MAX_CHILD_NAME = 63
"""So that a resource's name is also the value of its label."""
SHOWN = 3
"""Faults of a patched template that are told."""


def variants_of(pipeline: StarPipeline) -> Mapping[str, Variant]:
    """Return the variants; one without a name and without patches where the spec has none."""
    return pipeline.spec.variants or {"": Variant()}


def series_of(pipeline: StarPipeline) -> str:
    """Return the series that the pipeline is a run of."""
    return pipeline.spec.series or pipeline.metadata.name


def plan(pipeline: StarPipeline) -> Plan:
    """Return the rows of all stages but the deployment's.

    Raises InvalidSpec, naming variant and field, when a patched template does not fit its kind.
    """
    rows: dict[str, PlannedStage] = {}
    chains: dict[str, tuple[PlannedStage, ...]] = {}
    for variant, patches in variants_of(pipeline).items():
        chain: dict[StageName, PlannedStage] = {}
        apart = False
        for name in STAGES[:-1]:
            stage = pipeline.spec.stage(name)
            if stage is None:
                continue
            patch: dict[str, Any] = getattr(patches, name) or {}
            apart = apart or bool(patch)
            own = variant if apart and stage.template is not None else ""
            shared = rows.get(str(name))
            if own or shared is None:
                shared = _Wiring(pipeline, chain, own).planned(name, stage, patch)
                rows[shared.row] = shared
            chain[name] = shared
        chains[variant] = tuple(chain.values())
    ordered = sorted(rows.values(), key=lambda row: STAGES.index(row.stage))
    return Plan(tuple(ordered), chains)


@dataclass(frozen=True)
class _Wiring:
    """What a stage of one chain is made with: the rows before it."""

    pipeline: StarPipeline
    before: Mapping[StageName, PlannedStage]
    variant: str

    def planned(self, name: StageName, stage: Stage, patch: Mapping[str, Any]) -> PlannedStage:
        info = INFO[name]
        if stage.template is None:
            return _used(name, stage.use)
        template = self._patched(name, stage.template, patch)
        spec = template.to_json_dict() | self._references(name, template)
        for added in info.added:
            spec.pop(added, None)
        child = "-".join(filter(None, (self.pipeline.metadata.name, name, self.variant)))
        fitted = info.spec.model_validate(spec)
        return PlannedStage(
            name, self.variant, info.kind, dns_label(child, MAX_CHILD_NAME), spec=spec, gpus=gpus_of(fitted)
        )

    def _patched(self, name: StageName, template: Model, patch: Mapping[str, Any]) -> Model:
        if not patch:
            return template
        try:
            return type(template).model_validate(merge_patch(template.to_json_dict(), patch))
        except ValidationError as error:
            faults = [f"{'.'.join(map(str, fault['loc']))}: {fault['msg']}" for fault in error.errors()[:SHOWN]]
            text = f"spec.variants.{self.variant}.{name} does not fit {name}.template: {'; '.join(faults)}"
            raise InvalidSpec(ConditionReason.INVALID_SPEC, f"{text}; correct the patch") from error

    def _references(self, name: StageName, template: Any) -> dict[str, Any]:
        data = {"dataset": self._named(StageName.DATASET), "verbalization": self._named(StageName.VERBALIZATION)}
        given = {field: one for field, one in data.items() if one is not None}
        status = self.pipeline.status
        match name:
            case StageName.VERBALIZATION:
                return {"dataset": given["dataset"]} | self._previous(name, status.previous)
            case StageName.TEACHER:
                return given | self._previous(name, status.previous_teacher)
            case StageName.SFT:
                start = pinned_reference(status.incumbent) if status.incumbent is not None else {}
                return {"trajectories": self._named(StageName.TEACHER), **({"model": start} if start else {})}
            case StageName.GRPO:
                return given | {"model": model_reference(self.before.values())}
            case StageName.EVALUATION:
                model = ModelRef.model_validate(model_reference(self.before.values()))
                llm = LLM(server=server_for(template.server, model), concurrency=template.concurrency)
                return given | {"llm": llm.to_json_dict()}
        return {}

    def _previous(self, stage: StageName, shared: str) -> dict[str, Any]:
        own = self.pipeline.status.previous_of_variants.get(f"{stage}/{self.variant}", "")
        name = own if self.variant else shared
        return {"previous": {"name": name}} if name else {}

    def _named(self, stage: StageName) -> dict[str, str] | None:
        row = self.before.get(stage)
        return {"name": row.name} if row is not None else None


def _used(name: StageName, use: Any) -> PlannedStage:
    if isinstance(use, ModelRef):
        kind, where = ("Checkpoint", use.checkpoint) if use.checkpoint is not None else (MODEL, use.uri)
        return PlannedStage(name, "", kind, where or "", digest=use.digest)
    return PlannedStage(name, "", INFO[name].kind, use.name, digest=use.digest)


def model_reference(chain: Iterable[PlannedStage]) -> dict[str, Any]:
    """Return the reference (ModelRef) to what the last training stage of a chain makes, or uses."""
    last = [row for row in chain if row.stage in TRAINING][-1]
    if last.kind == MODEL:
        return compact_reference(uri=last.name, digest=last.digest)
    return compact_reference(checkpoint=last.name, digest=last.digest)


def compact_reference(**fields: str | None) -> dict[str, Any]:
    """Return a reference without what it does not say."""
    return {name: value for name, value in fields.items() if value is not None}


def pinned_reference(model: PinnedModel) -> dict[str, Any]:
    """Return the reference (ModelRef) to a model by its artifact."""
    return {"uri": model.uri, "digest": model.digest}


def child(pipeline: StarPipeline, row: PlannedStage, tries: int) -> KubeObject:
    """Return the resource of a row that the pipeline makes."""
    assert row.spec is not None
    meta = pipeline.metadata
    owner = Owner(pipeline.kind, meta.namespace, meta.name, meta.uid)
    return {
        "apiVersion": API_VERSION,
        "kind": row.kind,
        "metadata": {
            "name": row.name,
            "namespace": meta.namespace,
            "labels": stage_labels(pipeline, row.stage, row.variant),
            "annotations": {TRY_ANNOTATION: str(tries)},
            "ownerReferences": [owner_reference(owner)],
        },
        "spec": row.spec | ({"suspend": True} if pipeline.spec.suspend else {}),
    }


def stage_labels(pipeline: StarPipeline, stage: StageName, variant: str = "") -> dict[str, str]:
    """Return the labels of what a pipeline makes for a stage."""
    found = common_labels(INFO[stage].kind.lower()) | {
        LABEL_PIPELINE: label_value(pipeline.metadata.name),
        LABEL_SERIES: label_value(series_of(pipeline)),
        LABEL_STAGE: str(stage),
    }
    return found | ({LABEL_VARIANT: variant} if variant else {})


def deployment_name(pipeline: StarPipeline) -> str | None:
    """Return the name of the StarDeployment that the pipeline moves; None when it has none."""
    stage = pipeline.spec.deployment
    if stage is None:
        return None
    if stage.template is None:
        name: str = stage.use.name
        return name
    named: str | None = getattr(stage, "name", None)
    return named or series_of(pipeline)


def deployment(pipeline: StarPipeline, chain: tuple[PlannedStage, ...], model: PinnedModel) -> KubeObject:
    """Return the StarDeployment as it is to be: all of it from a template, else its references alone.

    A reference names the checkpoint by its digest; `None` in it takes out what stood there before.
    """
    stage, name, meta = pipeline.spec.deployment, deployment_name(pipeline), pipeline.metadata
    assert stage is not None
    rows = {row.stage: row for row in chain}
    pinned = {"digest": model.digest}
    pinned |= {"checkpoint": model.checkpoint} if model.checkpoint else {"uri": model.uri}
    spec: dict[str, Any] = {"checkpoint": {"checkpoint": None, "uri": None} | pinned}
    for role in (StageName.DATASET, StageName.VERBALIZATION):
        if role in rows:
            spec[str(role)] = {"name": rows[role].name}
    if stage.template is not None:
        spec = stage.template.to_json_dict() | spec | {"checkpoint": pinned}
    return {
        "apiVersion": API_VERSION,
        "kind": INFO[StageName.DEPLOYMENT].kind,
        "metadata": {
            "name": name,
            "namespace": meta.namespace,
            "labels": stage_labels(pipeline, StageName.DEPLOYMENT) if stage.template is not None else {},
        },
        "spec": spec,
    }


def merge_patch(target: Any, patch: Any) -> Any:
    """Return the target with a JSON merge patch applied (RFC 7386)."""
    if not isinstance(patch, Mapping):
        return patch
    found = dict(target) if isinstance(target, Mapping) else {}
    for key, value in patch.items():
        if value is None:
            found.pop(key, None)
        else:
            found[key] = merge_patch(found.get(key), value)
    return found
