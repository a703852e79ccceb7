"""What serves a StarDeployment's revisions, and what gates them."""

from typing import Any

import pytest

from star_contracts.job import ModelSource
from star_contracts.serving import GatewayConfig
from star_jobs.serve.main import finish_seconds
from star_operator.api.evaluation import Evaluation
from star_operator.api.stardeployment import StarDeployment
from star_operator.builders.gateway import config_annotation, gateway_url, owner_of
from star_operator.builders.keys import deployment_keys
from star_operator.builders.stardeployment import gate_evaluation, revision_of, server_name, serving_objects
from star_operator.builders.step import Inputs
from star_operator.core.errors import InvalidSpec
from star_operator.core.objects import KubeObject
from tests.support.goldens import BEFORE, CHECKPOINT, inputs, parse, settings

GATES = {"rules": [{"metric": "hrAvg", "value": 0.5}], "settings": {"tools": False}}


def deployment(**spec: Any) -> StarDeployment:
    body = {"checkpoint": {"checkpoint": "grpo"}, "dataset": {"name": "ml"}, **spec}
    made = parse({"apiVersion": "v1", "kind": "StarDeployment", "metadata": {"name": "star"}, "spec": body})
    assert isinstance(made, StarDeployment)
    return made


def serving(cr: StarDeployment, *weights: int) -> dict[tuple[str, str], KubeObject]:
    sources = [ModelSource(artifact=CHECKPOINT), ModelSource(artifact=BEFORE)]
    revisions = [revision_of(cr, source, weight) for source, weight in zip(sources, weights, strict=False)]
    made = serving_objects(cr, revisions, inputs(cr), settings())
    assert len({(obj["kind"], obj["metadata"]["name"]) for obj in made}) == len(made)
    return {(obj["kind"], obj["metadata"]["name"]): obj for obj in made}


def config(made: dict[tuple[str, str], KubeObject]) -> GatewayConfig:
    return GatewayConfig.model_validate_json(made["ConfigMap", "star-gateway"]["data"]["gateway.json"])


def test_a_gates_evaluation_has_the_same_name_in_every_version() -> None:
    """Else an upgrade measures every deployment of the cluster again: see `star_contracts.base.Later`."""
    gate = gate_evaluation(deployment(gates=GATES), CHECKPOINT, Inputs())
    assert gate["metadata"]["name"] == "star-star-gate-44444444-c5641f"


def test_nothing_is_served_without_a_revision() -> None:
    assert serving(deployment()) == {}


def test_the_gateway_routes_to_each_revision_by_weight() -> None:
    cr = deployment()
    found = config(serving(cr, 90, 10))
    assert [(backend.checkpoint, backend.weight) for backend in found.backends] == [
        (CHECKPOINT.digest, 90),
        (BEFORE.digest, 10),
    ]
    for backend, digit in zip(found.backends, "45", strict=True):
        assert backend.base_url == f"http://star-{digit * 8}.default.svc.cluster.local:8000/v1"
        assert backend.model == backend.revision == digit * 12


def test_a_change_of_weight_touches_the_configuration_alone() -> None:
    cr = deployment()
    before, after = serving(cr, 90, 10), serving(cr, 50, 50)
    assert {key for key in before if before[key] != after[key]} == {("ConfigMap", "star-gateway")}


def test_the_gateways_pods_are_annotated_anew_with_every_change_of_the_configuration_and_with_nothing_else() -> None:
    def annotation(cr: StarDeployment, *weights: int) -> dict[str, str]:
        return config_annotation(cr, list(serving(cr, *weights).values()))

    cr = deployment()
    assert list(annotation(cr, 90, 10)) == ["star.recsys.dev/config"]
    assert annotation(cr, 90, 10) != annotation(cr, 50, 50)
    assert annotation(cr, 90, 10) == annotation(deployment(gateway={"replicas": 3}), 90, 10)
    assert annotation(cr) == {}, "nothing is served"


def test_each_revision_has_the_pods_of_an_llm_server() -> None:
    made = serving(deployment(server={"replicas": 2, "maxModelLen": 512}), 100)
    server = made["Deployment", "star-44444444"]
    assert server["spec"]["replicas"] == 2
    assert "--max-model-len" in server["spec"]["template"]["spec"]["containers"][0]["args"]
    assert server["metadata"]["ownerReferences"][0]["controller"] is True
    assert made["Service", "star-44444444"]["spec"]["selector"]["star.recsys.dev/server"] == "star-44444444"


def test_suspension_scales_to_nothing_and_keeps_the_rest() -> None:
    cr = deployment(suspend=True, gateway={"replicas": 3})
    made = serving(cr, 100)
    assert made["Deployment", "star-44444444"]["spec"]["replicas"] == 0
    assert made["Deployment", "star"]["spec"]["replicas"] == 0
    assert config(made) == config(serving(deployment(gateway={"replicas": 3}), 100))


