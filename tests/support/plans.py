"""The steps of a golden case's resource."""

import importlib
from typing import Any

from star_operator.api.checkpoint import Checkpoint
from star_operator.api.meta import Resource
from star_operator.api.stardeployment import StarDeployment
from star_operator.builders.step import Step
from tests.support.goldens import artifact, inputs, settings


def steps_of(cr: Resource[Any, Any]) -> list[Step]:
    """All of its steps, each with the artifacts of those before it; none of what does not run to completion."""
    if isinstance(cr, StarDeployment | Checkpoint):
        return []
    builder = importlib.import_module(f"star_operator.builders.{cr.kind.lower()}")
    done = {name: artifact("step", digit) for name, digit in zip(builder.STEPS, "678", strict=False)}
    return [builder.plan(name, cr, inputs(cr), done, settings()) for name in builder.STEPS]
