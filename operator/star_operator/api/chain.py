"""The chain's stages in order: the kind that each of them makes, and the references between them that a pipeline wires.

A stage's template is generated from its kind's spec, so that there is one source of both: the wired fields are taken
out, with the rules about them, which become rules of the whole pipeline.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any

from pydantic import Field, create_model

from star_contracts.artifact import Digest
from star_contracts.base import Model
from star_operator.api.evaluation import EvaluationSpec
from star_operator.api.grpojob import GRPOJobSpec
from star_operator.api.meta import CEL, RULES
from star_operator.api.recdataset import RecDatasetSpec
from star_operator.api.serving import ServerTemplate
from star_operator.api.sftjob import SFTJobSpec
from star_operator.api.stardeployment import StarDeploymentSpec
from star_operator.api.teacherrun import TeacherRunSpec
from star_operator.api.verbalization import VerbalizationSpec


class StageName(StrEnum):
    """A stage of the chain."""

    DATASET = "dataset"
    VERBALIZATION = "verbalization"
    TEACHER = "teacher"
    SFT = "sft"
    GRPO = "grpo"
    EVALUATION = "evaluation"
    DEPLOYMENT = "deployment"


STAGES = tuple(StageName)
"""In the order of the chain."""
TRAINING = (StageName.SFT, StageName.GRPO)
"""Those that make a model."""
MODEL = "Model"
"""The kind of a row that uses a model by URI."""


@dataclass(frozen=True)
class StageInfo:
    """A stage as its kind knows it."""

    kind: str
    spec: type[Model]
    wired: tuple[str, ...]
    """Fields of the kind's spec that the pipeline fills in."""
    given: Mapping[str, str] = field(default_factory=dict)
    """CEL on the pipeline's spec for `has(self.<field>)` of a wired field, where the kind's rules ask for it."""
    needs: tuple[tuple[StageName, ...], ...] = ()
    """Stages without which there is nothing to fill in: one of each group."""
    added: Mapping[str, Any] = field(default_factory=dict)
    """Fields of the template that the kind's spec has elsewhere."""


_SIGNALS = {"verbalization": "has(self.verbalization)"}
_DATA = (StageName.DATASET,)
_SERVED = {
    "server": (ServerTemplate, Field(default=ServerTemplate(), description="The vLLM server of the measured model.")),
    "concurrency": (int, Field(default=64, ge=1, le=4096, description="Requests in flight.")),
}
INFO: dict[StageName, StageInfo] = {
    StageName.DATASET: StageInfo("RecDataset", RecDatasetSpec, ()),
    StageName.VERBALIZATION: StageInfo("Verbalization", VerbalizationSpec, ("dataset", "previous"), needs=(_DATA,)),
    StageName.TEACHER: StageInfo(
        "TeacherRun", TeacherRunSpec, ("dataset", "verbalization", "previous"), _SIGNALS, (_DATA,)
    ),
    StageName.SFT: StageInfo("SFTJob", SFTJobSpec, ("trajectories",), needs=((StageName.TEACHER,),)),
    StageName.GRPO: StageInfo(
        "GRPOJob",
        GRPOJobSpec,
        ("model", "dataset", "verbalization"),
        _SIGNALS,
        (_DATA, (StageName.SFT,)),
    ),
    StageName.EVALUATION: StageInfo(
        "Evaluation",
        EvaluationSpec,
        ("dataset", "verbalization", "llm"),
        _SIGNALS | {"llm": "true"},
        (_DATA, TRAINING),
        _SERVED,
    ),
    StageName.DEPLOYMENT: StageInfo(
        "StarDeployment",
        StarDeploymentSpec,
        ("checkpoint", "dataset", "verbalization"),
        _SIGNALS,
        (_DATA, TRAINING),
    ),
}
OF_THE_PIPELINE = ("suspend",)
"""Fields of a kind's spec that the pipeline has for all of its stages."""
_HAS = re.compile(r"has\(self\.(\w+)\)")


def template_model(stage: StageName) -> type[Model]:
    """Return the model of a stage's template: the kind's spec without what the pipeline fills in.

    Raises ValueError when a rule of the kind reads a wired field in another way than by `has()`.
    """
    info = INFO[stage]
    kept, _ = _rules(stage)
    base = type("Template", (Model,), {"model_config": CEL(*kept).config(), "__module__": __name__})
    left_out = {*info.wired, *OF_THE_PIPELINE}
    fields: dict[str, Any] = {
        name: (one.annotation, one) for name, one in info.spec.model_fields.items() if name not in left_out
    }
    doc = f"What a {info.kind}'s spec says, without the fields that the pipeline fills in."
    return create_model(f"{info.kind}Template", __base__=base, __doc__=doc, **fields, **info.added)


def pipeline_rules(stage: StageName) -> list[tuple[str, str]]:
    """Return a kind's rules about wired fields, as rules of the pipeline's spec."""
    return _rules(stage)[1]


def _rules(stage: StageName) -> tuple[list[tuple[str, str]], list[tuple[str, str]]]:
    """Split a kind's rules into those of the template alone and those that ask what the pipeline wires."""
    info, kept, lifted = INFO[stage], [], []
    extra: Any = info.spec.model_config.get("json_schema_extra") or {}
    for one in extra.get(RULES, ()):
        rule, message = one["rule"], one["message"]
        wired = [name for name in _HAS.findall(rule) if name in info.wired]
        asked = rule
        for name in wired:
            asked = asked.replace(f"has(self.{name})", f"@{name}@")
        if any(re.search(rf"self\.{name}\b", asked) for name in info.wired):
            raise ValueError(f"rule {rule!r} of {info.kind} reads what the pipeline wires: ask with has() alone")
        if not wired:
            kept.append((rule, message))
            continue
        path = f"self.{stage}"
        asked = asked.replace("self.", f"{path}.template.")
        for name in wired:
            asked = asked.replace(f"@{name}@", info.given[name])
        if "|| true" in asked or asked.startswith("true ||"):
            continue
        lifted.append((f"!has({path}) || !has({path}.template) || ({asked})", f"{stage}.template: {message}"))
    return kept, lifted


@dataclass(frozen=True)
class PlannedStage:
    """A row of the pipeline: what stands for a stage, in all variants or in one."""

    stage: StageName
    variant: str
    """Empty where all share it."""
    kind: str
    name: str
    """metadata.name; for a model that is used by URI, the URI."""
    spec: dict[str, Any] | None = None
    """What its resource's spec is to be; None for what is used."""
    digest: Digest | None = None
    """What its artifact has to be, where `use` pins one."""
    gpus: int = 0

    @property
    def row(self) -> str:
        """Return its name in status."""
        return f"{self.stage}/{self.variant}" if self.variant else str(self.stage)

    @property
    def made(self) -> bool:
        """Whether the pipeline makes it."""
        return self.spec is not None


@dataclass(frozen=True)
class Plan:
    """All rows in the order of the chain, and each variant's chain."""

    rows: tuple[PlannedStage, ...]
    chains: Mapping[str, tuple[PlannedStage, ...]]
    """By variant (`""` where there are none): its own rows and those that it shares, in the chain's order."""
