"""Rights that are used, from the API server's audit log, against rights that are granted, from the chart's roles.

    STAR_AUDIT=folder pytest tests/integration && python -m tests.support.rights folder

says which rights of the chart nobody used in that run and which were used without being granted. `make audit-rights`
does both. What a run with a played kubelet cannot use stands in `UNSEEN`, each with its reason and a place of the code.
"""

import json
import os
import shutil
import sys
import uuid
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from star_operator.api.chain import INFO
from star_operator.kube.resources import STAR_TYPES
from tests.support.helm import render

OPERATOR = "system:serviceaccount:star-system:star-operator"
ROOT = Path(__file__).resolve().parents[2] / "operator" / "star_operator"
Right = tuple[str, str, str]
"""API group, resource (with its subresource), verb."""
STAR = "star.recsys.dev"


@dataclass(frozen=True)
class Unseen:
    """Rights that a run with a played kubelet need not use, and where the code does."""

    group: str
    resources: tuple[str, ...]
    verbs: tuple[str, ...]
    why: str
    file: str
    """Under operator/star_operator."""
    text: str
    """What stands there."""

    @property
    def rights(self) -> set[Right]:
        """All of them."""
        return {(self.group, resource, verb) for resource in self.resources for verb in self.verbs}


STAGES = tuple(
    STAR_TYPES[kind].plural
    for kind in (*(info.kind for info in INFO.values()), "Checkpoint", "StarPipeline", "Promotion")
)
UNSEEN = (
    Unseen(
        STAR, tuple(f"{plural}/finalizers" for plural in STAGES), ("update",),
        "no request of its own: the admission plugin OwnerReferencesPermissionEnforcement asks for it, where it is on,"
        " when a child is made that blocks its owner's deletion",
        "builders/names.py", '"blockOwnerDeletion": True',
    ),
    Unseen(
        STAR, STAGES, ("create", "patch"),
        "any stage of a pipeline, made as its template says, applied anew; a schedule's runs; a policy's Promotions",
        "reconcilers/starpipeline.py", "self._cluster.apply(child(pipeline, row, tries))",
    ),
    Unseen(
        STAR, STAGES, ("delete",), "stages that are cancelled, retried or let go; Promotions that are withdrawn",
        "reconcilers/retention.py", "self._cluster.delete(rtype, namespace, found.name, version=found.version)",
    ),
    Unseen(
        STAR, ("retrainschedules",), ("get", "patch"), "a schedule's annotations are taken off",
        "reconcilers/retrainschedule.py", 'self._cluster.merge(rtype, "", key.name, taken_off, uid=',
    ),
    Unseen(
        STAR, ("promotionpolicies", "promotions"), ("get",), "policies and promotions are in tests of their own",
        "reconcilers/promotionpolicy.py", "self._cluster.get(STAR_TYPES[key.kind], key.namespace, key.name)",
    ),
    Unseen(
        STAR, tuple(f"{plural}/status" for plural in (*STAGES, "retrainschedules", "promotionpolicies")), ("patch",),
        "every kind's status is written by one function",
        "reconcilers/write.py", "cluster.apply_status(",
    ),
    Unseen(
        "kueue.x-k8s.io", ("workloads",), ("list",), "Kueue's Workloads, where it is installed: here they are played",
        "kube/kueue.py", "cluster.list_objects(WORKLOAD",
    ),
    Unseen(
        "admissionregistration.k8s.io", ("validatingadmissionpolicies", "validatingadmissionpolicybindings"), ("list",),
        "whether approvals are guarded, when a Promotion waits for one",
        "kube/guard.py", "cluster.list_objects(ADMISSION_POLICY, None)",
    ),
    Unseen(
        "apps", ("deployments", "statefulsets"), ("delete",), "a copy or a revision that is scaled or rolled away",
        "reconcilers/serving.py", "cluster.delete(rtype, namespace, name, uid=",
    ),
    Unseen(
        "", ("configmaps",), ("get", "delete"), "orders of promotions and of proofs",
        "reconcilers/proofs.py", "cluster.delete(CONFIG_MAP",
    ),
    Unseen(
        "", ("pods",), ("patch", "delete"), "gateways' pods that read a new configuration; pods that stay",
        "kube/pods.py", "cluster.merge(POD",
    ),
)  # fmt: skip


def excused() -> set[Right]:
    """Return the rights that a run need not use."""
    return set().union(*(one.rights for one in UNSEEN))


def keep_audit_log(log: Path) -> None:
    """Keep a control plane's audit log, where whoever runs the tests wants it."""
    folder = os.environ.get("STAR_AUDIT")
    if folder and log.is_file():
        Path(folder).mkdir(parents=True, exist_ok=True)
        shutil.copy(log, Path(folder) / f"{uuid.uuid4().hex}.jsonl")


def used(lines: Iterable[str]) -> tuple[set[Right], set[Right]]:
    """Return the rights that were used, and those that were asked for in vain."""
    granted: set[Right] = set()
    refused: set[Right] = set()
    for line in lines:
        event: dict[str, Any] = json.loads(line)
        where = event.get("objectRef")
        if where is None or event["user"]["username"] != OPERATOR:
            continue
        resource = "/".join(filter(None, (where["resource"], where.get("subresource"))))
        if event["verb"] == "patch" and event.get("responseStatus", {}).get("code") == 201:
            granted.add((where.get("apiGroup", ""), resource, "create"))  # server-side apply of what was not there
        allowed = event.get("annotations", {}).get("authorization.k8s.io/decision") == "allow"
        (granted if allowed else refused).add((where.get("apiGroup", ""), resource, event["verb"]))
    return granted, refused


def granted(*arguments: str) -> set[Right]:
    """Return the rights that the chart's roles give the operator."""
    objects = render("--set", "crds.install=false", *arguments)
    bound = {
        (one["roleRef"]["kind"], one["roleRef"]["name"])
        for one in objects
        if one["kind"] in ("ClusterRoleBinding", "RoleBinding")
    }
    return {
        (group, resource, verb)
        for role in objects
        if (role["kind"], role["metadata"].get("name")) in bound
        for rule in role["rules"]
        for group in rule["apiGroups"]
        for resource in rule["resources"]
        for verb in rule["verbs"]
    }


def differences(seen: set[Right], refused: set[Right]) -> list[str]:
    """Return a sentence for each right that is granted and not used, or asked for and not granted."""
    given = granted()
    unused = sorted(given - seen - excused())
    stale = sorted(excused() - given)
    return [
        *(f"granted, and not used in this run: {_told(right)}" for right in unused),
        *(f"asked for, and not granted: {_told(right)}" for right in sorted(refused - given)),
        *(f"excused in tests/support/rights.py, and not granted any more: {_told(right)}" for right in stale),
    ]


def _told(right: Right) -> str:
    group, resource, verb = right
    return f"{verb} {resource}{f'.{group}' if group else ''}"


def main(folder: Path) -> int:
    """Print what differs; returns whether anything does."""
    logs = sorted(folder.glob("*.jsonl"))
    seen, refused = used(line for log in logs for line in log.read_text().splitlines())
    wrong = differences(seen, refused) if logs else [f"no audit log in {folder}"]
    print("\n".join(wrong) or f"all {len(granted())} rights of the chart are used, and no others were asked for")
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1])))
