"""What kstatus says of a custom resource, by its published rules: what Flux, kpt and many a script wait for.

https://github.com/kubernetes-sigs/cli-utils/blob/master/pkg/kstatus/README.md. The rules, in their order: what is being
deleted is Terminating; a generation that nobody has observed is InProgress; the first of the conditions Reconciling and
Stalled that is True decides (InProgress, Failed); then the condition Ready, where there is one (True: Current, else
InProgress); what says nothing is Current. The rules for built-in kinds are not here.
"""

from collections.abc import Mapping
from enum import StrEnum
from typing import Any


class KStatus(StrEnum):
    IN_PROGRESS = "InProgress"
    FAILED = "Failed"
    CURRENT = "Current"
    TERMINATING = "Terminating"


def kstatus(body: Mapping[str, Any]) -> KStatus:
    """The status of a custom resource as the API server has it."""
    meta, status = body.get("metadata", {}), body.get("status", {})
    if meta.get("deletionTimestamp"):
        return KStatus.TERMINATING
    if "generation" in meta and status.get("observedGeneration", meta["generation"]) != meta["generation"]:
        return KStatus.IN_PROGRESS
    conditions = status.get("conditions", [])
    decisive = {"Reconciling": KStatus.IN_PROGRESS, "Stalled": KStatus.FAILED}
    for condition in conditions:
        if condition["type"] in decisive and condition["status"] == "True":
            return decisive[condition["type"]]
    ready = next((condition["status"] for condition in conditions if condition["type"] == "Ready"), "True")
    return KStatus.CURRENT if ready == "True" else KStatus.IN_PROGRESS
