"""RetrainSchedule -> a StarPipeline in a tenant's namespace: the template with that tenant's overrides over it."""

import json
import re
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

import yaml
from pydantic import ValidationError

from star_contracts.base import value_hash
from star_operator.api.chain import INFO, STAGES
from star_operator.api.meta import API_VERSION
from star_operator.api.retrainschedule import DeletionPolicy, RetrainSchedule
from star_operator.api.starpipeline import StarPipeline
from star_operator.builders.gpus import gpus_at_once, gpus_to_deploy
from star_operator.builders.names import common_labels, dns_label, user_reference
from star_operator.builders.starpipeline import deployment_name, merge_patch, plan
from star_operator.builders.step import Owner
from star_operator.core.errors import InvalidSpec
from star_operator.core.labels import LABEL_SCHEDULE, TICK_ANNOTATION, label_value
from star_operator.core.objects import KubeObject
from star_operator.core.reasons import ConditionReason
from star_operator.core.times import of_seconds

KEY = "pipeline.yaml"
UNFIT = "the overrides do not fit the pipeline"
MAX_NAME = 45
"""Of a run: its stages' names, which are labels, hold it and the stage's."""
MAX_TEXT = 16_384
MAX_DEPTH = 32
SHOWN = 3
"""Faults of overrides that are told."""
_HASHED = re.compile(r".+-[0-9a-f]{8}")
_NAME = re.compile(r"(.+)-([0-9]{8}-[0-9]{4}(?:[0-9]{2})?)")


def run_name(schedule: str, tick: int) -> str:
    """Return the name of a tick's run, e.g. `weekly-20261129-0130` (UTC): the same whoever makes it."""
    moment = datetime.fromtimestamp(tick, UTC)
    return dns_label(f"{schedule}-{moment:%Y%m%d-%H%M}{f'{moment:%S}' if moment.second else ''}", MAX_NAME)


def parts_of(name: str) -> tuple[str, int] | None:
    """Return the schedule and the tick of a run's name; None where it has another shape, or holds a hash."""
    found = _NAME.fullmatch(name)
    if found is None:
        return None
    schedule, time = found.groups()
    try:
        moment = datetime.strptime(time, "%Y%m%d-%H%M%S" if len(time) > len("yyyymmdd-hhmm") else "%Y%m%d-%H%M")
    except ValueError:
        return None
    tick = int(moment.replace(tzinfo=UTC).timestamp())
    return (schedule, tick) if run_name(schedule, tick) == name else None


def may_be_run(name: str) -> bool:
    """Say whether a name has the shape of a run's: it tells the time, or is one that was changed or cut (dns_label)."""
    if parts_of(name) is not None:
        return True
    return _HASHED.fullmatch(name) is not None and (
        parts_of(name[:-9]) is not None or len(name) in (MAX_NAME - 1, MAX_NAME)
    )


def patch_of(config_map: KubeObject) -> Mapping[str, Any]:
    """Return a tenant's overrides.

    Raises InvalidSpec(OverridesInvalid) for what is not one map of YAML, written out.
    """
    where = f"ConfigMap {config_map['metadata']['name']}, key {KEY}"
    text = (config_map.get("data") or {}).get(KEY)
    if text is None:
        raise _invalid(f"ConfigMap {config_map['metadata']['name']} has no key {KEY}: add it, or delete the ConfigMap")
    if len(text) > MAX_TEXT:
        raise _invalid(f"{where} has more than {MAX_TEXT} characters: say only what differs from the schedule")
    try:
        _require_plain(text, where)
        patch = yaml.safe_load(text)
        json.dumps(patch, allow_nan=False)
    except (yaml.YAMLError, ValueError, TypeError) as error:  # also dates that are none, NaN, and what JSON has not
        raise _invalid(f"{where} is no YAML that JSON can say: {' '.join(str(error).split())[:160]}") from error
    if patch is None:
        return {}
    if not isinstance(patch, dict):
        raise _invalid(f"{where} must be a map of stages, e.g. `sft: {{template: ...}}`")
    return patch


def _require_plain(text: str, where: str) -> None:
    """Raise InvalidSpec for aliases, and for more levels than a pipeline has, before anything goes into their depth."""
    depth = 0
    for event in yaml.parse(text, Loader=yaml.SafeLoader):
        if isinstance(event, yaml.AliasEvent):
            raise _invalid(f"{where} has an alias (*name): write it out")
        depth += isinstance(event, yaml.CollectionStartEvent) - isinstance(event, yaml.CollectionEndEvent)
        if depth > MAX_DEPTH:
            raise _invalid(f"{where} has more than {MAX_DEPTH} levels, and no pipeline has: correct it")


