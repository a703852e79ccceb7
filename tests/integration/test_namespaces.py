"""Namespaces that go: nothing of this operator keeps one, whatever runs in it, and the operator stays as it is."""

import json

import pytest

from star_contracts.job import JobSpec
from star_contracts.result import JobResult
from tests.support.fakekubelet import RUNNING, FakeKubelet, succeed
from tests.support.kubectl import Kubectl, eventually
from tests.support.operator import OperatorProcess
from tests.support.star import DATASET, names, star

ENDPOINT = {"endpoint": {"url": "http://llm.test/v1", "model": "m"}}
SHARDS = 3


def teacher(namespace: str) -> list[dict[str, object]]:
    """A TeacherRun with shards, and what it needs."""
    spec = {"dataset": {"name": "d"}, "llm": ENDPOINT, "agents": {"tools": False}, "shards": SHARDS}
    return [star("RecDataset", namespace, "d", DATASET), star("TeacherRun", namespace, "t", spec)]


def shards_run(spec: JobSpec, pod: dict[str, object]) -> JobResult | str:
    return RUNNING if spec.shard.count > 1 else succeed(spec, pod)


def start_shards(kubectl: Kubectl, kubelet: FakeKubelet, namespace: str) -> None:
    kubelet.script = shards_run
    kubectl.apply(*teacher(namespace))
    eventually(lambda: kubelet.started[f"{namespace}/t-tr-1-generate"] == SHARDS, "all shards run")


def is_gone(kubectl: Kubectl, namespace: str) -> bool:
    return f"namespace/{namespace}" not in kubectl.run("get", "namespaces", "-o", "name").split()


def what_is_left(kubectl: Kubectl, namespace: str) -> str:
    found = json.loads(kubectl.run("get", "namespace", namespace, "-o", "json"))
    return json.dumps(found["status"]["conditions"]) + str(names(kubectl, "pods,jobs", namespace))


@pytest.mark.case("namespace-deleted (no file)")
@pytest.mark.parametrize("restarted", [False, True])
def test_a_namespace_goes_while_shards_run_in_it(
    kubectl: Kubectl, operator: OperatorProcess, kubelet: FakeKubelet, namespace: str, restarted: bool
) -> None:
    """A failed shard keeps its finalizer until its successor is there, which may not be made: the Job has to go."""
    start_shards(kubectl, kubelet, namespace)
    if restarted:
        operator.kill()
    kubectl.run("delete", "namespace", namespace, "--wait=false")
    if restarted:
        eventually(
            lambda: "deletionTimestamp" in kubectl.get("namespace", namespace)["metadata"], "the namespace is to go"
        )
        operator.start()
    try:
        eventually(lambda: is_gone(kubectl, namespace), "the namespace is gone")
    except AssertionError as error:
        raise AssertionError(f"{error}: {what_is_left(kubectl, namespace)}") from None