def test_the_gateways_front() -> None:
    cr = deployment(gateway={"replicas": 2, "port": 80, "apiKeys": {"name": "clients", "key": "keys"}})
    made = serving(cr, 100)
    assert made["Service", "star"]["spec"]["ports"] == [{"name": "http", "port": 80, "targetPort": "http"}]
    assert gateway_url(cr, settings()) == "http://star.default.svc.cluster.local:80"
    pod = made["Deployment", "star"]["spec"]["template"]["spec"]
    assert pod["containers"][0]["command"] == ["star-job", "serve"]
    assert pod["containers"][0]["readinessProbe"]["httpGet"]["path"] == "/readyz"
    assert pod["containers"][0]["livenessProbe"]["httpGet"]["path"] == "/healthz"
    assert pod["terminationGracePeriodSeconds"] > 60 + config(made).drain_seconds
    assert config(made).api_keys_file == "/etc/star/keys/gateway"
    assert made["PodDisruptionBudget", "star-gateway"]["spec"]["maxUnavailable"] == 1
    assert ("PodDisruptionBudget", "star-gateway") not in serving(deployment(gateway={"replicas": 1}), 100)


@pytest.mark.case("gateway-scale")
def test_a_gateway_without_replicas_is_an_autoscalers() -> None:
    made = serving(deployment(), 100)
    assert "replicas" not in made["Deployment", "star"]["spec"], "server-side apply would take it back at every pass"
    assert ("PodDisruptionBudget", "star-gateway") in made, "it may have many pods"
    said = serving(deployment(gateway={"replicas": 2}), 100)
    assert said["Deployment", "star"]["spec"]["replicas"] == 2
    assert serving(deployment(suspend=True), 100)["Deployment", "star"]["spec"]["replicas"] == 0


@pytest.mark.case("scale-to-zero")
@pytest.mark.parametrize("nodes", [1, 2])
def test_servers_can_be_scaled_to_nothing(nodes: int) -> None:
    compute = {"pool": "h20", "nodes": nodes, "gpusPerNode": 8}
    server = {"replicas": 0, "tensorParallelSize": 8 * nodes, "compute": compute}
    cr = deployment(server=server, gates=GATES)
    made = serving(cr, 100).items()
    workloads = [obj for (kind, name), obj in made if kind in ("Deployment", "StatefulSet") and name != "star"]
    assert workloads
    assert {obj["spec"]["replicas"] for obj in workloads} == {0}
    gate = Evaluation.parse(gate_evaluation(cr, CHECKPOINT, inputs(cr)))
    assert gate.spec.llm is not None
    assert gate.spec.llm.server is not None
    assert gate.spec.llm.server.replicas == 1, "what is measured runs"


def test_the_gateway_is_told_which_origins_may_call() -> None:
    origins = ["https://shop.example", "http://localhost:3000"]
    assert config(serving(deployment(gateway={"allowedOrigins": origins}), 100)).allowed_origins == tuple(origins)
    assert config(serving(deployment(), 100)).allowed_origins == ()


@pytest.mark.parametrize("deadline", [1, 60, 3600])
def test_the_pod_is_given_the_time_that_the_gateway_takes_to_drain(deadline: int) -> None:
    made = serving(deployment(gateway={"deadlineSeconds": deadline}), 100)
    told = config(made)
    grace = made["Deployment", "star"]["spec"]["template"]["spec"]["terminationGracePeriodSeconds"]
    assert told.deadline_seconds == deadline
    assert grace >= told.drain_seconds + finish_seconds(told) + 5, "and some to write the last feedback"


def test_the_gateway_and_the_servers_know_one_key_and_callers_another() -> None:
    made = serving(deployment(), 100)
    gateway, server = (made["Deployment", name]["spec"]["template"]["spec"] for name in ("star", "star-44444444"))
    secret = deployment_keys(owner_of(deployment()))
    assert mounted(gateway) == {
        "keys/server": (secret["metadata"]["name"], "server"),
        "keys/gateway": (secret["metadata"]["name"], "gateway"),
    }
    assert mounted(server) == {"keys/server": (secret["metadata"]["name"], "server")}
    assert set(secret["stringData"]) == {"server", "gateway"}
    assert secret["stringData"]["server"] != secret["stringData"]["gateway"]
    told = config(made)
    assert told.api_keys_file == "/etc/star/keys/gateway"
    assert {backend.api_key_file for backend in told.backends} == {"/etc/star/keys/server"}
    arguments = server["containers"][0]["args"]
    assert arguments[arguments.index("--middleware") + 1] == "star_jobs.llm.guard.KeyGuard"


def test_keys_that_are_given_stand_in_place_of_the_operators() -> None:
    given = {"apiKeys": {"name": "keys", "key": "all"}}
    gateway = serving(deployment(gateway=given), 100)["Deployment", "star"]["spec"]["template"]["spec"]
    assert mounted(gateway)["keys/gateway"] == ("keys", "all")


def test_an_open_gateway_asks_for_no_key() -> None:
    made = serving(deployment(gateway={"open": True}), 100)
    assert config(made).api_keys_file is None
    assert set(mounted(made["Deployment", "star"]["spec"]["template"]["spec"])) == {"keys/server"}


