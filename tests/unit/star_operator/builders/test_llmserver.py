"""vLLM servers: arguments, single pods and groups."""

from typing import Any

import pytest

from star_contracts.job import ModelSource
from star_contracts.serving import FetchSpec
from star_operator.api.common import Compute, LLMServer, ModelRef
from star_operator.builders.engine import Peers, serve_args, serve_defaults, serve_env
from star_operator.builders.llmserver import server_objects
from star_operator.builders.step import ServerPlan
from star_operator.core.errors import InvalidSpec
from star_operator.core.objects import KubeObject
from tests.support.goldens import CHECKPOINT, settings

HUB = ModelRef(uri="hf://org/model@v1")
WEIGHTS = ModelSource(artifact=CHECKPOINT)
CPU = settings().pools["cpu"]
H20 = settings().pools["h20"]


def plan(source: ModelSource = WEIGHTS, **server: Any) -> ServerPlan:
    return ServerPlan(LLMServer(model=HUB, **server), source)


def objects(found: ServerPlan) -> dict[tuple[str, str], KubeObject]:
    user = {"apiVersion": "v1", "kind": "X", "name": "x", "uid": "u"}
    return {(obj["kind"], obj["metadata"]["name"]): obj for obj in server_objects("default", found, [user], settings())}


def value(args: tuple[str, ...], flag: str) -> str:
    return args[args.index(flag) + 1]


def test_an_artifact_is_fetched_first_and_served_offline() -> None:
    found = plan()
    made = objects(found)
    spec = made["Deployment", found.name]["spec"]["template"]["spec"]
    init = spec["initContainers"][0]
    assert init["command"] == ["star-job", "fetch"]
    assert init["image"] == spec["containers"][0]["image"] == "star/vllm:cpu-1"
    fetch = FetchSpec.model_validate_json(made["ConfigMap", found.name]["data"]["fetch.json"])
    assert fetch.artifact == CHECKPOINT
    assert spec["containers"][0]["args"][0] == fetch.destination == "/work/model"
    assert serve_env(found)["HF_HUB_OFFLINE"] == "1"
    assert value(tuple(spec["containers"][0]["args"]), "--served-model-name") == "4" * 12


@pytest.mark.parametrize(
    ("flags", "given"),
    [((), None), (("--chat-template={{ a }}",), "{{ a }}"), (("--chat-template={{ a }}", "--seed=1"), "{{ a }}")],
)
def test_a_model_needs_no_chat_template_where_its_server_has_one(flags: tuple[str, ...], given: str | None) -> None:
    found = plan(engine_args=flags)
    fetch = FetchSpec.model_validate_json(objects(found)["ConfigMap", found.name]["data"]["fetch.json"])
    assert fetch.chat_template == given


def test_a_hub_model_is_named_with_its_revision_and_fetches_nothing() -> None:
    found = plan(ModelSource(hub="org/model@v1"))
    args = serve_args(found, H20, "spec.llm.server")
    assert args[0] == "org/model"
    assert value(args, "--revision") == "v1"
    assert "HF_HUB_OFFLINE" not in serve_env(found)
    made = objects(found)
    assert ("ConfigMap", found.name) not in made
    assert "initContainers" not in made["Deployment", found.name]["spec"]["template"]["spec"]


def test_on_cpu_pools_the_node_chooses_the_number_format() -> None:
    def container(pool: str, **server: Any) -> KubeObject:
        found = plan(compute=Compute(pool=pool, gpus_per_node=int(pool == "h20")), **server)
        made: KubeObject = objects(found)["Deployment", found.name]["spec"]["template"]["spec"]["containers"][0]
        return made

    for dtype in ("auto", "bfloat16", "float32"):
        cpu, h20 = container("cpu", dtype=dtype), container("h20", dtype=dtype)
        assert (cpu["command"], h20["command"]) == (["star-job", "vllm"], ["vllm", "serve"])
        assert value(tuple(cpu["args"]), "--dtype") == value(tuple(h20["args"]), "--dtype") == dtype


def test_cpu_pools_run_eager_and_gpu_pools_do_not() -> None:
    cpu, h20 = serve_args(plan(), CPU, "f"), serve_args(plan(), H20, "f")
    assert "--enforce-eager" in cpu
    assert "--enforce-eager" not in h20
    assert serve_defaults(plan(), CPU)["VLLM_CPU_KVCACHE_SPACE"] == "1"
    assert not any(name.startswith("VLLM_CPU") for name in serve_defaults(plan(), H20))


@pytest.mark.parametrize(("cpu", "threads"), [("1500m", "2"), ("4", "4"), ("200m", None), ("2.5", "3")])
def test_threads_follow_from_the_cpu_asked_for(cpu: str, threads: str | None) -> None:
    compute = Compute(resources={"cpu": cpu})
    assert serve_defaults(plan(compute=compute), CPU).get("OMP_NUM_THREADS") == threads


def test_users_flags_come_last() -> None:
    args = serve_args(plan(max_model_len=1024, engine_args=("--max-num-seqs=8", "--no-enforce-eager")), CPU, "f")
    assert value(args, "--max-model-len") == "1024"
    assert args[-2:] == ("--max-num-seqs=8", "--no-enforce-eager")


