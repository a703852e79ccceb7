"""The objects that `up` applies so that pods find DNS, S3 and the registry; pure."""

from collections.abc import Mapping
from typing import Any

from star_cli.local import ports
from star_cli.local.nodeconfig import DNS_SERVICE_ADDRESS, REGISTRY_PORT

SYSTEM_NAMESPACE = "star-system"
S3_PORT = ports.S3_PORT
STORE_SECRET = "star-store"  # noqa: S105 - a name
BUCKET = "star"
S3_URL = f"http://s3.{SYSTEM_NAMESPACE}.svc.cluster.local:{S3_PORT}"
_LABELS = {"app.kubernetes.io/part-of": "star", "app.kubernetes.io/managed-by": "starctl"}

Manifest = dict[str, Any]


def cluster_manifests(address: str, dns_port: int) -> list[Manifest]:
    """Namespace, DNS permissions, and the Services of what runs on this machine at `address`."""
    return [
        {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": SYSTEM_NAMESPACE, "labels": dict(_LABELS)}},
        *_dns_permissions(),
        *host_service("kube-dns", "kube-system", address, {"dns": (53, dns_port)}, cluster_ip=DNS_SERVICE_ADDRESS),
        *host_service("s3", SYSTEM_NAMESPACE, address, {"http": (S3_PORT, S3_PORT)}),
        *host_service("registry", SYSTEM_NAMESPACE, address, {"http": (REGISTRY_PORT, REGISTRY_PORT)}),
    ]


def host_service(
    name: str, namespace: str, address: str, ports: Mapping[str, tuple[int, int]], cluster_ip: str = ""
) -> list[Manifest]:
    """A Service without a selector and its EndpointSlice: `ports` is name -> (Service's port, process's port).

    https://kubernetes.io/docs/concepts/services-networking/service/#services-without-selectors
    A port called `dns` is there for UDP and TCP.
    """
    service_ports: list[Manifest] = []
    slice_ports: list[Manifest] = []
    for port_name, (service_port, process_port) in ports.items():
        for protocol in ("UDP", "TCP") if port_name == "dns" else ("TCP",):
            full_name = f"{port_name}-tcp" if port_name == "dns" and protocol == "TCP" else port_name
            common = {"name": full_name, "protocol": protocol}
            service_ports.append({**common, "port": service_port, "targetPort": process_port})
            slice_ports.append({**common, "port": process_port})
    spec: Manifest = {"type": "ClusterIP", "ports": service_ports}
    if cluster_ip:
        spec["clusterIP"] = cluster_ip
    metadata = {"namespace": namespace, "labels": dict(_LABELS)}
    return [
        {"apiVersion": "v1", "kind": "Service", "metadata": {"name": name, **metadata}, "spec": spec},
        {
            "apiVersion": "discovery.k8s.io/v1",
            "kind": "EndpointSlice",
            "metadata": {
                "name": f"{name}-host",
                "namespace": namespace,
                "labels": {
                    **_LABELS,
                    "kubernetes.io/service-name": name,
                    "endpointslice.kubernetes.io/managed-by": "starctl",
                },
            },
            "addressType": "IPv4",
            "endpoints": [{"addresses": [address], "conditions": {"ready": True}}],
            "ports": slice_ports,
        },
    ]


def store_secret(namespace: str, access_key: str, secret_key: str, session_token: str | None = None) -> Manifest:
    """The Secret by which pods of a namespace reach the S3 server; a token belongs to temporary keys."""
    token = {"AWS_SESSION_TOKEN": session_token} if session_token else {}
    return {
        "apiVersion": "v1",
        "kind": "Secret",
        "metadata": {"name": STORE_SECRET, "namespace": namespace, "labels": dict(_LABELS)},
        "type": "Opaque",
        "stringData": {"AWS_ACCESS_KEY_ID": access_key, "AWS_SECRET_ACCESS_KEY": secret_key, **token},
    }


def _dns_permissions() -> list[Manifest]:
    """What CoreDNS reads (https://github.com/coredns/deployment, its ClusterRole)."""
    name = "system:coredns"
    rules = [
        {"apiGroups": [""], "resources": ["services", "pods", "namespaces"], "verbs": ["list", "watch"]},
        {"apiGroups": ["discovery.k8s.io"], "resources": ["endpointslices"], "verbs": ["list", "watch"]},
    ]
    group = "rbac.authorization.k8s.io"
    return [
        {"apiVersion": f"{group}/v1", "kind": "ClusterRole", "metadata": {"name": name}, "rules": rules},
        {
            "apiVersion": f"{group}/v1",
            "kind": "ClusterRoleBinding",
            "metadata": {"name": name},
            "roleRef": {"apiGroup": group, "kind": "ClusterRole", "name": name},
            "subjects": [{"kind": "User", "apiGroup": group, "name": name}],
        },
    ]
