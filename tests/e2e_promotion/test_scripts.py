"""Argo CD's own interpreter says of our scripts what the unit tests say of them: health, actions, what they change."""

import json
import os
import subprocess
from pathlib import Path
from typing import Any

import pytest

from star_cli.local.binaries import Binaries
from star_operator.api.argocd import offered, render
from star_operator.api.kinds import KINDS
from star_operator.api.meta import API_VERSION, Phase, Resource
from star_operator.core.reasons import ConditionReason
from star_operator.policy.status import Moment, told

AT = Moment("2026-01-01T00:00:00Z", 1)
HEALTH = {
    **dict.fromkeys((Phase.PENDING, Phase.WAITING, Phase.QUEUED, Phase.RUNNING), "Progressing"),
    **dict.fromkeys((Phase.SUCCEEDED, Phase.READY), "Healthy"),
    **dict.fromkeys((Phase.FAILED, Phase.GATED, Phase.DEGRADED), "Degraded"),
    Phase.SUSPENDED: "Suspended",
}
Kind = type[Resource[Any, Any]]


def asked(folder: Path, body: dict[str, Any], *question: str) -> str:
    """`argocd admin settings resource-overrides ...` of a resource, with the ConfigMap that ships."""
    resource, config = folder / "resource.yaml", folder / "argocd-cm.yaml"
    resource.write_text(json.dumps(body))
    config.write_text(render())
    command = [str(Binaries().ensure("argocd")), "admin", "settings", "resource-overrides", question[0]]
    command += [str(resource), *question[1:], "--argocd-cm-path", str(config), "--load-cluster-settings=false"]
    env = {**os.environ, "ARGOCD_BINARY_NAME": "argocd", "HOME": str(folder)}
    done = subprocess.run(command, env=env, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def resource(kind: Kind, phase: Phase, **spec: Any) -> dict[str, Any]:
    status = told(kind.status_type()(), AT, phase, ConditionReason.RUNNING, "why")
    metadata = {"name": "x", "namespace": "team", "generation": 1}
    head = {"apiVersion": API_VERSION, "kind": kind.INFO.kind, "metadata": metadata}
    return {**head, "spec": spec, "status": status.to_json_dict()}


@pytest.mark.parametrize("phase", Phase)
@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.INFO.kind)
def test_health(tmp_path: Path, kind: Kind, phase: Phase) -> None:
    said = asked(tmp_path, resource(kind, phase), "health")
    assert said == f"STATUS: {HEALTH[phase]}\nMESSAGE: why\n"


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.INFO.kind)
def test_actions(tmp_path: Path, kind: Kind) -> None:
    said = asked(tmp_path, resource(kind, Phase.RUNNING), "list-actions")
    listed = {line.split()[0] for line in said.splitlines()[1:]} if offered(kind) else set()
    assert listed == set(offered(kind))


def test_suspending_changes_one_field(tmp_path: Path) -> None:
    kind = next(kind for kind in KINDS if kind.INFO.kind == "StarDeployment")
    said = asked(tmp_path, resource(kind, Phase.READY, suspend=False), "run-action", "suspend")
    changed = [line for line in said.splitlines() if line.startswith(("<", ">"))]
    assert [line.split() for line in changed] == [["<", "suspend:", "false"], [">", "suspend:", "true"]]
