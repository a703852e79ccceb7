"""What is kept, on a real control plane: real deletion, garbage collection and preconditions; sweeps are played."""

import json
from typing import Any

from tests.support.fakekubelet import FakeKubelet
from tests.support.kubectl import Kubectl, eventually
from tests.support.operator import OperatorProcess
from tests.support.pipelines import SPEC
from tests.support.star import checkpoint, names, star, status, wait_phase

RETENTION = {"keepRuns": 1, "gracePeriodSeconds": 1}


def a_run(namespace: str, name: str, epochs: int) -> dict[str, Any]:
    """A run of the series `weekly` that trains in a way of its own."""
    spec = json.loads(json.dumps({**SPEC, "series": "weekly", "retention": RETENTION}))
    spec["sft"]["template"]["hyperparameters"]["epochs"] = epochs
    return star("StarPipeline", namespace, name, spec)


def test_the_run_before_the_last_goes_but_for_what_is_pinned(
    kubectl: Kubectl, operator: OperatorProcess, kubelet: FakeKubelet, namespace: str
) -> None:
    kubectl.apply(checkpoint(namespace), a_run(namespace, "first", 1))
    wait_phase(kubectl, "StarPipeline", namespace, "first", "Succeeded")
    kubectl.run("annotate", "recdataset", "first-dataset", "-n", namespace, "star.recsys.dev/pin=to look at")
    gone = status(kubectl, "SFTJob", namespace, "first-sft")["artifact"]
    kubectl.apply(a_run(namespace, "second", 2))
    wait_phase(kubectl, "StarPipeline", namespace, "second", "Succeeded")
    operator.kill()
    operator.start()
    eventually(lambda: names(kubectl, "sftjobs", namespace) == ["second-sft"], "the first run's stages are let go")
    eventually(
        lambda: names(kubectl, "checkpoints", namespace) == ["base", "second-grpo", "second-sft"], "its records go"
    )
    eventually(lambda: len(kubelet.sweeps) >= 2, "a second sweep follows after the grace period")
    first, second = kubelet.sweeps[0], kubelet.sweeps[-1]
    assert gone["digest"] in {letting.digest for letting in first.let_go}
    assert gone["digest"] in first.kept, "it is there still while it is marked"
    assert gone["digest"] not in second.kept
    assert not second.let_go
    assert status(kubectl, "SFTJob", namespace, "second-sft")["artifact"]["digest"] in second.recorded
    assert names(kubectl, "recdatasets", namespace) == ["first-dataset", "second-dataset"]
    assert names(kubectl, "starpipelines", namespace) == ["first", "second"], "it would take what is pinned along"
    kubectl.run("annotate", "recdataset", "first-dataset", "-n", namespace, "star.recsys.dev/pin-")
    eventually(lambda: names(kubectl, "starpipelines", namespace) == ["second"], "nothing keeps it any more")
