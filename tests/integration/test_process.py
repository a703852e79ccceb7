"""The operator as a process: progress reports, probes, metrics, one leader at a time."""

import json
from datetime import datetime, timedelta
from pathlib import Path

import httpx
import pytest

from star_cli.local.controlplane import ControlPlane
from star_contracts.progress import TOKEN_AUDIENCE, ProgressReport, ProgressTarget
from star_operator.kube.lease import DURATION_SECONDS, FORMAT
from tests.support.fakekubelet import RUNNING, FakeKubelet
from tests.support.kubectl import Kubectl, eventually
from tests.support.operator import OperatorProcess
from tests.support.star import DATASET, star, status


def token(kubectl: Kubectl, namespace: str, audience: str) -> str:
    return kubectl.run("create", "token", "default", "-n", namespace, "--audience", audience).strip()


def report(kubectl: Kubectl, namespace: str, done: int) -> str:
    uid = kubectl.get("recdataset", "a", namespace)["metadata"]["uid"]
    target = ProgressTarget(
        url="http://unused", kind="RecDataset", namespace=namespace, name="a", uid=uid, attempt=1, step="prepare"
    )
    made = ProgressReport(target=target, done=done, total=100, unit="lines", metrics={"malformed": 1})
    return made.model_dump_json(by_alias=True)


def test_a_report_with_the_pods_token_reaches_the_status(
    kubectl: Kubectl, operator: OperatorProcess, kubelet: FakeKubelet, namespace: str
) -> None:
    kubelet.script = lambda spec, pod: RUNNING
    kubectl.apply(star("RecDataset", namespace, "a", DATASET))
    eventually(lambda: kubelet.started[f"{namespace}/a-rds-1-prepare"] == 1, "the pod runs")
    url = f"http://127.0.0.1:{operator.progress_port}/v1/progress"
    headers = {"Authorization": f"Bearer {token(kubectl, namespace, TOKEN_AUDIENCE)}"}
    assert httpx.post(url, content=report(kubectl, namespace, 40), headers=headers).status_code == 202
    eventually(
        lambda: status(kubectl, "recdataset", namespace, "a").get("progressText") == "40/100 lines",
        "the progress is shown",
    )
    assert status(kubectl, "recdataset", namespace, "a")["metrics"]["malformed"] == 1


def test_the_progress_goes_on_where_it_was_when_the_operator_starts_anew(
    kubectl: Kubectl, operator: OperatorProcess, kubelet: FakeKubelet, namespace: str
) -> None:
    kubelet.script = lambda spec, pod: RUNNING
    kubectl.apply(star("RecDataset", namespace, "a", DATASET))
    eventually(lambda: kubelet.started[f"{namespace}/a-rds-1-prepare"] == 1, "the pod runs")
    headers = {"Authorization": f"Bearer {token(kubectl, namespace, TOKEN_AUDIENCE)}"}

    def send(shard: int, done: int) -> None:
        content = json.dumps({**json.loads(report(kubectl, namespace, done)), "shard": shard, "shards": 2})
        url = f"http://127.0.0.1:{operator.progress_port}/v1/progress"
        assert httpx.post(url, content=content, headers=headers).status_code == 202

    def shows(text: str) -> bool:
        return status(kubectl, "recdataset", namespace, "a").get("progressText") == text

    send(0, 40)
    send(1, 100)
    eventually(lambda: shows("140/200 lines"), "both shards count")
    operator.kill()
    operator.start()
    send(0, 50)
    eventually(lambda: shows("150/200 lines"), "the shard that says nothing more still counts")