@pytest.mark.bad_input
@pytest.mark.parametrize("flag", ["--api-key=secret", "--port=1", "--tensor-parallel-size=2", "--headless"])
def test_flags_that_fields_set_are_refused(flag: str) -> None:
    with pytest.raises(InvalidSpec) as caught:
        serve_args(plan(engine_args=(flag,)), CPU, "spec.llm.server")
    assert caught.value.reason == "ReservedEngineFlag"
    assert f"spec.llm.server.engineArgs must not contain {flag.partition('=')[0]}" in caught.value.message
    assert "secret" not in caught.value.message.replace("secrets do not belong", "")


@pytest.mark.bad_input
def test_flags_that_load_code_are_refused_unless_the_platform_allows_them() -> None:
    found = plan(engine_args=("--trust-remote-code",))
    with pytest.raises(InvalidSpec, match=r"ForbiddenEngineFlag.*spec\.llm\.server\.engineArgs: --trust-remote-code"):
        serve_args(found, CPU, "spec.llm.server")
    args = serve_args(found, CPU, "spec.llm.server", further=("--trust-remote-code",))
    assert args[-1] == "--trust-remote-code"


def test_flags_reach_vllm_as_they_are_written() -> None:
    """In a container's arguments `$(NAME)` is a variable of the pod, and `$$` a dollar (core/v1 Container)."""
    found = plan(engine_args=("--chat-template={{ '$5 or $(HF_TOKEN)' }}",))
    assert serve_args(found, CPU, "f")[-1] == "--chat-template={{ '$$5 or $$(HF_TOKEN)' }}"


def test_the_service_reaches_those_who_answer() -> None:
    found = plan()
    made = objects(found)
    selector = made["Service", found.name]["spec"]["selector"]
    labels = made["Deployment", found.name]["spec"]["template"]["metadata"]["labels"]
    assert selector.items() <= labels.items()
    assert made["Service", found.name]["spec"]["ports"][0]["port"] == 8000
    assert found.endpoint("default", "cluster.local", concurrency=1, timeout=1).base_url == (
        f"http://{found.name}.default.svc.cluster.local:8000/v1"
    )


def test_gpus_are_never_asked_for_twice_in_a_roll_out() -> None:
    gpu = plan(compute=Compute(pool="h20", gpus_per_node=1))
    strategy = objects(gpu)["Deployment", gpu.name]["spec"]["strategy"]["rollingUpdate"]
    assert strategy == {"maxSurge": 0, "maxUnavailable": 1}


def test_pods_are_ready_when_they_answer_and_leave_slowly() -> None:
    found = plan()
    pod = objects(found)["Deployment", found.name]["spec"]["template"]["spec"]
    container = pod["containers"][0]
    assert container["readinessProbe"]["httpGet"] == {"path": "/health", "port": "http"}
    assert container["startupProbe"]["failureThreshold"] * container["startupProbe"]["periodSeconds"] == 3600
    drain = int(value(tuple(container["args"]), "--shutdown-timeout"))
    assert pod["terminationGracePeriodSeconds"] > drain + container["lifecycle"]["preStop"]["sleep"]["seconds"]


GROUP = {
    "tensor_parallel_size": 16,
    "replicas": 2,
    "compute": Compute(pool="h20", nodes=2, gpus_per_node=8),
}


def test_a_group_is_a_leader_that_answers_and_workers_that_follow() -> None:
    found = plan(**GROUP)
    made = objects(found)
    for replica in range(2):
        leader = made["StatefulSet", f"{found.name}-{replica}"]["spec"]
        workers = made["StatefulSet", f"{found.name}-{replica}-w"]["spec"]
        assert (leader["replicas"], workers["replicas"], workers["ordinals"]) == (1, 1, {"start": 1})
        assert leader["podManagementPolicy"] == workers["podManagementPolicy"] == "Parallel"
        assert leader["serviceName"] == workers["serviceName"] == f"{found.name}-peers"
        args = leader["template"]["spec"]["containers"][0]["args"]
        assert workers["template"]["spec"]["containers"][0]["args"] == [*args, "--headless"]
        assert value(tuple(args), "--master-addr") == f"{found.name}-{replica}-0.{found.name}-peers"
        assert value(tuple(args), "--nnodes") == "2"
        assert value(tuple(args), "--node-rank") == "$(NODE_RANK)"
    peers = made["Service", f"{found.name}-peers"]["spec"]
    assert peers["publishNotReadyAddresses"] is True
    assert ("Deployment", found.name) not in made


def test_workers_live_as_long_as_their_leader_answers() -> None:
    found = plan(**GROUP)
    made = objects(found)
    worker = made["StatefulSet", f"{found.name}-1-w"]["spec"]["template"]["spec"]["containers"][0]
    command = worker["livenessProbe"]["exec"]["command"]
    assert command[:2] == ["python3", "-c"]
    compile(command[2], "probe", "exec")
    assert f"http://{found.name}-1-0.{found.name}-peers:8000/health" in command[2]
    assert "readinessProbe" not in worker


def test_the_service_leaves_workers_out() -> None:
    found = plan(**GROUP)
    made = objects(found)
    selector = made["Service", found.name]["spec"]["selector"]
    worker = made["StatefulSet", f"{found.name}-0-w"]["spec"]["template"]["metadata"]["labels"]
    assert not selector.items() <= worker.items()


def test_users_own_without_control() -> None:
    for obj in objects(plan(**GROUP)).values():
        assert obj["metadata"]["ownerReferences"] == [{"apiVersion": "v1", "kind": "X", "name": "x", "uid": "u"}]


def test_rank_arguments_need_peers() -> None:
    assert "--nnodes" not in serve_args(plan(), H20, "f")
    assert "--headless" in serve_args(plan(), H20, "f", Peers("leader", headless=True))
