"""Multi-node vLLM servers: a group works as one, and starts anew as one."""

from datetime import UTC, datetime
from typing import Any

from tests.support.fakekubelet import FakeKubelet, while_asking
from tests.support.kubectl import Kubectl, eventually
from tests.support.operator import OperatorProcess
from tests.support.star import DATASET, checkpoint, star

COMPUTE = {"pool": "h20", "nodes": 3, "gpusPerNode": 8}
GROUPED = {"model": {"checkpoint": "base"}, "tensorParallelSize": 8, "pipelineParallelSize": 3, "compute": COMPUTE}


def pods(kubectl: Kubectl, namespace: str) -> dict[str, dict[str, Any]]:
    found = kubectl.list("pods", namespace, "star.recsys.dev/group")
    return {pod["metadata"]["name"]: pod for pod in found}


def ready_since(pod: dict[str, Any]) -> str:
    conditions = pod.get("status", {}).get("conditions", [])
    return next((c["lastTransitionTime"] for c in conditions if c["type"] == "Ready" and c["status"] == "True"), "")


def formed(kubectl: Kubectl, namespace: str) -> bool:
    """All three pods are ready, and a second has passed: times have no smaller part."""
    found = pods(kubectl, namespace)
    now = datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
    return len(found) == 3 and all("" != ready_since(pod) < now for pod in found.values())


def test_a_worker_that_dies_has_its_whole_group_made_anew_exactly_once(
    kubectl: Kubectl, operator: OperatorProcess, kubelet: FakeKubelet, namespace: str
) -> None:
    kubelet.script = while_asking("evaluate")
    spec = {"dataset": {"name": "d"}, "llm": {"server": GROUPED}, "settings": {"tools": False}}
    kubectl.apply(checkpoint(namespace), star("RecDataset", namespace, "d", DATASET))
    kubectl.apply(star("Evaluation", namespace, "e", spec))
    eventually(lambda: formed(kubectl, namespace), "the group has formed")
    before = {name: pod["metadata"]["uid"] for name, pod in pods(kubectl, namespace).items()}
    worker = next(name for name in before if "-w-" in name)

    kubectl.run("delete", "pod", worker, "-n", namespace, "--grace-period=0", "--force")

    def anew() -> bool:
        found = pods(kubectl, namespace)
        uids = {name: pod["metadata"]["uid"] for name, pod in found.items()}
        return uids.keys() == before.keys() and all(uids[name] != before[name] for name in before)

    eventually(anew, "every pod of the group is another one")
    eventually(lambda: formed(kubectl, namespace), "the group has formed again")
    made = {name: kubelet.pods[f"{namespace}/{name}"] for name in before}
    assert made == dict.fromkeys(before, 2)
    log = operator.log.read_text()
    assert log.count("group restarted") == 1
    assert "lost a pod" in kubectl.run("get", "events", "-n", namespace, "--field-selector=reason=GroupRestarted")
