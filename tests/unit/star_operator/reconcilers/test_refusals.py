"""What the API server refuses is told within a pass, as whose it is, and goes on when it is allowed."""

import contextlib
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import yaml

from star_contracts.job import ModelSource
from star_operator.api.common import Compute, LLMServer, ModelRef
from star_operator.api.kinds import BY_KIND
from star_operator.api.meta import Scope
from star_operator.builders.keys import server_keys
from star_operator.builders.step import ServerPlan
from star_operator.core.errors import Refused
from star_operator.core.keys import KeyRing
from star_operator.core.objects import KubeObject
from star_operator.core.queue import Key, WorkQueue
from star_operator.core.reasons import ConditionReason
from star_operator.kube.resources import SERVICE, ResourceType
from star_operator.reconcilers.builds import acquire
from star_operator.reconcilers.recdataset import KIND
from star_operator.reconcilers.table import reconcilers
from tests.support.clock import Clock
from tests.support.fakecluster import FakeCluster
from tests.support.goldens import CHECKPOINT, settings
from tests.support.star import DATASET, star
from tests.unit.star_operator.reconcilers.conftest import NAMESPACE, World

SAMPLES = Path(__file__).parents[4] / "manifests" / "samples"
WAIT_BEFORE = ("StarDeployment", "Promotion")
"""Kinds that look for a resource by its name before they list anything."""
TOLD = "the operator has no right to list jobs"
QUOTA = "is forbidden: exceeded quota: objects, requested: count/{}=1, used: 0, limited: 0"


def samples() -> dict[str, KubeObject]:
    """One resource of each kind."""
    read = (body for path in sorted(SAMPLES.glob("*.yaml")) for body in yaml.safe_load_all(path.read_text()))
    return {body["kind"]: body for body in read if body and body["kind"] in BY_KIND}


class Blind(FakeCluster):
    """May list nothing."""

    refused = False

    async def list_objects(
        self,
        rtype: ResourceType,
        namespace: str | None,
        labels: Mapping[str, str] | None = None,
        fields: Mapping[str, str] | None = None,
    ) -> list[KubeObject]:
        self.refused = True
        raise Refused(ConditionReason.RIGHT_MISSING, TOLD)


@pytest.mark.parametrize("kind", BY_KIND)
async def test_a_list_that_is_refused_is_told_within_a_pass(kind: str) -> None:
    body = samples()[kind]
    namespace = NAMESPACE if BY_KIND[kind].INFO.scope is Scope.NAMESPACED else ""
    meta = {**body["metadata"], "namespace": namespace}
    cluster = Blind()
    cluster.add({**body, "metadata": meta if namespace else {"name": meta["name"]}})
    context = Clock(cluster, settings(), WorkQueue(time.monotonic))
    with contextlib.suppress(Refused):
        await reconcilers(context)[kind](Key(kind, namespace, meta["name"]))
        await reconcilers(context)[kind](Key(kind, namespace, meta["name"]))
    [status] = [one["status"] for one in cluster.of(kind)]
    [ready] = [one for one in status["conditions"] if one["type"] == "Ready"]
    assert status["phase"] == "Waiting"
    if cluster.refused:
        assert (ready["reason"], ready["message"]) == ("RightMissing", TOLD)
    else:
        assert kind in WAIT_BEFORE
        assert ready["reason"] == "InputMissing"


class Full(FakeCluster):
    """A namespace whose quota has no room for a kind."""

    full = ""

    async def apply(self, obj: KubeObject, *, manager: str = "") -> KubeObject:
        if obj["kind"] == self.full:
            raise Refused(ConditionReason.QUOTA_EXCEEDED, QUOTA.format(self.full))
        return await super().apply(obj, manager=manager)


@pytest.mark.parametrize("kind", ["Job", "ConfigMap"])
def test_a_quota_of_what_a_run_makes_is_waited_for_and_told_in_its_words(kind: str) -> None:
    world = World(KIND, star("RecDataset", NAMESPACE, "d", DATASET))
    full = Full()
    full.objects, full.full = world.cluster.objects, kind
    world.cluster = world.context.cluster = full
    with pytest.raises(Refused):
        world.passes(3)
    [ready] = [one for one in world.status["conditions"] if one["type"] == "Ready"]
    assert (world.status["phase"], ready["reason"]) == ("Waiting", "QuotaExceeded")
    assert QUOTA.format(kind) in ready["message"]
    full.full = ""
    world.passes(2)
    assert len(full.of("Job")) == 1
    assert world.status["phase"] == "Running"


@pytest.mark.parametrize("kind", ["Service", "Deployment", "StatefulSet", "ConfigMap", "Secret"])
async def test_a_quota_of_what_a_server_is_made_of_is_told_and_not_taken_for_a_server_that_starts(kind: str) -> None:
    cluster = Full()
    cluster.full = kind
    group = {"tensor_parallel_size": 16, "compute": Compute(pool="h20", nodes=2, gpus_per_node=8)}
    spec = LLMServer(model=ModelRef(uri="hf://org/model@v1"), **(group if kind == "StatefulSet" else {}))
    plan = ServerPlan(spec, ModelSource(artifact=CHECKPOINT))
    user: dict[str, Any] = {"uid": "u", "kind": "Evaluation", "name": "e", "apiVersion": "star.recsys.dev/v1alpha1"}
    with pytest.raises(Refused, match="exceeded quota: objects"):
        await acquire(cluster, plan, server_keys(NAMESPACE, plan, KeyRing()), user, settings())
    cluster.full = ""
    await acquire(cluster, plan, server_keys(NAMESPACE, plan, KeyRing()), user, settings())
    assert {"Service", "ConfigMap", kind} <= {obj["kind"] for obj in cluster.objects.values()}
    assert await cluster.get(SERVICE, NAMESPACE, plan.name) is not None
