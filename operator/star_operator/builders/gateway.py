"""The gateway of a StarDeployment: its configuration file, Deployment, Service and disruption budget."""

from collections.abc import Sequence
from dataclasses import dataclass

from star_contracts.base import canonical_json, value_hash
from star_contracts.names import GROUP
from star_contracts.online import ONLINE_PATH, OnlineTarget
from star_contracts.progress import PROGRESS_PATH
from star_contracts.serving import GATEWAY_CONFIG_PATH, Backend, GatewayConfig
from star_operator.api.common import Compute, SecretKeyRef
from star_operator.api.stardeployment import StarDeployment
from star_operator.builders.keys import GATEWAY_KEY, SERVER_KEY, deployment_keys_name
from star_operator.builders.names import dns_label, labels, owner_reference
from star_operator.builders.network import gateway_policy
from star_operator.builders.pod import Container, PodPlan, ca_files, key_path, pod_template
from star_operator.builders.step import Inputs, Owner
from star_operator.core.labels import GATEWAY, LABEL_COMPONENT, resource_labels
from star_operator.core.objects import KubeObject, compact
from star_operator.core.settings import Settings

CONFIG_ANNOTATION = f"{GROUP}/config"
"""On the gateway's pods: the digest of the configuration they should have by now. See docs/gateway.md."""
CONFIG_FILE = GATEWAY_CONFIG_PATH.rpartition("/")[2]
CONTAINER_PORT = 8080
FINISH_SECONDS = 15
"""Time between the end of the drain and the last possible answer's deadline, and the end of the process."""


@dataclass(frozen=True)
class GatewayPlan:
    """What a gateway routes to."""

    resource: StarDeployment
    inputs: Inputs
    """Artifacts `dataset` and, where one is named, `signals`."""
    backends: Sequence[Backend]
    hold: bool = False
    """Whether requests wait for a server."""

    @property
    def owner(self) -> Owner:
        """Return the StarDeployment as an owner."""
        return owner_of(self.resource)

    @property
    def selector(self) -> dict[str, str]:
        """Return the labels that select the gateway's pods."""
        return gateway_selector(self.resource)

    def meta(self, name: str) -> KubeObject:
        """Return the metadata of one of the gateway's objects."""
        found = labels(self.owner) | self.selector
        references = [owner_reference(self.owner)]
        return {"namespace": self.owner.namespace, "name": name, "labels": found, "ownerReferences": references}


def owner_of(resource: StarDeployment) -> Owner:
    """Return the resource as an owner."""
    meta = resource.metadata
    return Owner(resource.kind, meta.namespace, meta.name, meta.uid)


def service_name(resource: StarDeployment) -> str:
    """Return the name of the gateway's Service and Deployment: the resource's own, made a DNS label."""
    return dns_label(resource.metadata.name, 44)


def config_name(resource: StarDeployment) -> str:
    """Return the name of the gateway's ConfigMap and of its disruption budget."""
    return f"{service_name(resource)}-{GATEWAY}"


def gateway_selector(resource: StarDeployment) -> dict[str, str]:
    """Return the labels that select the gateway's pods."""
    owner = owner_of(resource)
    return resource_labels(owner.kind, owner.name) | {LABEL_COMPONENT: GATEWAY}


def config_annotation(resource: StarDeployment, objects: Sequence[KubeObject]) -> dict[str, str]:
    """Return what the gateway's pods are annotated with when these objects are applied; nothing without a gateway."""
    name = config_name(resource)
    found = (obj for obj in objects if (obj["kind"], obj["metadata"]["name"]) == ("ConfigMap", name))
    config = next(found, None)
    return {} if config is None else {CONFIG_ANNOTATION: value_hash(config["data"])}


def gateway_url(resource: StarDeployment, settings: Settings) -> str:
    """Return where the gateway answers inside the cluster."""
    host = f"{service_name(resource)}.{resource.metadata.namespace}.svc.{settings.cluster_domain}"
    return f"http://{host}:{resource.spec.gateway.port}"


def gateway_objects(plan: GatewayPlan, settings: Settings) -> list[KubeObject]:
    """Return the gateway's objects, in the order to apply them.

    The ConfigMap's name is stable: another weight or revision changes a mounted file, which the gateway reads again,
    and restarts no pod. Raises InvalidSpec naming spec.gateway.pool.
    """
    name = config_name(plan.resource)
    config = gateway_config(plan, settings)
    config_map = {
        "apiVersion": "v1",
        "kind": "ConfigMap",
        "metadata": plan.meta(name),
        "data": {CONFIG_FILE: canonical_json(config.to_json_dict()).decode(), **ca_files(settings)},
    }
    policy = gateway_policy(plan.meta(name), plan.selector, CONTAINER_PORT, settings)
    objects = [config_map, *policy, _deployment(plan, config, settings), _service(plan)]
    if plan.resource.spec.gateway.replicas not in (0, 1):
        objects.append(_disruption_budget(plan, name))
    return [compact(obj) for obj in objects]


