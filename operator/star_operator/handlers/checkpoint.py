"""Events of Checkpoints; what is done about them is in reconcilers/checkpoint.py."""

from typing import Any

import kopf

from star_operator.api.checkpoint import Checkpoint
from star_operator.handlers.intake import REGISTRY, Intake, here


@kopf.on.event(*here(Checkpoint), registry=REGISTRY)
async def changed(event: Any, memo: Intake, **_: Any) -> None:
    """Look again."""
    memo.resource_event(Checkpoint, event)