def test_a_report_without_the_right_to_send_it_is_refused(
    kubectl: Kubectl, operator: OperatorProcess, kubelet: FakeKubelet, namespace: str
) -> None:
    kubelet.script = lambda spec, pod: RUNNING
    kubectl.apply(star("RecDataset", namespace, "a", DATASET))
    url = f"http://127.0.0.1:{operator.progress_port}/v1/progress"
    body = report(kubectl, namespace, 40)

    def answer(headers: dict[str, str], content: str = body) -> int:
        return httpx.post(url, content=content, headers=headers).status_code

    good = {"Authorization": f"Bearer {token(kubectl, namespace, TOKEN_AUDIENCE)}"}
    assert answer({}) == 401
    assert answer({"Authorization": "Bearer nonsense"}) == 401
    other_audience = token(kubectl, namespace, "https://kubernetes.default.svc")
    assert answer({"Authorization": f"Bearer {other_audience}"}) == 401
    forged = good["Authorization"][:-4] + "AAAA"
    assert answer({"Authorization": forged}) == 401
    other_namespace = token(kubectl, "default", TOKEN_AUDIENCE)
    assert answer({"Authorization": f"Bearer {other_namespace}"}) == 403
    assert answer(good, json.dumps({"done": -1})) == 400
    assert "progressText" not in status(kubectl, "recdataset", namespace, "a") or (
        status(kubectl, "recdataset", namespace, "a")["progressText"] == ""
    )


def test_probes_and_metrics_answer(operator: OperatorProcess) -> None:
    base = f"http://127.0.0.1:{operator.health_port}"
    assert httpx.get(f"{base}/healthz").status_code == 200
    eventually(operator.ready, "an operator that lost its lease on a busy machine is there again")
    assert httpx.get(f"{base}/readyz").status_code == 200
    text = httpx.get(f"{base}/metrics").text
    assert "star_leader 1.0" in text
    assert "star_reconcile_duration_seconds_bucket" in text or "star_reconcile_total" in text


def test_a_second_replica_stands_by_until_the_first_is_gone(
    kubectl: Kubectl,
    control_plane: ControlPlane,
    operator: OperatorProcess,
    kubelet: FakeKubelet,
    namespace: str,
    tmp_path_factory: pytest.TempPathFactory,
) -> None:
    """The first one is killed, and gives nothing up: the lease runs out by the second one's clock."""
    kubelet.script = lambda spec, pod: RUNNING
    kubectl.apply(star("RecDataset", namespace, "a", DATASET))
    eventually(lambda: kubelet.started[f"{namespace}/a-rds-1-prepare"] == 1, "the pod runs")
    headers = {"Authorization": f"Bearer {token(kubectl, namespace, TOKEN_AUDIENCE)}"}
    folder: Path = tmp_path_factory.mktemp("second")
    second = OperatorProcess(control_plane.service_account_kubeconfig("star-system", "star-operator"), folder)
    second.start(leading=False)

    def send(to: OperatorProcess) -> httpx.Response:
        url = f"http://127.0.0.1:{to.progress_port}/v1/progress"
        return httpx.post(url, content=report(kubectl, namespace, 40), headers=headers)

    try:
        assert not second.leads()
        assert httpx.get(f"http://127.0.0.1:{second.health_port}/healthz").status_code == 200
        refused = send(second)
        assert (refused.status_code, refused.headers["Retry-After"]) == (503, "1")
        before = kubectl.get("lease", "star-operator", "star-system")["spec"]
        operator.kill()
        last = kubectl.get("lease", "star-operator", "star-system")["spec"]
        eventually(second.leads, "the second replica leads", 60)
        lease = kubectl.get("lease", "star-operator", "star-system")["spec"]
        renewed, taken = (datetime.strptime(text, FORMAT) for text in (last["renewTime"], lease["acquireTime"]))
        assert taken - renewed >= timedelta(seconds=DURATION_SECONDS), "unit tests say how soon after that"
        assert lease["leaseTransitions"] == before["leaseTransitions"] + 1
        eventually(lambda: send(second).status_code == 202, "the second replica takes reports")
        eventually(
            lambda: status(kubectl, "recdataset", namespace, "a").get("progressText") == "40/100 lines",
            "what the second replica was told is shown",
        )
    finally:
        second.stop()
