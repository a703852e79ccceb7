"""Evaluation: HR@1/3/5 of a checkpoint, beside baselines, with confidence intervals (paper 4.1, B, C)."""

from typing import ClassVar

from pydantic import Field

from star_contracts.settings import EvaluationSettings
from star_operator.api.common import (
    LLM,
    MEASURED_VARIANT,
    ONE_POD,
    AgainstRef,
    Compute,
    DatasetRef,
    RunSpec,
    VerbalizationRef,
)
from star_operator.api.meta import CEL, KindInfo, Resource, Status


class EvaluationSpec(RunSpec):
    """What is measured, on what."""

    model_config = CEL(
        (
            "has(self.llm) || size(self.settings.baselines) > 0",
            "give llm (the model to measure), or at least one of settings.baselines",
        ),
        (
            "!has(self.llm) || !self.settings.tools || has(self.verbalization)",
            "settings.tools needs verbalization (where tool calls are looked up); "
            "name one or set settings.tools to false",
        ),
        (
            "self.settings.bestOf == 1 || self.settings.sampling.temperature > 0.0",
            "settings.bestOf above 1 needs settings.sampling.temperature above 0: without it every answer is the same",
        ),
        (
            "!has(self.against) || has(self.llm)",
            "against compares the measured model with another; give llm (the model), or leave against out",
        ),
        (
            "size(self.beside) == 0 || has(self.llm)",
            "beside compares the measured model with others; give llm (the model), or leave beside out",
        ),
        (
            "!has(self.settings.singleAgent) || (has(self.llm) && !self.settings.tools)",
            "settings.singleAgent asks a model by a prompt without tools; give llm and set settings.tools to false",
        ),
        MEASURED_VARIANT,
        ONE_POD,
    ).config()

    dataset: DatasetRef
    """The RecDataset whose test tasks are used."""
    verbalization: VerbalizationRef | None = None
    """The Verbalization that summaries and, where the student has tools, its tool calls are looked up in."""
    llm: LLM | None = None
    """The model to measure; without it the baselines alone."""
    against: AgainstRef | None = None
    """Another evaluation or a run of the teacher on the same test tasks: the model is compared with its model, or with
    the teacher, in pairs, task by task. Its figures are the metrics `against.*`."""
    beside: tuple[AgainstRef, ...] = Field(default=(), max_length=8)
    """Further ones on the same test tasks: the report has them in its tables, in pairs, and in its pictures of quality
    against latency and cost (the paper's Figure 4)."""
    settings: EvaluationSettings = EvaluationSettings()
    """What is measured, and on how much."""
    compute: Compute = Compute()
    """Where the evaluator runs; the LLM server has a compute of its own."""

    def compared(self) -> dict[str, AgainstRef]:
        """Return all that the model is compared with, by path in this spec: `against`, `beside[0]`, ..."""
        against = {"against": self.against} if self.against else {}
        return against | {f"beside[{place}]": ref for place, ref in enumerate(self.beside)}


class Evaluation(Resource[EvaluationSpec, Status]):
    """A measurement; it produces a report and is recorded in the Checkpoint's verdicts."""

    INFO: ClassVar[KindInfo] = KindInfo("Evaluation", "evaluations", "eval")
    status: Status = Status()
