"""Events of Evaluations; what is done about them is in reconcilers/evaluation.py."""

from typing import Any

import kopf

from star_operator.api.evaluation import Evaluation
from star_operator.handlers.intake import REGISTRY, Intake, here


@kopf.on.event(*here(Evaluation), registry=REGISTRY)
async def changed(event: Any, memo: Intake, **_: Any) -> None:
    """Look again."""
    memo.resource_event(Evaluation, event)