def test_a_gateway_has_an_account_of_its_own_where_there_is_one() -> None:
    store = settings().store.model_copy(update={"gateway_secret_name": "star-reader"})
    changed = settings().model_copy(update={"store": store})
    cr = deployment()
    found = serving_objects(cr, [revision_of(cr, ModelSource(artifact=CHECKPOINT))], inputs(cr), changed)
    pods = {one["metadata"]["name"]: one["spec"]["template"]["spec"] for one in found if one["kind"] == "Deployment"}
    assert store_secrets(pods["star"]["containers"][0]) == {"star-reader"}
    assert store_secrets(pods["star-44444444"]["initContainers"][0]) == {"star-store"}
    assert store_secrets(serving(cr, 100)["Deployment", "star"]["spec"]["template"]["spec"]["containers"][0]) == {
        "star-store"
    }


def store_secrets(container: KubeObject) -> set[str]:
    """The Secrets that the store's keys come from."""
    from_secrets = [one["valueFrom"]["secretKeyRef"] for one in container["env"] if one["name"].startswith("AWS_")]
    return {one["name"] for one in from_secrets}


def mounted(spec: KubeObject) -> dict[str, tuple[str, str]]:
    """The keys that a pod gets as files: path -> Secret and key."""
    [star] = [one["projected"]["sources"] for one in spec["volumes"] if one["name"] == "star"]
    secrets = [one["secret"] for one in star if "secret" in one]
    return {item["path"]: (one["name"], item["key"]) for one in secrets for item in one["items"]}


def test_the_gate_measures_the_candidate_as_it_would_be_served() -> None:
    cr = deployment(gates=GATES, server={"maxModelLen": 512})
    gate = Evaluation.parse(gate_evaluation(cr, CHECKPOINT, inputs(cr)))
    server = gate.spec.llm.server if gate.spec.llm else None
    assert server is not None
    assert (server.model.uri, server.model.digest, server.max_model_len) == (CHECKPOINT.uri, CHECKPOINT.digest, 512)
    assert gate.spec.settings.tools is False
    assert gate.metadata.name.startswith("star-star-gate-44444444-")


def test_a_gate_has_one_name_for_one_measurement() -> None:
    cr, name = deployment(gates=GATES), lambda cr, ref: gate_evaluation(cr, ref, inputs(cr))["metadata"]["name"]
    assert name(cr, CHECKPOINT) == name(deployment(gates=GATES), CHECKPOINT)
    assert name(cr, CHECKPOINT) != name(cr, BEFORE)
    other = deployment(gates={**GATES, "settings": {"tools": False, "samples": 5}})
    assert name(cr, CHECKPOINT) != name(other, CHECKPOINT), "the spec of an Evaluation cannot change"


@pytest.mark.case("changed-source")
def test_a_dataset_that_was_made_anew_under_its_name_is_measured_anew() -> None:
    cr = deployment(gates=GATES)
    names = [
        gate_evaluation(cr, CHECKPOINT, Inputs({"dataset": dataset}))["metadata"]["name"]
        for dataset in (BEFORE, CHECKPOINT)
    ]
    assert names[0] != names[1]


def test_an_explicit_empty_list_of_baselines_stays_empty() -> None:
    cr = deployment(gates={**GATES, "settings": {"tools": False, "baselines": []}})
    assert gate_evaluation(cr, CHECKPOINT, inputs(cr))["spec"]["settings"]["baselines"] == []


@pytest.mark.bad_input
def test_a_hub_model_cannot_be_deployed() -> None:
    with pytest.raises(InvalidSpec, match="no digest to gate") as caught:
        revision_of(deployment(), ModelSource(hub="org/model"))
    assert caught.value.reason == "NotPinned"


@pytest.mark.bad_input
@pytest.mark.parametrize(
    ("spec", "field"),
    [
        ({"server": {"compute": {"pool": "nope"}}}, "spec.server.compute.pool"),
        ({"gateway": {"pool": "nope"}}, "spec.gateway.pool"),
    ],
)
def test_an_unknown_pool_is_named_by_its_field(spec: dict[str, Any], field: str) -> None:
    with pytest.raises(InvalidSpec) as caught:
        serving(deployment(**spec), 100)
    assert caught.value.message.startswith(field)


def test_without_gates_there_is_nothing_to_evaluate() -> None:
    with pytest.raises(InvalidSpec, match=r"spec\.gates"):
        gate_evaluation(deployment(), CHECKPOINT, Inputs())


def test_long_names_leave_room_for_groups() -> None:
    body = {"checkpoint": {"checkpoint": "c"}, "dataset": {"name": "d"}}
    cr = parse({"apiVersion": "v1", "kind": "StarDeployment", "metadata": {"name": "a" * 200}, "spec": body})
    assert isinstance(cr, StarDeployment)
    assert len(server_name(cr, revision_of(cr, ModelSource(artifact=CHECKPOINT)))) <= 44
