"""What the paper's experiments ask of H20 nodes, counted over the goldens' pods (paper 4.1, A.2, B.2)."""

from collections.abc import Iterator
from itertools import pairwise
from typing import Any

import pytest

from tests.support.goldens import children, resource

GPU = "nvidia.com/gpu"
GPUS = {
    "paper-teacher": [8, 8],
    "paper-mars-planner": [1, 8, 8],
    "paper-sft": [8],
    "paper-sft-32b": [8, 8],
    # The sampling step's eight servers; training.
    "paper-grpo": [1] * 8 + [8, 8],
    "paper-evaluation": [1] * 8,
    # The revision that served before, and the new one beside it.
    "paper-serve": [1, 1, 1, 1],
}
"""GPUs of each pod that has any, by case."""


def pods(case: str) -> Iterator[tuple[dict[str, Any], int]]:
    """(Pod spec, how many of it) of every workload of a case."""
    for child in children(resource(case)):
        spec = child.get("spec", {})
        if "template" in spec:
            yield spec["template"]["spec"], spec.get("completions", spec.get("replicas", 1))


def gpus(pod: dict[str, Any]) -> int:
    """GPUs that a pod's main container asks for."""
    return int(pod["containers"][0].get("resources", {}).get("limits", {}).get(GPU, 0))


@pytest.mark.parametrize("case", GPUS)
def test_gpus_of_every_pod(case: str) -> None:
    assert sorted(gpus(pod) for pod, count in pods(case) for _ in range(count) if gpus(pod)) == GPUS[case]


@pytest.mark.parametrize("case", GPUS)
def test_gpu_pods_go_to_h20_nodes_with_cuda_images_and_shared_memory(case: str) -> None:
    for pod, _ in pods(case):
        if gpus(pod):
            assert pod["nodeSelector"] == {"star.recsys.dev/pool": "h20"}
            assert {"key": GPU, "operator": "Exists", "effect": "NoSchedule"} in pod["tolerations"]
            assert ":cuda-" in pod["containers"][0]["image"]
            assert {"medium": "Memory", "sizeLimit": "64Gi"} in [volume.get("emptyDir") for volume in pod["volumes"]]


@pytest.mark.parametrize(("case", "groups"), [("paper-teacher", 2), ("paper-sft-32b", 1), ("paper-grpo", 1)])
def test_pods_of_a_group_have_rdma_and_prefer_one_zone(case: str, groups: int) -> None:
    found = [pod for pod, _ in pods(case) if "rdma/hca" in pod["containers"][0].get("resources", {}).get("limits", {})]
    assert len(found) == groups, "workloads whose pods work together"
    for pod in found:
        [preference] = pod["affinity"]["podAffinity"]["preferredDuringSchedulingIgnoredDuringExecution"]
        assert preference["podAffinityTerm"]["topologyKey"] == "topology.kubernetes.io/zone"


def test_the_teachers_engine_is_one_of_16_gpus_over_two_nodes() -> None:
    commands = [pod["containers"][0]["args"] for pod, _ in pods("paper-teacher") if gpus(pod)]
    for arguments in commands:
        flags = dict(pairwise(arguments))
        assert arguments[0] == "deepseek-ai/DeepSeek-V3"
        assert (flags["--tensor-parallel-size"], flags["--nnodes"]) == ("16", "2")
        assert flags["--dtype"] == "bfloat16"
    assert ["--headless" in arguments for arguments in commands] == [False, True]
