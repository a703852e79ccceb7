"""Who reaches whom, with all policies of a namespace in force."""

from itertools import product
from typing import Any

import pytest

from star_contracts.job import Store
from star_operator.builders.network import namespace_policies
from star_operator.core.labels import EGRESS_LABEL, INSIDE, LABEL_COMPONENT, LABEL_SERVER, OURS
from star_operator.core.network import IPBlock, Peer, PodNetwork, Selector
from star_operator.core.objects import KubeObject
from star_operator.core.outside import Proxy
from star_operator.core.settings import Settings
from tests.support import goldens
from tests.support.goldens import CASES, children, resource, settings
from tests.support.netpol import End, lets_through, pod_of

WORKLOADS = ("Job", "Deployment", "StatefulSet")
STRANGER = End({"app": "curl"}, "default")
METADATA = End(address="169.254.169.254")
SOMEWHERE = End(address="203.0.113.7")
DNS = End({"k8s-app": "kube-dns"}, "kube-system")
OPERATOR = End({"app.kubernetes.io/name": "star-operator"}, "star-system")


def made(case: str) -> tuple[dict[str, End], list[KubeObject]]:
    """The pods of a golden case by the name of what has them, and all policies of its namespace."""
    objects = children(resource(case))
    pods = {one["metadata"]["name"]: pod_of(one) for one in objects if one["kind"] in WORKLOADS}
    own = [one for one in objects if one["kind"] == "NetworkPolicy"]
    return pods, [*namespace_policies("default", settings()), *own]


def with_network(**changes: Any) -> Settings:
    return settings().model_copy(update={"network": PodNetwork(**changes)})


def base(changed: Settings) -> list[KubeObject]:
    return namespace_policies("default", changed)


POD = End({**OURS, EGRESS_LABEL: INSIDE}, "default")


@pytest.mark.parametrize("case", [case for case in CASES if made(case)[0]])
def test_every_pod_has_the_common_ways_and_no_others(case: str) -> None:
    pods, policies = made(case)
    for name, pod in pods.items():
        assert lets_through(policies, pod, DNS, 53, "UDP"), name
        assert lets_through(policies, pod, DNS, 5353), name
        assert not lets_through(policies, pod, DNS, 8080), name
        assert lets_through(policies, pod, SOMEWHERE, 443), f"{name}: the store, which is AWS here"
        assert lets_through(policies, pod, OPERATOR, 8081), name
        assert not lets_through(policies, pod, METADATA, 80), name
        assert not lets_through(policies, pod, STRANGER, 8080), name
        assert not lets_through(policies, pod, End({}, "other"), 443), name


@pytest.mark.parametrize("case", [case for case in CASES if made(case)[0]])
def test_nobody_is_let_in_but_a_gateways_callers(case: str) -> None:
    pods, policies = made(case)
    for (name, pod), port in product(pods.items(), (8000, 8080, 8099, 6379, 29500, 29501)):
        open_to_all = pod.labels.get(LABEL_COMPONENT) == "gateway" and port == 8080
        for stranger in (STRANGER, End({}, "other"), End(dict(OURS), "other")):
            assert lets_through(policies, stranger, pod, port) is open_to_all, (name, port)


def test_a_server_answers_its_own_users_and_no_other_job() -> None:
    pods, policies = made("teacherrun-h20-two-nodes")
    [server] = {pod.labels[LABEL_SERVER] for pod in pods.values() if LABEL_SERVER in pod.labels}
    leader, worker = pods[f"{server}-0"], pods[f"{server}-0-w"]
    user, collector = pods["deepseek-tr-1-generate"], pods["deepseek-tr-1-collect"]
    assert lets_through(policies, user, leader, 8000)
    assert not lets_through(policies, user, leader, 29501)
    assert not lets_through(policies, collector, leader, 8000), "it uses no server"
    assert lets_through(policies, worker, leader, 29501)
    assert lets_through(policies, leader, worker, 40000), "engines choose their ports"
    pretender = End({**OURS, "star.recsys.dev/uses-llm-other": "true"}, "default")
    assert not lets_through(policies, pretender, leader, 8000)


def test_a_group_reaches_itself_at_all_ports_and_its_sampling_does_not() -> None:
    pods, policies = made("grpojob-h20")
    group, sampler = pods["qwen3-8b-grpo-1-train"], pods["qwen3-8b-grpo-1-sample"]
    assert lets_through(policies, group, group, 6379)
    assert lets_through(policies, group, group, 41234)
    assert not lets_through(policies, sampler, group, 6379)
    assert not lets_through(policies, sampler, sampler, 8099)


def test_only_the_gateway_reaches_what_serves() -> None:
    pods, policies = made("stardeployment-h20")
    servers = [pod for pod in pods.values() if LABEL_SERVER in pod.labels and pod.labels[LABEL_COMPONENT] == "vllm"]
    [gateway] = [pod for pod in pods.values() if pod.labels.get(LABEL_COMPONENT) == "gateway"]
    job = End({**OURS, "star.recsys.dev/step": "evaluate"}, "default")
    assert servers
    for server in servers:
        assert lets_through(policies, gateway, server, 8000)
        assert not lets_through(policies, job, server, 8000)
    assert lets_through(policies, STRANGER, gateway, 8080)
    assert not lets_through(policies, STRANGER, gateway, 9999)


