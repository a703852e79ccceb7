"""vLLM servers: the one shape for LLM servers that stages share and for the revisions of a StarDeployment.

A single-node server is a Deployment, a multi-node one a pair of StatefulSets for each replica: `<name>-<replica>` with
the leader (rank 0, the only one that answers) and `<name>-<replica>-w` with the workers (ranks 1..n-1), created in
parallel because they wait for each other. The Service reaches leaders only.

A group works as one: a process that comes back alone finds peers that wait for the old one, so all of it starts anew.
`policy.llmgroup` says which pods have to go. Without the operator it takes longer: workers are live as long as their
leader answers, and the leader ends itself at vLLM's execution timeout (300 s) as soon as a request comes.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from star_contracts.base import canonical_json
from star_contracts.serving import FETCH_SPEC_PATH, FetchSpec
from star_operator.api.common import SecretKeyRef
from star_operator.builders.builds import stamped
from star_operator.builders.engine import (
    DRAIN_SECONDS,
    MODEL_DIR,
    PORT,
    Peers,
    flag_value,
    serve_args,
    serve_command,
    serve_defaults,
    serve_env,
)
from star_operator.builders.keys import SERVER_KEY
from star_operator.builders.names import common_labels
from star_operator.builders.network import shared_server_policy
from star_operator.builders.placement import pool_of
from star_operator.builders.pod import Container, PodPlan, ca_files, pod_template
from star_operator.builders.step import ServerPlan
from star_operator.core.labels import LABEL_COMPONENT, LABEL_GROUP, LABEL_SERVER, LEADER, WORKER
from star_operator.core.objects import KubeObject, compact
from star_operator.core.settings import Settings

FETCH_FILE = FETCH_SPEC_PATH.rpartition("/")[2]
START_SECONDS = 3600
"""Longest start of a server: download, loading and warm-up of a model of hundreds of billions of parameters."""
PROBE_SECONDS = 5
PRE_STOP_SECONDS = 5
"""Time for endpoints to forget a pod before it stops taking connections."""
FORM_SECONDS = 30
"""No group forms faster. A new worker asks for its leader only then: a leader that is about to go may answer before."""
PEER_SUFFIX = "peers"


@dataclass(frozen=True)
class VLLMServer:
    """A server to build: what it serves, and whose it is."""

    namespace: str
    name: str
    plan: ServerPlan
    replicas: int
    owners: tuple[KubeObject, ...]
    """Owner references."""
    labels: dict[str, str]
    """Labels besides those of every server."""
    keys: str
    """The Secret with its key."""
    field: str = "spec.llm.server"
    """Where the server is in the spec, for errors."""

    @property
    def selector(self) -> dict[str, str]:
        """Return the label that all of its pods have."""
        return {LABEL_SERVER: self.name}

    def meta(self, name: str) -> KubeObject:
        """Return the metadata of one of its objects."""
        labels = common_labels("vllm") | self.labels | self.selector
        return {
            "namespace": self.namespace,
            "name": name,
            "labels": labels,
            "ownerReferences": list(self.owners),
        }


def server_objects(
    namespace: str, plan: ServerPlan, users: Sequence[KubeObject], settings: Settings
) -> list[KubeObject]:
    """Return a shared server. `users` are owner references without control: it goes when its last user goes.

    Its key is in a Secret of its name (`builders.keys.server_keys`), which is not among these.
    Raises InvalidSpec: unknown pool, pool without images, reserved engine flag.
    """
    server = VLLMServer(namespace, plan.name, plan, plan.server.replicas, tuple(users), {}, keys=plan.name)
    return [*shared_server_policy(server.meta(server.name), server.name, settings), *vllm_objects(server, settings)]


def vllm_objects(server: VLLMServer, settings: Settings) -> list[KubeObject]:
    """Return the objects of a server in the order to apply them: ConfigMap, Services, workloads.

    Each workload says what was asked for, and which build it is of (`builders/builds.py`).
    """
    objects = [_config(server, settings), _service(server)]
    if server.plan.server.compute.nodes == 1:
        objects.append(_deployment(server, settings))
    else:
        objects.append(_peer_service(server))
        for replica in range(server.plan.server.replicas):
            objects += _group(server, replica, settings)
    return stamped([compact(obj) for obj in objects if obj], server.plan.asked)


def moves_without_a_gap(plan: ServerPlan, replicas: int) -> bool:
    """Say whether a server of so many copies goes on answering while its pods are replaced one by one."""
    compute = plan.server.compute
    return replicas > 1 or (compute.nodes == 1 and not compute.gpus_per_node)


def _config_files(server: VLLMServer, settings: Settings) -> dict[str, str]:
    """Return the files of its pods: what to fetch, where the model is an artifact, and whom to trust."""
    artifact = server.plan.source.artifact
    if artifact is None:
        return ca_files(settings)
    spec = FetchSpec(
        store=settings.store.connection,
        artifact=artifact,
        destination=MODEL_DIR,
        chat_template=flag_value(server.plan.server, "--chat-template"),
    )
    return {FETCH_FILE: canonical_json(spec.to_json_dict()).decode(), **ca_files(settings)}


def _config(server: VLLMServer, settings: Settings) -> KubeObject:
    data = _config_files(server, settings)
    config = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": server.meta(server.name), "data": data}
    return config if data else {}


def _service(server: VLLMServer) -> KubeObject:
    return {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": server.meta(server.name),
        "spec": {
            "selector": server.selector | {LABEL_COMPONENT: LEADER},
            "ports": [{"name": "http", "port": PORT, "targetPort": "http"}],
        },
    }


def _peer_service(server: VLLMServer) -> KubeObject:
    """Return the headless Service that names the pods of groups, before they are ready: they wait for each other."""
    return {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": server.meta(f"{server.name}-{PEER_SUFFIX}"),
        "spec": {
            "clusterIP": "None",
            "publishNotReadyAddresses": True,
            "selector": server.selector,
            "ports": [{"name": "http", "port": PORT}],
        },
    }


def _deployment(server: VLLMServer, settings: Settings) -> KubeObject:
    surge = {"maxSurge": 0, "maxUnavailable": 1} if server.plan.server.compute.gpus_per_node else {"maxSurge": 1}
    labels = {LABEL_COMPONENT: LEADER}
    spec = {
        "replicas": server.replicas,
        "progressDeadlineSeconds": START_SECONDS + 600,
        "strategy": {"type": "RollingUpdate", "rollingUpdate": surge},
        "selector": {"matchLabels": server.selector | labels},
        "template": pod_template(_pod(server, labels, settings), settings),
    }
    return {"apiVersion": "apps/v1", "kind": "Deployment", "metadata": server.meta(server.name), "spec": spec}


def _group(server: VLLMServer, replica: int, settings: Settings) -> list[KubeObject]:
    name = f"{server.name}-{replica}"
    leader = f"{name}-0.{server.name}-{PEER_SUFFIX}"
    nodes = server.plan.server.compute.nodes
    group = {LABEL_GROUP: str(replica)}
    first = _pod(server, group | {LABEL_COMPONENT: LEADER}, settings, Peers(leader, headless=False))
    rest = _pod(server, group | {LABEL_COMPONENT: WORKER}, settings, Peers(leader, headless=True))
    running = replica < server.replicas
    return [
        _stateful_set(server, name, {"replicas": int(running)}, pod_template(first, settings)),
        _stateful_set(
            server,
            f"{name}-w",
            {"replicas": (nodes - 1) * int(running), "ordinals": {"start": 1}},
            pod_template(rest, settings),
        ),
    ]


def _stateful_set(server: VLLMServer, name: str, size: dict[str, Any], template: KubeObject) -> KubeObject:
    labels = template["metadata"]["labels"]
    chosen = {key: labels[key] for key in (LABEL_SERVER, LABEL_GROUP, LABEL_COMPONENT)}
    spec = {
        **size,
        "serviceName": f"{server.name}-{PEER_SUFFIX}",
        "podManagementPolicy": "Parallel",
        "selector": {"matchLabels": chosen},
        "template": template,
    }
    return {"apiVersion": "apps/v1", "kind": "StatefulSet", "metadata": server.meta(name), "spec": spec}


def _pod(server: VLLMServer, labels: dict[str, str], settings: Settings, peers: Peers | None = None) -> PodPlan:
    plan, pool_field = server.plan, f"{server.field}.compute.pool"
    pool = pool_of(plan.server.compute.pool, settings, pool_field)
    answers = peers is None or not peers.headless
    main = Container(
        role="vllm",
        command=serve_command(pool),
        args=serve_args(plan, pool, server.field, peers, settings.allowed_engine_args),
        env=serve_env(plan),
        defaults=serve_defaults(plan, pool),
        ports={"http": PORT} if answers else {},
        extra=_probes() if peers is None or answers else _worker_probes(peers.leader),
    )
    fetch = Container(role="vllm", name="fetch", command=("star-job", "fetch"), store_access=True)
    artifact = plan.source.artifact is not None
    return PodPlan(
        main=main,
        init=(fetch,) if artifact else (),
        compute=plan.server.compute,
        labels=server.meta("")["labels"] | labels,
        config_map=server.name if _config_files(server, settings) else None,
        pool_field=pool_field,
        outside=not artifact,
        api_keys={SERVER_KEY: SecretKeyRef(name=server.keys, key=SERVER_KEY)},
        group=server.selector | {LABEL_GROUP: labels[LABEL_GROUP]} if peers else {},
        grace_seconds=PRE_STOP_SECONDS + DRAIN_SECONDS + 25,
    )


def _probes() -> KubeObject:
    """Return vLLM's probes: /health answers only once the engine is up; a busy CPU may take its time to answer."""
    health = {"httpGet": {"path": "/health", "port": "http"}, "periodSeconds": PROBE_SECONDS, "timeoutSeconds": 5}
    return {
        "startupProbe": health | {"failureThreshold": START_SECONDS // PROBE_SECONDS},
        "readinessProbe": health | {"failureThreshold": 6},
        "livenessProbe": health | {"periodSeconds": 10, "timeoutSeconds": 10, "failureThreshold": 12},
        "lifecycle": {"preStop": {"sleep": {"seconds": PRE_STOP_SECONDS}}},
    }


def _worker_probes(leader: str) -> KubeObject:
    """Return a worker's probes: it has formed a group, and is part of it, while its leader answers."""
    # Without a proxy, which the pods' environment may name: the leader is inside.
    opener = "from urllib.request import ProxyHandler, build_opener; build_opener(ProxyHandler({}))"
    ask = f"{opener}.open('http://{leader}:{PORT}/health', timeout=5)"
    check = {"exec": {"command": ["python3", "-c", ask]}, "periodSeconds": 10, "timeoutSeconds": 10}
    return {
        "startupProbe": check | {"initialDelaySeconds": FORM_SECONDS, "failureThreshold": START_SECONDS // 10},
        "livenessProbe": check | {"failureThreshold": 12},
    }
