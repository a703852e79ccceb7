"""The chain from data to checkpoint, and the servers its stages share."""

from typing import Any

from star_contracts.job import JobSpec
from star_contracts.result import JobResult
from tests.support.fakekubelet import ASKING, RUNNING, FakeKubelet, succeed, while_asking
from tests.support.kubectl import Kubectl, eventually
from tests.support.operator import OperatorProcess
from tests.support.star import BASE_LLM, DATASET, chain, checkpoint, names, star, status, wait_message, wait_phase

SERVERS = "app.kubernetes.io/name=vllm"


def test_the_chain_runs_by_itself_and_ends_in_a_checkpoint_with_its_lineage(
    kubectl: Kubectl, operator: OperatorProcess, kubelet: FakeKubelet, namespace: str
) -> None:
    kubectl.apply(*chain(namespace))
    grpo = wait_phase(kubectl, "GRPOJob", namespace, "grpo", "Succeeded")
    made = kubectl.get("checkpoint", "grpo", namespace)["spec"]
    assert made["digest"] == grpo["artifact"]["digest"]
    assert made["lineage"]["producerKind"] == "GRPOJob"
    sft = kubectl.get("checkpoint", "sft", namespace)["spec"]
    assert made["lineage"]["inputs"]["model"] == sft["digest"]
    assert set(made["lineage"]["inputs"]) == {"model", "dataset", "signals"}
    assert all(count == 1 for job, count in kubelet.started.items() if job.startswith(namespace))
    servers = [name for name in kubelet.pods if name.startswith(f"{namespace}/llm-")]
    assert servers == [], "no pod asked for its model"


def test_a_server_is_started_when_a_pod_asks_for_it_and_removed_when_nobody_uses_it(
    kubectl: Kubectl, operator: OperatorProcess, kubelet: FakeKubelet, namespace: str
) -> None:
    does = RUNNING

    def script(spec: JobSpec, pod: dict[str, Any]) -> JobResult | str:
        return does if does and spec.stage.stage == "evaluate" else succeed(spec, pod)

    kubelet.script = script
    spec = {"dataset": {"name": "d"}, "llm": BASE_LLM, "settings": {"tools": False}}
    kubectl.apply(checkpoint(namespace), star("RecDataset", namespace, "d", DATASET))
    kubectl.apply(star("Evaluation", namespace, "e", spec))
    wait_message(kubectl, "Evaluation", namespace, "e", "step evaluate is running")
    assert not names(kubectl, "services", namespace, SERVERS)
    operator.kill()
    does = ASKING
    pods = ("get", "pods", "-n", namespace, "-l", "star.recsys.dev/step=evaluate", "-o")
    ready = "jsonpath={.items[*].status.conditions[?(@.type=='Ready')].status}"
    eventually(lambda: kubectl.run(*pods, ready) == "True", "the pod asks while nobody looks")
    operator.start()
    eventually(lambda: len(names(kubectl, "deployments", namespace)) == 1, "its server is started")
    does = ""
    wait_phase(kubectl, "Evaluation", namespace, "e", "Succeeded")
    eventually(lambda: not names(kubectl, "services", namespace, SERVERS), "servers nobody uses are removed")
    eventually(lambda: not names(kubectl, "deployments", namespace), "and all that hangs on them")


def test_two_users_share_one_server_until_the_last_one_ends(
    kubectl: Kubectl, operator: OperatorProcess, kubelet: FakeKubelet, namespace: str
) -> None:
    busy = {"a", "b"}

    def script(spec: JobSpec, pod: dict[str, Any]) -> JobResult | str:
        return ASKING if spec.producer.name in busy else succeed(spec, pod)

    kubelet.script = script
    spec = {"dataset": {"name": "d"}, "llm": BASE_LLM, "settings": {"tools": False}}
    kubectl.apply(checkpoint(namespace), star("RecDataset", namespace, "d", DATASET))
    kubectl.apply(*(star("Evaluation", namespace, name, {**spec, "retries": n}) for n, name in enumerate("ab")))
    for name in "ab":
        wait_phase(kubectl, "Evaluation", namespace, name, "Running")
    eventually(lambda: kubelet.started[f"{namespace}/b-eval-1-evaluate"] == 1, "both run")
    eventually(lambda: len(names(kubectl, "services", namespace, SERVERS)) == 1, "both want the same server")
    [server] = names(kubectl, "services", namespace, SERVERS)

    def users() -> set[str]:
        owners = kubectl.get("service", server, namespace)["metadata"].get("ownerReferences", [])
        return {owner["name"] for owner in owners}

    eventually(lambda: users() == {"a", "b"}, "both use the server")
    busy.discard("a")
    wait_phase(kubectl, "Evaluation", namespace, "a", "Succeeded")
    eventually(lambda: users() == {"b"}, "the one that ended has let go")
    busy.discard("b")
    wait_phase(kubectl, "Evaluation", namespace, "b", "Succeeded")
    eventually(lambda: not names(kubectl, "services", namespace, SERVERS), "the last one's end removes it")


def test_deleting_a_running_resource_leaves_nothing(
    kubectl: Kubectl, operator: OperatorProcess, kubelet: FakeKubelet, namespace: str
) -> None:
    kubelet.script = while_asking("evaluate")
    spec = {"dataset": {"name": "d"}, "llm": BASE_LLM, "settings": {"tools": False}}
    kubectl.apply(checkpoint(namespace), star("RecDataset", namespace, "d", DATASET))
    kubectl.apply(star("Evaluation", namespace, "e", spec))
    eventually(lambda: len(names(kubectl, "deployments", namespace)) == 1, "it runs and has its server")
    kubectl.run("delete", "evaluation", "e", "-n", namespace)
    for kind in ("jobs", "pods", "deployments", "services", "configmaps"):
        selector = "star.recsys.dev/kind=evaluation" if kind in ("jobs", "configmaps") else SERVERS
        eventually(lambda kind=kind, selector=selector: not names(kubectl, kind, namespace, selector), f"no {kind}")


def test_equal_resources_keep_their_status_when_the_operator_restarts(
    kubectl: Kubectl, operator: OperatorProcess, kubelet: FakeKubelet, namespace: str
) -> None:
    kubectl.apply(star("RecDataset", namespace, "d", DATASET))
    before = wait_phase(kubectl, "RecDataset", namespace, "d", "Succeeded")
    operator.stop()
    operator.start()
    kubectl.apply(star("RecDataset", namespace, "e", DATASET))
    wait_phase(kubectl, "RecDataset", namespace, "e", "Succeeded")
    assert status(kubectl, "RecDataset", namespace, "d") == before
