"""What is watched: all kinds of ours, what they make, and namespaces. Every event goes to the intake as it is."""

from typing import Any

import kopf

from star_operator.handlers.intake import Intake
from star_operator.kube.indexes import CACHED, selector


async def told(event: Any, memo: Intake, **_: Any) -> None:
    """Hand over what a watch tells."""
    memo.event(event)


def registered(options: kopf.OperatorSettings) -> kopf.OperatorRegistry:
    """Have all that is cached watched, the API server filtering: of others' objects nothing is sent."""
    registry = kopf.OperatorRegistry()
    for rtype in CACHED.values():
        group, _, version = rtype.api_version.rpartition("/")
        kopf.on.event(group, version, rtype.plural, registry=registry)(told)
        if wanted := selector(rtype.kind):
            labels = ",".join(f"{key}={value}" for key, value in wanted.items())
            options.watching.label_selectors[group, version, rtype.plural] = labels
    return registry