def pipeline_spec(schedule: RetrainSchedule, patch: Mapping[str, Any]) -> dict[str, Any]:
    """Return the spec of a tenant's run.

    Raises InvalidSpec(OverridesInvalid), naming the fields, when the overrides do not fit.
    """
    template = schedule.spec.pipeline
    try:
        fitted = type(template).model_validate(merge_patch(template.to_json_dict(), patch)) if patch else template
    except ValidationError as error:
        raise _unfit(error) from error
    return {**fitted.to_json_dict(), "series": label_value(schedule.metadata.name)}


def gpus_needed(schedule: RetrainSchedule, spec: Mapping[str, Any]) -> int:
    """Return how many GPUs a run of this spec holds at once, in its stages and while its deployment moves on.

    Raises InvalidSpec when a variant's patch does not fit.
    """
    body = {"apiVersion": API_VERSION, "kind": "StarPipeline", "metadata": {"name": "x", "namespace": "x"}}
    try:
        pipeline = StarPipeline.parse({**body, "spec": spec})
        _require_whole(pipeline)
        rows = plan(pipeline)
    except ValidationError as error:
        raise _unfit(error) from error
    stage = pipeline.spec.deployment
    serving = gpus_to_deploy(stage.template) if stage is not None and stage.template is not None else 0
    return max(gpus_at_once(rows), serving)


def _require_whole(pipeline: StarPipeline) -> None:
    """Raise InvalidSpec where stages lack what they are wired to: the API server would say so only of a whole run."""
    for name in STAGES:
        stage = pipeline.spec.stage(name)
        if stage is None:
            continue
        if (stage.template is None) == (stage.use is None):
            what = "neither template nor use" if stage.use is None else "both template and use"
            raise _invalid(f"{UNFIT}: {name} has {what}: give it one of them, or leave it out")
        for group in INFO[name].needs if stage.template is not None else ():
            if not any(pipeline.spec.stage(needed) for needed in group):
                text = f"{name} needs {' or '.join(group)}: give it a template or use, or leave {name} out"
                raise _invalid(f"{UNFIT}: {text}")


def schedule_labels(schedule: RetrainSchedule) -> dict[str, str]:
    """Return the labels of a schedule's runs, by which people find them."""
    return common_labels("starpipeline") | {LABEL_SCHEDULE: label_value(schedule.metadata.name)}


def run(schedule: RetrainSchedule, namespace: str, tick: int, spec: Mapping[str, Any]) -> KubeObject:
    """Return the StarPipeline of a tick in a tenant's namespace."""
    name = schedule.metadata.name
    return {
        "apiVersion": API_VERSION,
        "kind": "StarPipeline",
        "metadata": {
            "name": run_name(name, tick),
            "namespace": namespace,
            "labels": schedule_labels(schedule),
            "annotations": {TICK_ANNOTATION: of_seconds(tick)},
            "ownerReferences": owners(schedule),
        },
        "spec": dict(spec),
    }


def spec_digest(body: KubeObject) -> str:
    """Return the digest of a pipeline's spec without what may change of it; empty where it does not fit its kind."""
    try:
        spec = StarPipeline.parse(body).spec.to_json_dict()
    except ValidationError:
        return ""
    return value_hash({name: value for name, value in spec.items() if name not in StarPipeline.INFO.mutable})


def deployment_of(schedule: RetrainSchedule) -> str | None:
    """Return the name of the StarDeployment that the runs move; None when they have none."""
    body = {"apiVersion": API_VERSION, "kind": "StarPipeline", "metadata": {"name": "x", "namespace": "x"}}
    return deployment_name(StarPipeline.parse({**body, "spec": pipeline_spec(schedule, {})}))


def owners(schedule: RetrainSchedule) -> list[dict[str, Any]]:
    """Return the owner references of its runs: those it owns go when it goes (spec.deletionPolicy)."""
    if schedule.spec.deletion_policy is DeletionPolicy.ORPHAN:
        return []
    return [user_reference(Owner(schedule.kind, "", schedule.metadata.name, schedule.metadata.uid))]


def _unfit(error: ValidationError) -> InvalidSpec:
    faults = [f"{'.'.join(map(str, fault['loc']))}: {fault['msg']}" for fault in error.errors()[:SHOWN]]
    return _invalid(f"{UNFIT}: {'; '.join(faults)}")


def _invalid(text: str) -> InvalidSpec:
    return InvalidSpec(ConditionReason.OVERRIDES_INVALID, text)
