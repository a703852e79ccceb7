"""Queues that are not there, and corrected ones. Kueue is not run: its Workload is a CRD and an object of the test."""

import json
from typing import Any

import pytest

from tests.support.fakekubelet import FakeKubelet
from tests.support.kubectl import Kubectl, eventually
from tests.support.operator import OperatorProcess
from tests.support.star import DATASET, star, status, wait_message, wait_phase

JOB = "d-rds-1-prepare"
WORKLOADS = {
    "apiVersion": "apiextensions.k8s.io/v1",
    "kind": "CustomResourceDefinition",
    "metadata": {
        "name": "workloads.kueue.x-k8s.io",
        "annotations": {"api-approved.kubernetes.io": "unapproved, a stand-in of the tests"},
    },
    "spec": {
        "group": "kueue.x-k8s.io",
        "scope": "Namespaced",
        "names": {"kind": "Workload", "plural": "workloads", "singular": "workload", "listKind": "WorkloadList"},
        "versions": [
            {
                "name": "v1beta1",
                "served": True,
                "storage": True,
                "schema": {"openAPIV3Schema": {"type": "object", "x-kubernetes-preserve-unknown-fields": True}},
            }
        ],
    },
}


def dataset(namespace: str) -> dict[str, Any]:
    compute = {"queueName": "no-such-queue", "priorityClassName": "system-node-critical"}
    return star("RecDataset", namespace, "d", {**DATASET, "compute": compute})


def change(kubectl: Kubectl, namespace: str, **compute: str | None) -> None:
    patch = json.dumps({"spec": {"compute": compute}})
    kubectl.run("patch", "recdataset", "d", "-n", namespace, "--type=merge", "-p", patch)


def job(kubectl: Kubectl, namespace: str) -> dict[str, Any]:
    try:
        return kubectl.get("job", JOB, namespace)
    except RuntimeError:  # it is made anew just now
        return {"metadata": {}, "spec": {"template": {"spec": {}}}}


def placed(kubectl: Kubectl, namespace: str) -> tuple[str | None, str | None, bool]:
    """The Job's queue, its pods' priority class, and whether it is suspended."""
    found = job(kubectl, namespace)
    labels, spec = found["metadata"].get("labels", {}), found["spec"]
    priority = spec["template"]["spec"].get("priorityClassName")
    return labels.get("kueue.x-k8s.io/queue-name"), priority, spec.get("suspend", False)


@pytest.mark.case("queue-corrected")
def test_a_corrected_queue_reaches_the_job_and_without_one_it_runs(
    kubectl: Kubectl, operator: OperatorProcess, kubelet: FakeKubelet, namespace: str
) -> None:
    kubectl.apply(dataset(namespace))
    waits = f"Job {JOB} waits in queue no-such-queue to be admitted: no queue no-such-queue: this cluster has no Kueue"
    wait_message(kubectl, "recdataset", namespace, "d", waits)
    assert status(kubectl, "recdataset", namespace, "d")["phase"] == "Queued"
    assert placed(kubectl, namespace) == ("no-such-queue", "system-node-critical", True)
    change(kubectl, namespace, queueName="research", priorityClassName=None)
    eventually(lambda: placed(kubectl, namespace) == ("research", None, True), "the Job has the corrected queue")
    change(kubectl, namespace, queueName=None)
    wait_phase(kubectl, "recdataset", namespace, "d", "Succeeded")
    assert placed(kubectl, namespace) == (None, None, False)


@pytest.mark.case("queue-corrected")
def test_a_queue_that_does_not_exist_is_said_in_kueues_words(
    kubectl: Kubectl, operator: OperatorProcess, kubelet: FakeKubelet, namespace: str
) -> None:
    kubectl.apply(WORKLOADS)
    kubectl.run("wait", "--for=condition=Established", "crd/workloads.kueue.x-k8s.io", "--timeout=60s")
    try:
        kubectl.apply(dataset(namespace))
        eventually(lambda: "uid" in job(kubectl, namespace)["metadata"], "there is a Job")
        condition = {"type": "QuotaReserved", "status": "False", "reason": "Inadmissible"}
        labels = {"kueue.x-k8s.io/job-uid": job(kubectl, namespace)["metadata"]["uid"]}
        kubectl.apply(
            {
                "apiVersion": "kueue.x-k8s.io/v1beta1",
                "kind": "Workload",
                "metadata": {"name": "job-d", "namespace": namespace, "labels": labels},
                "status": {"conditions": [{**condition, "message": "LocalQueue no-such-queue doesn't exist"}]},
            }
        )
        said = "to be admitted: LocalQueue no-such-queue doesn't exist; correct spec.compute.queueName"
        wait_message(kubectl, "recdataset", namespace, "d", f"Job {JOB} waits in queue no-such-queue {said}")
    finally:
        kubectl.run("delete", "crd", "workloads.kueue.x-k8s.io")
