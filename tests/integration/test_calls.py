"""What a run costs the API server, by the operator's own count."""

from collections import Counter

import httpx
from prometheus_client.parser import text_string_to_metric_families

from tests.support.fakekubelet import FakeKubelet
from tests.support.kubectl import Kubectl, eventually
from tests.support.operator import OperatorProcess
from tests.support.star import DATASET, star, wait_phase

MOST = 8
BESIDES = ("leases", "tokenreviews")
"""What is called for by time and by pods, and not by runs."""


def calls(operator: OperatorProcess) -> Counter[str]:
    """Calls so far, as `<verb> <resource>`."""
    text = httpx.get(f"http://127.0.0.1:{operator.health_port}/metrics", timeout=10).text
    found: Counter[str] = Counter()
    for family in text_string_to_metric_families(text):
        for sample in family.samples:
            if sample.name == "star_api_requests_total" and sample.labels["resource"] not in BESIDES:
                found[f"{sample.labels['verb']} {sample.labels['resource']}"] += int(sample.value)
    return found


def told(kubectl: Kubectl, namespace: str) -> set[str]:
    """Reasons of the Events about runs."""
    selector = "--field-selector=involvedObject.kind=RecDataset"
    return set(kubectl.run("get", "events", "-n", namespace, selector, "-o", "jsonpath={.items[*].reason}").split())


def without_lists(counted: Counter[str]) -> Counter[str]:
    return Counter({what: count for what, count in counted.items() if not what.startswith("list ")})


def rounds(operator: OperatorProcess) -> int:
    """Resyncs so far: nothing but these lists Jobs."""
    return calls(operator)["list jobs"]


def test_a_run_costs_few_calls_none_of_them_a_list_and_nothing_once_it_has_ended(
    kubectl: Kubectl, operator: OperatorProcess, kubelet: FakeKubelet, namespace: str
) -> None:
    before = calls(operator)
    kubectl.apply(star("RecDataset", namespace, "a", DATASET))
    wait_phase(kubectl, "recdataset", namespace, "a", "Succeeded")
    eventually(lambda: "Succeeded" in told(kubectl, namespace), "its end is told")
    ended = calls(operator)
    run = without_lists(ended - before)
    waits = len(told(kubectl, namespace) - {"Running", "Succeeded"})  # for a node, where it takes a while to find one
    assert sum(run.values()) <= MOST + 2 * waits, run
    begun = rounds(operator)
    lists = [count for what, count in ended.items() if what.startswith("list ")]
    assert max(lists) - min(lists) <= 1, "only resyncs list, each of them every kind once"
    eventually(lambda: rounds(operator) >= begun + 2, "it was looked at everything again", seconds=240)
    assert without_lists(calls(operator) - ended) == Counter(), "what has ended costs nothing"
