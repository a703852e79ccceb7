"""Events of GRPOJobs; what is done about them is in reconcilers/grpojob.py."""

from typing import Any

import kopf

from star_operator.api.grpojob import GRPOJob
from star_operator.handlers.intake import REGISTRY, Intake, here


@kopf.on.event(*here(GRPOJob), registry=REGISTRY)
async def changed(event: Any, memo: Intake, **_: Any) -> None:
    """Look again."""
    memo.resource_event(GRPOJob, event)
