"""Keys are there before the pods that need them, the same ones on both sides, and nowhere that people look."""

import json
from typing import Any

import pytest

from star_operator.core.errors import Retryable
from star_operator.core.objects import KubeObject
from star_operator.reconcilers import evaluation
from tests.unit.star_operator.reconcilers.conftest import NAMESPACE, STORE_SECRET
from tests.unit.star_operator.reconcilers.conftest import World as Run
from tests.unit.star_operator.reconcilers.test_asking import ASKING, LOST, server, world
from tests.unit.star_operator.reconcilers.test_stardeployment import World as Serving


def secrets(cluster: Any) -> list[KubeObject]:
    return [one for one in cluster.of("Secret") if one["metadata"]["name"] != STORE_SECRET]


def keys(cluster: Any) -> set[str]:
    return {key for one in secrets(cluster) for key in one["stringData"].values()}


def shown(cluster: Any) -> str:
    """Everything there is but Secrets."""
    return json.dumps([obj for (kind, _, _), obj in cluster.objects.items() if kind != "Secret"])


@pytest.fixture
def run() -> Run:
    """An Evaluation whose pod asks for its server."""
    started = world(evaluation.KIND, "Evaluation", {"llm": server("base"), "settings": {"tools": False}})
    started.passes(1)
    started.pod(ASKING)
    started.passes(1)
    return started


def test_a_run_and_its_server_have_one_key_before_they_start(run: Run) -> None:
    servers, mine = secrets(run.cluster)
    name = servers["metadata"]["name"]
    assert mine["stringData"] == {name: servers["stringData"]["server"]}
    [anchor] = run.cluster.of("Service")
    assert servers["metadata"]["ownerReferences"] == [
        {"apiVersion": "v1", "kind": "Service", "name": name, "uid": anchor["metadata"]["uid"]}
    ]
    assert [one["kind"] for one in mine["metadata"]["ownerReferences"]] == ["Evaluation"]
    writes = run.cluster.writes
    job = next(number for number, write in enumerate(writes) if write.startswith("apply Job/"))
    assert writes.index(f"apply Secret/{mine['metadata']['name']}") < job
    assert writes.index(f"apply Secret/{name}") < writes.index(f"apply Deployment/{name}")
    assert not [key for key in keys(run.cluster) if key in shown(run.cluster)]


def test_a_servers_secret_that_goes_with_the_server_before_it_is_made_anew(run: Run) -> None:
    servers = secrets(run.cluster)[0]
    del run.cluster.objects["Secret", NAMESPACE, servers["metadata"]["name"]]
    assert len(secrets(run.cluster)) == 1
    run.passes(1)
    assert secrets(run.cluster)[0]["stringData"] == servers["stringData"]


def test_the_next_attempt_has_a_secret_of_its_own_with_the_servers_key(run: Run) -> None:
    run.ends(LOST, exitCode=75)
    run.passes(4)
    assert run.status["attempt"] == 2
    [first, second] = [one for one in secrets(run.cluster) if "server" not in one["stringData"]]
    assert first["metadata"]["name"] != second["metadata"]["name"]
    assert first["stringData"] == second["stringData"]


def test_nothing_starts_without_its_secret(monkeypatch: pytest.MonkeyPatch) -> None:
    started = world(evaluation.KIND, "Evaluation", {"llm": server("base"), "settings": {"tools": False}})

    async def create(obj: KubeObject, *, dry_run: bool = False) -> KubeObject:
        raise Retryable("TooManyRequests", "later")

    monkeypatch.setattr(started.cluster, "create", create)
    with pytest.raises(Retryable):
        started.passes(1)
    assert started.cluster.of("Job") == []


def test_a_deployments_keys_are_made_once_and_stay() -> None:
    serving = Serving()
    serving.passes(3)
    [secret] = secrets(serving.cluster)
    assert set(secret["stringData"]) == {"server", "gateway"}
    serving.change(checkpoint={"checkpoint": "new"})
    serving.passes(6, seconds=90)
    assert secrets(serving.cluster) == [secret]
    assert not [key for key in keys(serving.cluster) if key in shown(serving.cluster)]
    first = f"apply Secret/{secret['metadata']['name']}"
    assert serving.cluster.writes.index(first) < serving.cluster.writes.index("apply Deployment/live")


def test_a_deployment_waits_for_its_gateways_own_account() -> None:
    serving = Serving()
    store = serving.context.settings.store.model_copy(update={"gateway_secret_name": "star-reader"})
    serving.context.settings = serving.context.settings.model_copy(update={"store": store})
    serving.passes(2)
    ready = next(one for one in serving.status["conditions"] if one["type"] == "Ready")
    assert (ready["reason"], "no Secret star-reader" in ready["message"]) == ("SecretMissing", True)
    assert serving.cluster.of("Deployment") == []
