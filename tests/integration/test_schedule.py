"""A schedule over fifty namespaces of a real API server: its runs are there right after the tick, and once each."""

import json
import time
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

import pytest

from star_operator.core.times import parse_timestamp
from tests.support.fakekubelet import FakeKubelet
from tests.support.kubectl import Kubectl, eventually
from tests.support.operator import OperatorProcess
from tests.support.star import star

TENANTS = 50
PIPELINE = {"dataset": {"template": {"source": {"format": "MovieLens", "uri": "s3://star/raw/ml-100k"}}}}
EVERY_MINUTE = "* * * * *"


@pytest.fixture
def tenants(kubectl: Kubectl) -> list[str]:
    """Namespaces that take part in schedules of this test."""
    names = [f"tenant-{n:02d}" for n in range(TENANTS)]
    labels = {"star.recsys.dev/retrain": "true"}
    kubectl.apply(
        *({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name, "labels": labels}} for name in names)
    )
    return names


def schedule(name: str, **spec: Any) -> dict[str, Any]:
    found = star("RetrainSchedule", "", name, {"schedule": EVERY_MINUTE, "pipeline": PIPELINE, **spec})
    del found["metadata"]["namespace"]
    return found


def runs(kubectl: Kubectl, name: str) -> list[dict[str, Any]]:
    listed = kubectl.run("get", "sp", "-A", "-l", f"star.recsys.dev/schedule={name}", "-o", "json")
    found: list[dict[str, Any]] = json.loads(listed)["items"]
    return found


def taken(kubectl: Kubectl, name: str) -> Callable[[], bool]:
    def told() -> bool:
        return len(kubectl.get("rts", name).get("status", {}).get("tenants", [])) == TENANTS

    return told


def test_fifty_namespaces_runs_fire_right_after_the_tick_and_once_through_a_kill(
    kubectl: Kubectl, operator: OperatorProcess, kubelet: FakeKubelet, tenants: list[str]
) -> None:
    kubelet.ignored = lambda pod: True  # how runs go on does not matter
    kubectl.apply(schedule("minutely"))
    eventually(taken(kubectl, "minutely"), "the schedule knows its tenants")
    eventually(lambda: len(runs(kubectl, "minutely")) == TENANTS, "all have their run")
    late = sorted(
        (
            parse_timestamp(run["metadata"]["creationTimestamp"])
            - parse_timestamp(run["metadata"]["annotations"]["star.recsys.dev/tick"])
        ).total_seconds()
        for run in runs(kubectl, "minutely")
    )
    print(f"fire_p99_s {late[round(0.99 * (TENANTS - 1))]}")  # in whole seconds, as the API server keeps them
    assert late[-1] < 30, "none waited for a resync"
    assert {run["metadata"]["namespace"] for run in runs(kubectl, "minutely")} == set(tenants)
    assert len({run["metadata"]["name"] for run in runs(kubectl, "minutely")}) == 1
    kubectl.run("delete", "rts", "minutely")
    eventually(lambda: not runs(kubectl, "minutely"), "its runs go with it")


def test_an_operator_that_is_killed_in_the_middle_of_it_starts_none_twice(
    kubectl: Kubectl, operator: OperatorProcess, kubelet: FakeKubelet, tenants: list[str]
) -> None:
    kubelet.ignored = lambda pod: True
    kubectl.apply(schedule("killed", deletionPolicy="Orphan"))
    eventually(taken(kubectl, "killed"), "the schedule knows its tenants")
    deadline = time.monotonic() + 90
    while not runs(kubectl, "killed"):  # no pause: it is to be killed while it starts them
        assert time.monotonic() < deadline, "no run was started"
    operator.kill()
    operator.start()
    eventually(lambda: len(runs(kubectl, "killed")) >= TENANTS, "all have their run")
    kubectl.run("patch", "rts", "killed", "--type=merge", "-p", '{"spec":{"suspend":true}}')
    namespaces = [run["metadata"]["namespace"] for run in runs(kubectl, "killed")]
    assert sorted(namespaces) == tenants, "concurrencyPolicy Forbid: one each, whoever started it"
    kubectl.run("delete", "rts", "killed")
    assert len(runs(kubectl, "killed")) == TENANTS, "deletionPolicy Orphan: they stay"


def test_tenants_read_in_their_own_namespace_why_theirs_waits(
    kubectl: Kubectl, operator: OperatorProcess, kubelet: FakeKubelet, tenants: list[str]
) -> None:
    kubelet.ignored = lambda pod: True
    selected = {"matchLabels": {"kubernetes.io/metadata.name": tenants[0]}}
    kubectl.apply(schedule("told", namespaceSelector=selected, windows=[_shut()]))
    where = ("get", "events", "-n", tenants[0], "--field-selector", "involvedObject.kind=Namespace,reason=WindowClosed")

    def told() -> bool:
        return "RetrainSchedule told: the run of" in kubectl.run(*where, "-o", "jsonpath={.items[*].message}")

    eventually(told, "an Event says that no window is open")
    kubectl.run("annotate", "rts", "told", f"star.recsys.dev/run-now={tenants[0]}")
    eventually(lambda: len(runs(kubectl, "told")) == 1, "a person may start it all the same")
    eventually(
        lambda: "run-now" not in str(kubectl.get("rts", "told")["metadata"].get("annotations")), "it is taken off"
    )
    kubectl.run("delete", "rts", "told")


def _shut() -> dict[str, str]:
    """A window that opens half a day from now."""
    hour = (datetime.now(UTC).hour + 12) % 24
    return {"start": f"{hour:02d}:00", "end": f"{hour:02d}:30"}