def test_who_may_reach_gateways_and_read_metrics_is_the_platforms_to_say() -> None:
    shop = Peer(namespace_selector=Selector(match_labels={"kubernetes.io/metadata.name": "shop"}))
    watcher = Peer(namespace_selector=Selector(match_labels={"kubernetes.io/metadata.name": "monitoring"}))
    changed = with_network(gateway_callers=(shop,), scrapers=(watcher,))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(goldens, "settings", lambda: changed)
        pods, policies = made("stardeployment-cpu")
    gateway = next(pod for pod in pods.values() if pod.labels.get(LABEL_COMPONENT) == "gateway")
    server = next(pod for pod in pods.values() if LABEL_SERVER in pod.labels)
    assert lets_through(policies, End({}, "shop"), gateway, 8080)
    assert not lets_through(policies, End({}, "other"), gateway, 8080)
    assert lets_through(policies, End({}, "monitoring"), server, 8000)
    assert not lets_through(policies, End({}, "monitoring"), server, 29501)


STORES = {
    "a Service": ("http://minio.storage.svc.cluster.local:9000", End({}, "storage"), 9000),
    "an address": ("http://10.1.2.3:7070", End(address="10.1.2.3"), 7070),
    "an address of version 6": ("http://[2001:db8::1]:7070", End(address="2001:db8::1"), 7070),
    "a host": ("https://s3.example", SOMEWHERE, 443),
    "a host without TLS": ("http://s3.example", SOMEWHERE, 80),
}


@pytest.mark.parametrize("store", STORES)
def test_the_way_to_the_store_follows_from_its_endpoint(store: str) -> None:
    endpoint, there, port = STORES[store]
    elsewhere = End(address="10.9.9.9") if there.address != SOMEWHERE.address else End({}, "storage")
    changed = settings().model_copy(
        update={"store": settings().store.model_copy(update={"connection": Store(endpoint=endpoint)})}
    )
    policies = base(changed)
    assert lets_through(policies, POD, there, port)
    assert not lets_through(policies, POD, elsewhere, port)
    assert not lets_through(policies, POD, SOMEWHERE, 22)


def test_the_platform_can_say_where_the_store_is() -> None:
    policies = base(with_network(store=(Peer(ip_block=IPBlock(cidr="10.0.0.0/8", except_=("10.5.0.0/16",))),)))
    assert lets_through(policies, POD, End(address="10.1.1.1"), 7070)
    assert not lets_through(policies, POD, End(address="10.5.1.1"), 7070)
    assert not lets_through(policies, POD, SOMEWHERE, 443)


def test_a_proxy_is_reached() -> None:
    changed = settings().model_copy(update={"proxy": Proxy(https="http://10.0.0.9:3128")})
    assert lets_through(base(changed), POD, End(address="10.0.0.9"), 3128)


def test_pods_that_take_a_role_reach_where_it_is_given() -> None:
    store = settings().store.model_copy(
        update={"secret_name": "", "connection": Store(endpoint="http://10.1.2.3:7070")}
    )
    policies = base(settings().model_copy(update={"store": store}))
    assert lets_through(policies, POD, SOMEWHERE, 443), "the cloud's STS"
    assert lets_through(policies, POD, End(address="169.254.170.23"), 80), "EKS Pod Identity"
    assert not lets_through(policies, POD, METADATA, 80), "the node's own role"


def test_further_ways_are_added_for_all() -> None:
    rule = {"to": [{"ipBlock": {"cidr": "192.0.2.0/24"}}], "ports": [{"port": 15012, "protocol": "TCP"}]}
    assert lets_through(base(with_network(egress=(rule,))), POD, End(address="192.0.2.1"), 15012)


def test_switched_off_there_is_none() -> None:
    off = with_network(enabled=False)
    assert base(off) == []
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(goldens, "settings", lambda: off)
        kinds = {obj["kind"] for case in CASES for obj in children(resource(case))}
    assert "NetworkPolicy" not in kinds


def test_the_outside_is_open_to_those_who_call_it() -> None:
    pods, policies = made("teacherrun-endpoint")
    caller = next(pod for name, pod in pods.items() if "generate" in name)
    collector = next(pod for name, pod in pods.items() if "collect" in name)
    assert lets_through(policies, caller, SOMEWHERE, 8443)
    assert not lets_through(policies, caller, METADATA, 80)
    assert not lets_through(policies, collector, SOMEWHERE, 8443)
    only = with_network(outside=(Peer(ip_block=IPBlock(cidr="198.51.100.0/24")),))
    assert not lets_through(base(only), caller, SOMEWHERE, 8443)
    assert lets_through(base(only), caller, End(address="198.51.100.1"), 8443)


OUTSIDE = {
    "teacherrun-endpoint": {"generate"},  # an endpoint outside
    "sftjob-cpu": set(),
    "sftjob-h20-group": {"train"},  # a hub's model
    "grpojob-h20": set(),  # a checkpoint
    "recdataset": set(),
    "evaluation-baselines": set(),
}


@pytest.mark.parametrize("case", OUTSIDE)
def test_who_goes_outside_says_so(case: str) -> None:
    jobs = [obj for obj in children(resource(case)) if obj["kind"] == "Job"]
    labels = [obj["spec"]["template"]["metadata"]["labels"] for obj in jobs]
    assert {one["star.recsys.dev/step"] for one in labels if one.get(EGRESS_LABEL) == "outside"} == OUTSIDE[case]


def test_pods_of_a_version_without_policies_are_left_alone() -> None:
    running = End({**OURS, "star.recsys.dev/step": "generate"}, "default")
    assert lets_through(base(settings()), running, SOMEWHERE, 8443)
