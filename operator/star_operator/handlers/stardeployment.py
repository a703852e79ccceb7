"""Events of StarDeployments; what is done about them is in reconcilers/stardeployment.py."""

from typing import Any

import kopf

from star_operator.api.stardeployment import StarDeployment
from star_operator.handlers.intake import REGISTRY, Intake, here


@kopf.on.event(*here(StarDeployment), registry=REGISTRY)
async def changed(event: Any, memo: Intake, **_: Any) -> None:
    """Look again."""
    memo.resource_event(StarDeployment, event)
