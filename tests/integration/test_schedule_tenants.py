"""Schedules among tenants on a real API server: forged runs, overrides that a rule refuses, and drift."""

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import httpx
import pytest

from star_contracts.artifact import Inventory
from star_contracts.base import value_hash
from star_contracts.job import JobSpec
from star_contracts.online import ONLINE_PATH
from star_contracts.result import JobResult
from tests.support.fakekubelet import FakeKubelet, succeed
from tests.support.kubectl import Kubectl, eventually
from tests.support.operator import OperatorProcess
from tests.support.star import DATASET, DIGEST, checkpoint, star, wait_phase

PIPELINE: dict[str, Any] = {
    "dataset": {"template": {"source": {"format": "MovieLens", "uri": "s3://star/raw/ml-100k"}}}
}
REVISION = DIGEST.removeprefix("sha256:")[:12]


@pytest.fixture
def tenant(kubectl: Kubectl, namespace: str) -> Iterator[str]:
    """A namespace that takes part; only the schedules of this test select it."""
    kubectl.run("label", "namespace", namespace, "star.recsys.dev/retrain=true", f"test={namespace}")
    yield namespace
    kubectl.run("delete", "rts", "-l", f"test={namespace}")


def schedule(namespace: str, name: str, **spec: Any) -> dict[str, Any]:
    selector = {"matchLabels": {"test": namespace}}
    found = star("RetrainSchedule", "", name, {"schedule": "* * * * *", "namespaceSelector": selector, **spec})
    del found["metadata"]["namespace"]
    found["metadata"]["labels"] = {"test": namespace}
    return found


def row(kubectl: Kubectl, name: str, namespace: str) -> dict[str, Any]:
    rows = kubectl.get("rts", name).get("status", {}).get("tenants", [])
    return next((one for one in rows if one["namespace"] == namespace), {})


def records(kubectl: Kubectl, name: str) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = kubectl.get("rts", name).get("status", {}).get("runs", [])
    return found


@pytest.mark.timeout(600)
def test_a_forged_run_is_told_of_and_the_true_one_is_recorded_by_its_uid(
    kubectl: Kubectl, operator: OperatorProcess, kubelet: FakeKubelet, tenant: str
) -> None:
    kubelet.ignored = lambda pod: True
    name = f"f-{tenant}"
    start = datetime.now(UTC)
    forged = [f"{name}-{start + timedelta(minutes=n):%Y%m%d-%H%M}" for n in (1, 2)]
    for one in forged:
        fake = star("StarPipeline", tenant, one, {**PIPELINE, "series": name})
        fake["metadata"]["labels"] = {"star.recsys.dev/schedule": name}
        kubectl.apply(fake)
    kubectl.apply(schedule(tenant, name, pipeline=PIPELINE))
    eventually(lambda: row(kubectl, name, tenant).get("reason") == "NameTaken", "it is told of", 150)
    assert records(kubectl, name) == []
    kubectl.run("delete", "sp", "-n", tenant, *forged)
    eventually(lambda: any(one.get("uid") for one in records(kubectl, name)), "the run is made, and recorded", 150)
    [record] = records(kubectl, name)
    [run] = kubectl.list("sp", tenant)
    assert run["metadata"]["uid"] == record["uid"]
    assert not record.get("spec")


@pytest.mark.bad_input
def test_overrides_that_a_rule_refuses_are_told_in_its_words(
    kubectl: Kubectl, operator: OperatorProcess, kubelet: FakeKubelet, tenant: str
) -> None:
    kubelet.ignored = lambda pod: True
    name, patch = f"o-{tenant}", "dataset: {template: {compute: {nodes: 2, gpusPerNode: 1}}}"
    meta = {"name": "ours", "namespace": tenant}
    kubectl.apply({"apiVersion": "v1", "kind": "ConfigMap", "metadata": meta, "data": {"pipeline.yaml": patch}})
    kubectl.apply(schedule(tenant, name, pipeline=PIPELINE, overrides={"name": "ours"}))
    eventually(lambda: row(kubectl, name, tenant).get("reason") == "OverridesInvalid", "it is told", 150)
    message = row(kubectl, name, tenant)["message"]
    assert "with ConfigMap ours, where there is one, over it, is refused: spec.dataset.template" in message
    assert "Invalid value" not in message
    assert records(kubectl, name) == []


