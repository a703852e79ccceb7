"""What a run costs the API server, by the operator's own count."""

import contextlib
from collections import Counter

import httpx
import pytest
from prometheus_client.parser import text_string_to_metric_families

from star_operator.kube.indexes import CACHED
from tests.support.fakekubelet import FakeKubelet
from tests.support.kubectl import Kubectl, eventually
from tests.support.operator import OperatorProcess
from tests.support.star import DATASET, star, wait_phase

MOST = 8
BESIDES = ("leases", "tokenreviews", "networkpolicies")
"""What is called for by time, by pods and by namespaces, and not by runs."""


def calls(operator: OperatorProcess) -> Counter[str]:
    """Calls so far, as `<verb> <resource>`."""
    text = httpx.get(f"http://127.0.0.1:{operator.health_port}/metrics", timeout=10).text
    found: Counter[str] = Counter()
    for family in text_string_to_metric_families(text):
        for sample in family.samples:
            if sample.name == "star_api_requests_total" and sample.labels["resource"] not in BESIDES:
                found[f"{sample.labels['verb']} {sample.labels['resource']}"] += int(sample.value)
    return found


def told(kubectl: Kubectl, namespace: str, name: str) -> set[str]:
    """Reasons of the Events about a run."""
    selector = f"--field-selector=involvedObject.kind=RecDataset,involvedObject.name={name}"
    return set(kubectl.run("get", "events", "-n", namespace, selector, "-o", "jsonpath={.items[*].reason}").split())


def without_lists(counted: Counter[str]) -> Counter[str]:
    return Counter({what: count for what, count in counted.items() if not what.startswith("list ")})


def test_a_run_costs_few_calls_none_of_them_a_list_and_nothing_once_it_has_ended(
    kubectl: Kubectl, operator: OperatorProcess, kubelet: FakeKubelet, namespace: str
) -> None:
    for name in ("a", "b", "c"):
        begun = operator.pid
        with contextlib.suppress(httpx.TransportError):
            counted = _counted(kubectl, operator, namespace, name)
            if operator.pid == begun:
                break
        eventually(operator.ready, "the operator that lost its lease is there again, and counts anew")
    else:
        pytest.fail("no operator has kept its lease for as long as a run takes")
    run, lists, idle = counted
    states = run["create events"] + run["patch events"]  # two, but where a node takes a while to be found
    writes = run["patch recdatasets/status"]
    assert writes <= states + 1, "its start is told nobody, and each state after it once"
    rest = sum(run.values()) - states - writes - run["get events"]
    assert rest + states + writes <= MOST + 2 * (states - 2), run
    resynced = {f"list {rtype.plural}" for rtype in CACHED.values()}
    assert set(lists) <= resynced, "nothing is listed for a run"
    rounds = [lists[what] for what in resynced]
    assert max(rounds) - min(rounds) <= 1, "only resyncs list, each of them every kind once"
    assert idle == Counter(), "what has ended costs nothing"


def _counted(
    kubectl: Kubectl, operator: OperatorProcess, namespace: str, name: str
) -> tuple[Counter[str], Counter[str], Counter[str]]:
    """Return the calls of a run, how often each kind was listed meanwhile, and the calls of two resyncs after it."""
    before = calls(operator)
    kubectl.apply(star("RecDataset", namespace, name, DATASET))
    wait_phase(kubectl, "recdataset", namespace, name, "Succeeded")
    eventually(lambda: "Succeeded" in told(kubectl, namespace, name), "its end is told")
    ended = calls(operator)
    lists = Counter({what: count for what, count in (ended - before).items() if what.startswith("list ")})
    rounds = ended["list jobs"]
    eventually(lambda: calls(operator)["list jobs"] >= rounds + 2, "all is looked at again", seconds=240)
    return without_lists(ended - before), lists, without_lists(calls(operator) - ended)
