"""A small StarPipeline, and what its stages' resources say, for tests."""

from typing import Any

from star_operator.api.starpipeline import StarPipeline
from tests.support.star import BASE_LLM, DIGEST, star

SPEC: dict[str, Any] = {
    "dataset": {"template": {"source": {"format": "MovieLens", "uri": "s3://star/raw/ml-100k"}}},
    "verbalization": {"template": {"llm": BASE_LLM}},
    "teacher": {"template": {"llm": BASE_LLM}},
    "sft": {
        "template": {
            "model": {"checkpoint": "base"},
            "hyperparameters": {"globalBatchSize": 2, "microBatchSize": 2, "sharding": "None"},
        }
    },
    "grpo": {
        "template": {"hyperparameters": {"tensorParallelSize": 1, "trainBatchSize": 4, "miniBatchSize": 4}},
    },
    "evaluation": {"template": {}},
}
"""All stages that run."""
SERVED = {**SPEC, "deployment": {"name": "live", "template": {}}}
"""With a deployment."""
KINDS = {
    "dataset": "RecDataset",
    "verbalization": "Verbalization",
    "teacher": "TeacherRun",
    "sft": "SFTJob",
    "grpo": "GRPOJob",
    "evaluation": "Evaluation",
}


def body(spec: dict[str, Any] | None = None, name: str = "weekly", **status: Any) -> dict[str, Any]:
    """A pipeline as the API server has it."""
    found = star("StarPipeline", "team", name, spec if spec is not None else SPEC)
    found["metadata"]["uid"] = f"uid-of-{name}"
    return {**found, "status": {"resolved": True, **status}}


def pipeline(spec: dict[str, Any] | None = None, **status: Any) -> StarPipeline:
    """A pipeline as its model."""
    return StarPipeline.parse(body(spec, **status))


def artifact(digit: str = "1", name: str = "x") -> dict[str, Any]:
    """An artifact's status."""
    return {"uri": f"s3://star/artifacts/{name}", "digest": DIGEST[:-1] + digit, "bytes": 1}