@pytest.mark.timeout(900)
def test_figures_that_gateways_report_make_a_run_once_they_are_low(
    kubectl: Kubectl, operator: OperatorProcess, kubelet: FakeKubelet, tenant: str
) -> None:
    live = star("StarDeployment", tenant, "live", {"checkpoint": {"checkpoint": "base"}, "dataset": {"name": "d"}})
    kubectl.apply(checkpoint(tenant), star("RecDataset", tenant, "d", DATASET), live)
    wait_phase(kubectl, "StarDeployment", tenant, "live", "Ready")
    name, uid = f"d-{tenant}", kubectl.get("stardeployment", "live", tenant)["metadata"]["uid"]
    use = {"use": {"uri": "s3://star/models/base", "digest": DIGEST}}
    pipeline = {**PIPELINE, "grpo": use, "deployment": {"use": {"name": "live"}}}
    drift = {"metric": "online.hr1", "below": 0.3, "forSeconds": 0, "minChosen": 50}
    kubectl.apply(schedule(tenant, name, pipeline=pipeline, trigger={"type": "Drift", "drift": drift}))
    token = kubectl.run("create", "token", "default", "-n", tenant, "--audience=star-operator").strip()

    def report(instance: str, hits: int, namespace: str = tenant) -> int:
        """Send it as a gateway does: who is told that this is too often tries again later."""
        counts = {"recommendations": 300, "chosen": 100, "hits1": hits, "hits3": 60, "hits5": 90}
        target = {"url": "http://x", "namespace": namespace, "name": "live", "uid": uid}
        body = {"target": target, "instance": instance, "revisions": {REVISION: counts}}
        url = f"http://127.0.0.1:{operator.progress_port}{ONLINE_PATH}"
        return httpx.post(url, json=body, headers={"Authorization": f"Bearer {token}"}, timeout=30).status_code

    def told() -> dict[str, Any]:
        found: dict[str, Any] = kubectl.get("stardeployment", "live", tenant).get("status", {})
        return found

    assert report("a", 50, "star-system") == 403, "a tenant speaks of its own namespace alone"

    def both_heard() -> bool:
        assert {report("a", 50), report("b", 10)} <= {202, 429}
        return told().get("online", {}).get("chosen") == 200

    eventually(both_heard, "both gateways' counts are added up", 150)
    assert told()["metrics"]["online.hr1"] == 0.3
    assert told()["online"]["revision"] == REVISION
    eventually(lambda: row(kubectl, name, tenant).get("reason") == "NotDrifted", "0.3 is not below 0.3", 150)

    def drifted() -> bool:
        assert {report("a", 20), report("b", 10)} <= {202, 429}
        return bool(records(kubectl, name))

    eventually(drifted, "the figures fell, and a run is made", 240)
    assert told()["metrics"]["online.hr1"] == 0.15


@pytest.mark.timeout(900)
def test_new_data_is_found_by_a_listing_and_the_same_data_makes_no_second_run(
    kubectl: Kubectl, operator: OperatorProcess, kubelet: FakeKubelet, tenant: str
) -> None:
    name = f"n-{tenant}"

    def prepared(spec: JobSpec, pod: dict[str, Any]) -> JobResult:
        return succeed(spec, pod).model_copy(update={"source": kubelet.source})

    kubelet.script = prepared
    kubectl.apply(schedule(tenant, name, pipeline=PIPELINE, trigger={"type": "NewData"}))
    eventually(lambda: len(records(kubectl, name)) == 1, "the first look finds new data", 150)
    eventually(lambda: row(kubectl, name, tenant).get("reason") == "NothingNew", "the next one finds the same", 200)
    assert len(records(kubectl, name)) == 1
    assert len(kubectl.list("recdatasets", tenant)) == 1, "nothing is prepared to find that out"
    kubelet.source = Inventory(digest=value_hash("week 2"), objects=2, bytes=2)
    eventually(lambda: len(records(kubectl, name)) == 2, "and then there is more", 200)
