"""`vllm serve`: its arguments and environment for a server plan (docs.vllm.ai: CLI Reference, Environment Variables).

Multi-node servers use vLLM's own multiprocessing backend (`--nnodes`, `--node-rank`, `--master-addr`; every node but
the first adds `--headless`): no Ray cluster is needed (docs.vllm.ai, Parallelism and Scaling).
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import ceil

from star_operator.api.common import RESERVED_FLAGS, LLMServer
from star_operator.builders.pod import EnvValue, FieldRef
from star_operator.builders.step import ServerPlan
from star_operator.core.engineargs import refusal
from star_operator.core.errors import InvalidSpec
from star_operator.core.quantity import amount
from star_operator.core.reasons import ConditionReason
from star_operator.core.settings import Pool

PORT = 8000
GUARD = "star_jobs.llm.guard.KeyGuard"
"""Lets no request pass without the server's key (vllm serve, `--middleware`)."""
MASTER_PORT = 29501
MODEL_DIR = "/work/model"
HUB_DIR = "/work/huggingface"
DRAIN_SECONDS = 30
"""Requests in flight get this long to finish after SIGTERM."""
CPU_ARGS = ("--enforce-eager", "--no-enable-chunked-prefill")
"""Eager mode saves minutes of compilation at each start. Prompts are taken in whole: where one is split, vLLM 0.32 puts
back the state of a seeded request's generator, which a CPU's generator cannot do ("does not use offset"), and dies."""
RANK_LABEL = "metadata.labels['apps.kubernetes.io/pod-index']"


@dataclass(frozen=True)
class Peers:
    """A pod's place in a multi-node group."""

    leader: str
    """Host name of the pod of rank 0."""
    headless: bool
    """True for every rank but 0."""


def serve_command(pool: Pool) -> tuple[str, ...]:
    """Return the command in front of `serve_args`. On CPU pools the node's processor decides what `--dtype auto` is."""
    return ("star-job", "vllm") if pool.image_variant == "cpu" else ("vllm", "serve")


def serve_args(
    plan: ServerPlan, pool: Pool, field: str, peers: Peers | None = None, further: Sequence[str] = ()
) -> tuple[str, ...]:
    """Return the arguments behind `vllm serve`. `field` is the path of the server in the spec, for errors.

    `--generation-config vllm` keeps defaults that ship with a model out: requests say how they are sampled. engineArgs
    come last and win.
    `further` are the flags that the platform allows besides those that every resource may set.
    Raises InvalidSpec: ReservedEngineFlag for a flag that a field of the spec sets, ForbiddenEngineFlag for one that is
    not allowed.
    """
    server = plan.server
    _refuse_flags(server, field, further)
    model, revision = _model(plan)
    args = [model, "--served-model-name", plan.served_model, "--host", "0.0.0.0", "--port", str(PORT)]  # noqa: S104
    args += ["--middleware", GUARD]
    args += ["--revision", revision] if revision else []
    args += ["--dtype", server.dtype, "--generation-config", "vllm", "--shutdown-timeout", str(DRAIN_SECONDS)]
    args += ["--tensor-parallel-size", str(server.tensor_parallel_size)]
    args += ["--pipeline-parallel-size", str(server.pipeline_parallel_size)]
    args += ["--max-model-len", str(server.max_model_len)] if server.max_model_len else []
    args += CPU_ARGS if pool.image_variant == "cpu" else []
    args += _group_args(server.compute.nodes, peers) if peers else []
    return (*args, *(_literal(flag) for flag in server.engine_args))


def serve_env(plan: ServerPlan) -> dict[str, EnvValue]:
    """Return the environment that does not depend on the pool."""
    env: dict[str, EnvValue] = {"VLLM_NO_USAGE_STATS": "1", "DO_NOT_TRACK": "1"}
    if plan.source.artifact is not None:
        env["HF_HUB_OFFLINE"] = "1"
    if plan.server.compute.nodes > 1:
        env |= {"NODE_RANK": FieldRef(RANK_LABEL), "VLLM_HOST_IP": FieldRef("status.podIP")}
    return env


def serve_defaults(plan: ServerPlan, pool: Pool) -> Mapping[str, str]:
    """Return the environment that the pool may change.

    Threads are not bound to cores on CPU pools: vLLM's own binding takes the first cores of the node whoever else has
    bound itself there, and leaves one idle.
    """
    env = {
        "HF_HOME": HUB_DIR,
        "XDG_CACHE_HOME": "/tmp/cache",  # noqa: S108 - the pod's own emptyDir
        "XDG_CONFIG_HOME": "/tmp/config",  # noqa: S108
        "VLLM_CACHE_ROOT": "/tmp/cache/vllm",  # noqa: S108
    }
    if pool.image_variant == "cpu":
        env |= {"VLLM_CPU_KVCACHE_SPACE": "1", "VLLM_CPU_OMP_THREADS_BIND": "nobind"}
        cpus = plan.server.compute.resources.cpu
        threads = _whole_cpus(cpus) if cpus else 0
        env |= {"OMP_NUM_THREADS": str(threads)} if threads else {}
    return env


def flag_value(server: LLMServer, name: str) -> str | None:
    """Return what engineArgs set a flag to; None where it is not among them. The last one counts."""
    flags = (flag.partition("=") for flag in server.engine_args)
    return next((value for flag, _, value in reversed([*flags]) if flag == name), None)


def _refuse_flags(server: LLMServer, field: str, further: Sequence[str]) -> None:
    for flag in server.engine_args:
        name = flag.partition("=")[0]
        if name in RESERVED_FLAGS:
            raise InvalidSpec(
                ConditionReason.RESERVED_ENGINE_FLAG,
                f"{field}.engineArgs must not contain {name}: {RESERVED_FLAGS[name]}",
            )
        refused = refusal(flag, further)
        if refused is not None:
            raise InvalidSpec(ConditionReason.FORBIDDEN_ENGINE_FLAG, f"{field}.engineArgs: {refused}")


def _literal(argument: str) -> str:
    """Return a container's argument as it reaches the program: Kubernetes puts variables in for `$(NAME)` otherwise."""
    return argument.replace("$", "$$")


def _model(plan: ServerPlan) -> tuple[str, str]:
    if plan.source.artifact is not None:
        return MODEL_DIR, ""
    model, _, revision = (plan.source.hub or "").partition("@")
    return model, revision


def _group_args(nodes: int, peers: Peers) -> list[str]:
    args = ["--nnodes", str(nodes), "--node-rank", "$(NODE_RANK)", "--distributed-executor-backend", "mp"]
    args += ["--master-addr", peers.leader, "--master-port", str(MASTER_PORT)]
    return [*args, "--headless"] if peers.headless else args


def _whole_cpus(quantity: str) -> int:
    """Return the cores asked for, rounded up; 0 for less than one, which is a share of the node and not a width."""
    cores = amount(quantity)
    return ceil(cores) if cores >= 1 else 0
