"""Events of Promotions; what is done about them is in reconcilers/promotion.py."""

from typing import Any

import kopf

from star_operator.api.promotion import Promotion
from star_operator.handlers.intake import REGISTRY, Intake, here


@kopf.on.event(*here(Promotion), registry=REGISTRY)
async def changed(event: Any, memo: Intake, **_: Any) -> None:
    """Look again."""
    memo.resource_event(Promotion, event)