def gateway_config(plan: GatewayPlan, settings: Settings) -> GatewayConfig:
    """Return what the gateway is told."""
    spec, owner = plan.resource.spec.gateway, plan.owner
    return GatewayConfig(
        store=settings.store.connection,
        dataset=plan.inputs.artifacts["dataset"],
        signals=plan.inputs.artifacts.get("signals"),
        backends=tuple(plan.backends),
        hold=plan.hold,
        sampling=spec.sampling,
        best_of=spec.best_of,
        max_tool_calls=spec.max_tool_calls,
        deadline_seconds=spec.deadline_seconds,
        max_in_flight=spec.max_in_flight,
        allowed_origins=spec.allowed_origins,
        api_keys_file=None if spec.open else key_path(GATEWAY_KEY),
        online=OnlineTarget(
            url=settings.progress_url.removesuffix(PROGRESS_PATH) + ONLINE_PATH,
            namespace=owner.namespace,
            name=owner.name,
            uid=owner.uid,
        ),
        feedback=f"{settings.store.uri}/{owner.namespace}/{owner.kind.lower()}/{owner.name}/feedback",
    )


def _deployment(plan: GatewayPlan, config: GatewayConfig, settings: Settings) -> KubeObject:
    spec = plan.resource.spec
    meta = plan.meta(service_name(plan.resource))
    pod = PodPlan(
        main=_container(settings),
        compute=Compute(
            pool=spec.gateway.pool, resources=spec.gateway.resources, pod_template=spec.gateway.pod_template
        ),
        labels=meta["labels"],
        config_map=config_name(plan.resource),
        pool_field="spec.gateway.pool",
        api_keys=_keys(plan),
        operator_token=True,
        grace_seconds=int(config.drain_seconds + config.deadline_seconds) + FINISH_SECONDS,
    )
    return {
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": meta,
        "spec": {
            # Not said where the spec does not say it: server-side apply then leaves it to whoever scales.
            "replicas": 0 if spec.suspend else spec.gateway.replicas,
            "strategy": {"type": "RollingUpdate", "rollingUpdate": {"maxSurge": 1, "maxUnavailable": 0}},
            "selector": {"matchLabels": plan.selector},
            "template": pod_template(pod, settings),
        },
    }


def _keys(plan: GatewayPlan) -> dict[str, SecretKeyRef]:
    """Return the keys that it needs: those of its callers, unless it is open, and its own towards the servers."""
    spec, made = plan.resource.spec.gateway, deployment_keys_name(plan.owner)
    callers = spec.api_keys or SecretKeyRef(name=made, key=GATEWAY_KEY)
    servers = {SERVER_KEY: SecretKeyRef(name=made, key=SERVER_KEY)}
    return servers if spec.open else {GATEWAY_KEY: callers, **servers}


def _container(settings: Settings) -> Container:
    """Return the gateway's container. It drains by itself after SIGTERM, so that it needs no preStop hook."""
    alive = {"httpGet": {"path": "/healthz", "port": "http"}, "periodSeconds": 10, "timeoutSeconds": 5}
    ready = {"httpGet": {"path": "/readyz", "port": "http"}, "periodSeconds": 2, "timeoutSeconds": 5}
    return Container(
        role="gateway",
        command=("star-job", "serve"),
        env={"STAR_GATEWAY_CONFIG": GATEWAY_CONFIG_PATH, "STAR_GATEWAY_PORT": str(CONTAINER_PORT)},
        store_access=True,
        store_secret=settings.store.serving_secret,
        ports={"http": CONTAINER_PORT},
        extra={
            "startupProbe": alive | {"periodSeconds": 2, "failureThreshold": 60},
            "livenessProbe": alive | {"failureThreshold": 6},
            "readinessProbe": ready,
        },
    )


def _service(plan: GatewayPlan) -> KubeObject:
    port = {"name": "http", "port": plan.resource.spec.gateway.port, "targetPort": "http"}
    return {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": plan.meta(service_name(plan.resource)),
        "spec": {"selector": plan.selector, "ports": [port]},
    }


def _disruption_budget(plan: GatewayPlan, name: str) -> KubeObject:
    return {
        "apiVersion": "policy/v1",
        "kind": "PodDisruptionBudget",
        "metadata": plan.meta(name),
        "spec": {"maxUnavailable": 1, "selector": {"matchLabels": plan.selector}},
    }
