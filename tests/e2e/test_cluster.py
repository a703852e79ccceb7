"""The embedded cluster runs real pods the way the samples ask for them, and is repaired where something died."""

import os
import signal
import subprocess
from collections.abc import Iterator
from typing import Any

import pytest

from star_cli.local.cluster import Engine, LocalCluster
from star_cli.local.network import BRIDGE
from star_cli.local.processes import Processes
from tests.support.kubectl import Kubectl, eventually

pytestmark = pytest.mark.e2e

NAMESPACE = "cluster-test"
POD_SECURITY: dict[str, Any] = {
    "runAsNonRoot": True,
    "runAsUser": 65532,
    "runAsGroup": 65532,
    "seccompProfile": {"type": "RuntimeDefault"},
}
CONTAINER_SECURITY: dict[str, Any] = {
    "allowPrivilegeEscalation": False,
    "readOnlyRootFilesystem": True,
    "capabilities": {"drop": ["ALL"]},
}


@pytest.fixture(scope="module", autouse=True)
def server(kubectl: Kubectl, probe_image: str) -> Iterator[None]:
    """A namespace with a Deployment that serves HTTP behind a Service."""
    labels = {"app": "server"}
    template = {"metadata": {"labels": labels}, "spec": pod_spec(probe_image, ["serve"], gpus=0)}
    template["spec"]["containers"][0]["readinessProbe"] = {"httpGet": {"port": 8080, "path": "/"}, "periodSeconds": 1}
    kubectl.apply({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": NAMESPACE}})
    eventually(lambda: "default" in kubectl.run("get", "sa", "-n", NAMESPACE), "default ServiceAccount")
    kubectl.apply(
        {
            "apiVersion": "apps/v1",
            "kind": "Deployment",
            "metadata": {"name": "server", "namespace": NAMESPACE},
            "spec": {"replicas": 2, "selector": {"matchLabels": labels}, "template": template},
        },
        {
            "apiVersion": "v1",
            "kind": "Service",
            "metadata": {"name": "server", "namespace": NAMESPACE},
            "spec": {"selector": labels, "ports": [{"port": 80, "targetPort": 8080}]},
        },
    )
    kubectl.run("rollout", "status", "deployment/server", "-n", NAMESPACE, "--timeout=100s")
    yield
    kubectl.run("delete", "namespace", NAMESPACE, "--timeout=100s")


def pod_spec(image: str, arguments: list[str], gpus: int) -> dict[str, Any]:
    """A pod the way the operator writes one: non-root, restricted, on the h20 pool where it wants GPUs."""
    container: dict[str, Any] = {
        "name": "main",
        "image": image,
        "args": arguments,
        "securityContext": CONTAINER_SECURITY,
    }
    spec: dict[str, Any] = {
        "securityContext": POD_SECURITY,
        "containers": [container],
        "terminationGracePeriodSeconds": 1,
    }
    if gpus:
        container["resources"] = {"limits": {"nvidia.com/gpu": gpus}}
        spec["nodeSelector"] = {"star.recsys.dev/pool": "h20"}
    return spec


def run_job(kubectl: Kubectl, name: str, spec: dict[str, Any]) -> str:
    """Run a Job of one pod to its end. Returns its log."""
    template = {"spec": {**spec, "restartPolicy": "Never"}}
    metadata = {"name": name, "namespace": NAMESPACE}
    job = {"completions": 1, "completionMode": "Indexed", "backoffLimit": 6, "template": template}
    kubectl.apply({"apiVersion": "batch/v1", "kind": "Job", "metadata": metadata, "spec": job})
    kubectl.run("wait", f"job/{name}", "-n", NAMESPACE, "--for=condition=Complete", "--timeout=100s")
    return kubectl.run("logs", f"job/{name}", "-n", NAMESPACE)


def test_job_with_gpus_reaches_a_service_by_name(kubectl: Kubectl, probe_image: str) -> None:
    url = f"http://server.{NAMESPACE}.svc.cluster.local/"
    log = run_job(kubectl, "by-name", pod_spec(probe_image, ["get", url], gpus=4))
    assert "answer 200: served as user 65532" in log


def test_more_gpus_than_the_node_has_stay_pending_with_the_schedulers_words(kubectl: Kubectl, probe_image: str) -> None:
    pod = {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": "greedy", "namespace": NAMESPACE},
        "spec": pod_spec(probe_image, ["serve"], gpus=9),
    }
    kubectl.apply(pod)

    def refused() -> bool:
        conditions = kubectl.get("pod", "greedy", NAMESPACE)["status"].get("conditions", [])
        return any("Insufficient nvidia.com/gpu" in condition.get("message", "") for condition in conditions)

    eventually(refused, "the scheduler says that GPUs are insufficient")
    kubectl.run("delete", "pod", "greedy", "-n", NAMESPACE, "--timeout=60s")


@pytest.mark.parametrize(
    ("name", "url", "answer"),
    [
        ("s3", "http://s3.star-system.svc.cluster.local:7070/-/health", "answer 200"),
        ("registry", "http://registry.star-system.svc.cluster.local:5000/v2/", "answer 200"),
        ("api", "http://kubernetes.default.svc:443/", "answer 400: Client sent an HTTP request to an HTTPS server"),
    ],
)
def test_pods_reach_the_services_of_the_machine(
    kubectl: Kubectl, probe_image: str, name: str, url: str, answer: str
) -> None:
    assert answer in run_job(kubectl, f"reach-{name}", pod_spec(probe_image, ["get", url], gpus=0))


@pytest.mark.parametrize("victim", ["kubelet", "containerd", "kube-apiserver", "coredns"])
def test_up_restarts_what_died_and_leaves_the_rest_alone(
    cluster: LocalCluster, kubectl: Kubectl, probe_image: str, victim: str
) -> None:
    processes = Processes(cluster.layout.records, cluster.layout.logs)
    before = {name: processes.record(name) for name in processes.names()}
    died = before[victim]
    assert died is not None
    os.kill(died.pid, signal.SIGKILL)
    eventually(lambda: not processes.alive(victim), f"{victim} is gone", 10)
    assert not cluster.status().well

    assert cluster.up() is Engine.EMBEDDED

    after = {name: processes.record(name) for name in processes.names()}
    assert {name for name in after if after[name] != before[name]} == {victim}
    assert cluster.status().well
    url = f"http://server.{NAMESPACE}/"
    log = run_job(kubectl, f"after-{victim}", pod_spec(probe_image, ["get", url], gpus=4))
    assert "answer 200" in log


def test_pods_get_their_network_back_when_the_bridge_was_lost(
    cluster: LocalCluster, kubectl: Kubectl, probe_image: str
) -> None:
    subprocess.run(["ip", "link", "delete", BRIDGE], check=True)
    cluster.up()
    log = run_job(kubectl, "after-bridge", pod_spec(probe_image, ["get", f"http://server.{NAMESPACE}/"], gpus=0))
    assert "answer 200" in log


def test_up_on_a_well_cluster_changes_nothing(cluster: LocalCluster) -> None:
    processes = Processes(cluster.layout.records, cluster.layout.logs)
    before = {name: processes.record(name) for name in processes.names()}
    cluster.up()
    assert {name: processes.record(name) for name in processes.names()} == before
