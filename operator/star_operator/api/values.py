"""The values of the Helm chart: what `charts/star-operator/values.schema.json` is generated from.

    python -m star_operator.api.values --out charts/star-operator/values.schema.json

The parts that reach the operator are its own settings models, so the chart and the operator cannot disagree.
"""

import argparse
import json
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import Field, JsonValue

from star_contracts.base import Model
from star_contracts.progress import NamespaceName
from star_operator.core.engineargs import EngineFlagName
from star_operator.core.network import PodNetwork
from star_operator.core.outside import CABundle, HostPattern, Proxy
from star_operator.core.podmeta import PodDefaults, PodSecurity
from star_operator.core.settings import ImageSet, Pool, ProofSettings, RetentionSettings, StoreSettings, Toleration

Reference = Annotated[str, Field(min_length=1, pattern=r"^[^\s]+$")]
"""An image reference without its registry, e.g. `star/operator:0.1.0`."""
Labels = dict[str, str]


class SettingsValues(Model):
    """How the operator works."""

    cluster_domain: str = "cluster.local"
    """DNS domain of the cluster."""
    llm_idle_seconds: int = Field(default=120, ge=0)
    """Seconds an LLM server that nobody uses is kept, in case the next stage wants it."""
    server_updates: int = Field(default=1, ge=0, le=1000)
    """StarDeployments whose servers are moved to the present images and settings at the same time, after an upgrade; 0
    moves none by itself."""
    allowed_engine_args: tuple[EngineFlagName, ...] = ()
    """Flags of `vllm serve` that `engineArgs` may set besides those that only change how fast it serves."""
    allowed_endpoint_hosts: tuple[HostPattern, ...] = ()
    """Hosts that `endpoint.url` may name, and `.domains` for all below one; empty for any."""
    allowed_git_hosts: tuple[HostPattern, ...] = ()
    """The same for promotions' repositories and forges."""
    workers: int = Field(default=8, ge=1, le=256)
    """Resources reconciled at the same time."""
    resync_seconds: int = Field(default=300, ge=10)
    """Every resource is looked at again at least this often."""
    progress_url: str | None = None
    """Where job pods report progress to; null for the release's own Service."""


class CRDValues(Model):
    """CustomResourceDefinitions."""

    install: bool = True
    """Install and upgrade them with the release."""
    keep: bool = True
    """Keep them, and with them all STAR resources, when the release is uninstalled."""


class ServiceAccountValues(Model):
    """The operator's identity."""

    create: bool = True
    """Make it."""
    name: str = ""
    """Empty for the release's name."""
    annotations: Labels = {}
    """Annotations of the ServiceAccount."""


class RBACValues(Model):
    """Roles and bindings."""

    create: bool = True
    """Make them."""
    aggregate: bool = True
    """Add STAR's kinds to the cluster's view, edit and admin roles."""


class ServiceMonitorValues(Model):
    """A ServiceMonitor for the Prometheus operator."""

    enabled: bool = False
    """Make it; needs the Prometheus operator's CRDs."""
    interval: str = Field(default="30s", pattern=r"^[0-9]+(ms|s|m|h)$")
    """Time between scrapes."""
    labels: Labels = {}
    """What your Prometheus selects by."""


class MetricsValues(Model):
    """Prometheus metrics, at /metrics of port 8080."""

    service_monitor: ServiceMonitorValues = ServiceMonitorValues()
    """A ServiceMonitor for the Prometheus operator."""


class NetworkPolicyValues(Model):
    """NetworkPolicies: of the operator's own pods, and of those that it starts."""

    enabled: bool = False
    """Let into the operator only probes and metrics (8080) and the progress reports of STAR's own pods (8081)."""
    pods: PodNetwork = PodNetwork()
    """Of the pods that the operator starts, in their own namespaces."""


class ArgoCDValues(Model):
    """What Argo CD is told of STAR's kinds."""

    customizations: bool = False
    """Make a ConfigMap with their health checks and actions, for the data of Argo CD's `argocd-cm`."""


