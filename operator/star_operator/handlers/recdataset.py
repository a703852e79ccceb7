"""Events of RecDatasets; what is done about them is in reconcilers/recdataset.py."""

from typing import Any

import kopf

from star_operator.api.recdataset import RecDataset
from star_operator.handlers.intake import REGISTRY, Intake, here


@kopf.on.event(*here(RecDataset), registry=REGISTRY)
async def changed(event: Any, memo: Intake, **_: Any) -> None:
    """Look again."""
    memo.resource_event(RecDataset, event)
