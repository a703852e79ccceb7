"""Events of StarPipelines; what is done about them is in reconcilers/starpipeline.py."""

from typing import Any

import kopf

from star_operator.api.starpipeline import StarPipeline
from star_operator.handlers.intake import REGISTRY, Intake, here


@kopf.on.event(*here(StarPipeline), registry=REGISTRY)
async def changed(event: Any, memo: Intake, **_: Any) -> None:
    """Look again."""
    memo.resource_event(StarPipeline, event)
