"""Evaluation -> one evaluator Job, with a server of the measured model where asked."""

from star_contracts.artifact import ArtifactRef
from star_contracts.job import Compared, Evaluate
from star_contracts.settings import Baseline
from star_operator.api.evaluation import Evaluation, EvaluationSpec
from star_operator.builders.llm import resolve_llm
from star_operator.builders.step import Inputs, Step
from star_operator.core.settings import Settings

STEPS = ("evaluate",)


def image_role(spec: EvaluationSpec) -> str:
    """Return the image the evaluator runs in: the jobs' small one, or the trainer's where LightGCN needs torch."""
    return "trainer" if Baseline.LIGHTGCN in spec.settings.baselines else "jobs"


def plan(name: str, resource: Evaluation, inputs: Inputs, done: dict[str, ArtifactRef], settings: Settings) -> Step:
    """Return the step of that name."""
    spec = resource.spec
    digests = {role: artifact.digest for role, artifact in inputs.artifacts.items()}
    llm = None
    if spec.llm is not None:
        llm = resolve_llm(spec.llm, inputs.models.get("llm"), resource.metadata.namespace, settings)
        digests["llm"] = llm.identity
    stage = Evaluate(
        dataset=inputs.artifacts["dataset"],
        signals=inputs.artifacts.get("signals"),
        llm=llm.endpoint if llm else None,
        compared={
            path: Compared(artifact=inputs.artifacts[path], name=ref.name) for path, ref in spec.compared().items()
        },
        settings=spec.settings,
    )
    return Step(
        name,
        stage,
        image_role(spec),
        spec.compute,
        inputs=digests,
        servers=llm.servers if llm else (),
        api_keys=llm.api_keys if llm else {},
    )
