"""Where a pod stands in its group."""

import pytest

from star_contracts.errors import Reason
from star_jobs.errors import TerminalFailure
from star_jobs.training.cluster import Node, first_host, this_node


def test_alone() -> None:
    assert this_node(1, 3, {"MASTER_ADDR": "elsewhere"}) == Node(rank=0, nodes=1, master="127.0.0.1")
    assert this_node(1, 0, {}).leads


def test_in_a_group() -> None:
    node = this_node(2, 1, {"MASTER_ADDR": "job-0.svc", "MASTER_PORT": "1234"})
    assert node == Node(rank=1, nodes=2, master="job-0.svc", port=1234)
    assert not node.leads


def test_the_first_pods_name_follows_from_ones_own() -> None:
    assert first_host("sft-a-1-train-3.sft-a-1-train.ns.svc.cluster.local") == (
        "sft-a-1-train-0.sft-a-1-train.ns.svc.cluster.local"
    )
    assert this_node(2, 1, {}, "job-1").master == "job-0"


@pytest.mark.bad_input
def test_a_pod_too_many() -> None:
    with pytest.raises(TerminalFailure, match="only 2 nodes") as raised:
        this_node(2, 2, {})
    assert raised.value.reason is Reason.INVALID_JOB_SPEC


@pytest.mark.bad_input
def test_a_host_name_that_is_no_indexed_jobs() -> None:
    with pytest.raises(TerminalFailure, match="MASTER_ADDR"):
        first_host("laptop")
