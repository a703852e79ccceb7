"""Events of Verbalizations; what is done about them is in reconcilers/verbalization.py."""

from typing import Any

import kopf

from star_operator.api.verbalization import Verbalization
from star_operator.handlers.intake import REGISTRY, Intake, here


@kopf.on.event(*here(Verbalization), registry=REGISTRY)
async def changed(event: Any, memo: Intake, **_: Any) -> None:
    """Look again."""
    memo.resource_event(Verbalization, event)