class Values(Model):
    """Values of the star-operator chart."""

    image: Reference
    """The operator's own image."""
    image_registry: str = Field(default="", pattern=r"^[^\s]*$")
    """Registry (host[:port][/path]) of all images; empty leaves the references as they are."""
    image_pull_policy: Literal["Always", "IfNotPresent", "Never"] = "IfNotPresent"
    """For all images."""
    image_pull_secrets: tuple[str, ...] = ()
    """Names of image pull Secrets."""
    images: dict[Literal["cpu", "cuda"], ImageSet]
    """Images of what the operator runs, by variant."""
    store: StoreSettings
    """Where artifacts lie."""
    ca_bundle: CABundle = ""
    """Certificate authorities in PEM, which pods trust in place of the public ones: a private store's."""
    proxy: Proxy = Proxy()
    """Proxies for HTTP clients in pods."""
    pools: dict[str, Pool] = Field(min_length=1)
    """Kinds of nodes that `compute.pool` names."""
    pods: PodDefaults = PodDefaults()
    """What all pods carry that the operator starts; a pool's own `pods` adds to it."""
    pod_security: PodSecurity = PodSecurity()
    """User and groups of every pod, the operator's own among them."""
    settings: SettingsValues = SettingsValues()
    """How the operator works."""
    retention: RetentionSettings = RetentionSettings()
    """What is kept of what pipelines and gates made, in the cluster and in the store."""
    proofs: ProofSettings = ProofSettings()
    """What is written beside checkpoints: model cards, provenance and verdicts."""
    watch_namespaces: tuple[NamespaceName, ...] = ()
    """Namespaces that this operator looks after, and has rights in; empty for all."""
    replicas: int = Field(default=1, ge=0, le=5)
    """Replicas of the operator: one leads, the others stand by."""
    resources: dict[str, JsonValue] = {}
    """core/v1 ResourceRequirements of the operator."""
    node_selector: Labels = {}
    """Where the operator runs."""
    tolerations: tuple[Toleration, ...] = ()
    """Taints the operator tolerates."""
    affinity: dict[str, JsonValue] = {}
    """core/v1 Affinity of the operator."""
    priority_class_name: str = ""
    """PriorityClass of the operator."""
    pod_annotations: Labels = {}
    """Further annotations of its pods."""
    pod_labels: Labels = {}
    """Further labels of its pods."""
    crds: CRDValues = CRDValues()
    """CustomResourceDefinitions."""
    service_account: ServiceAccountValues = ServiceAccountValues()
    """The operator's identity."""
    rbac: RBACValues = RBACValues()
    """Roles and bindings."""
    metrics: MetricsValues = MetricsValues()
    """Prometheus metrics."""
    network_policy: NetworkPolicyValues = NetworkPolicyValues()
    """NetworkPolicies of the operator's pods, and of those that it starts."""
    argocd: ArgoCDValues = Field(default=ArgoCDValues(), alias="argocd")
    """What Argo CD is told of STAR's kinds."""
    name_override: str = ""
    """Replaces the chart's name in labels."""
    fullname_override: str = ""
    """Replaces the release's name in the names of objects."""


def values_schema() -> dict[str, Any]:
    """Return the JSON schema (2020-12) that Helm checks values against."""
    schema = Values.model_json_schema(by_alias=True)
    schema["$schema"] = "https://json-schema.org/draft/2020-12/schema"
    # Helm adds `global` to the values of every chart.
    schema["properties"]["global"] = {"type": "object", "description": "Values shared with other charts; not used."}
    return schema


def render() -> str:
    """Return the schema as JSON, the same bytes every time."""
    return json.dumps(values_schema(), indent=2, ensure_ascii=False) + "\n"


def main() -> None:
    """Write the schema into a file."""
    parser = argparse.ArgumentParser(description=main.__doc__)
    parser.add_argument("--out", type=Path, required=True)
    parser.parse_args().out.write_text(render(), encoding="utf-8")


if __name__ == "__main__":
    main()
