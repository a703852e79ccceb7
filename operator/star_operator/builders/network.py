"""NetworkPolicies: who may reach a pod of ours, and where it may go.

Policies add up (kubernetes.io, `Network Policies`). One of a namespace lets nobody in and leaves the common ways out:
DNS, the store, the operator's API, LLM servers of the namespace. A second one opens the outside to pods that say by a
label that they call an endpoint, a hub or a Git server. What groups, servers and gateways need besides is in a policy
of their own, which goes with its owner.
"""

from collections.abc import Sequence
from ipaddress import ip_address
from urllib.parse import urlsplit

from star_contracts.addresses import host_of
from star_contracts.job import Stage
from star_operator.builders.engine import PORT
from star_operator.builders.names import common_labels
from star_operator.core.labels import (
    EGRESS_LABEL,
    LABEL_COMPONENT,
    LABEL_SERVER,
    LEADER,
    OURS,
    OUTSIDE,
    uses_label,
)
from star_operator.core.network import anywhere, peers
from star_operator.core.objects import KubeObject
from star_operator.core.settings import Settings

NETWORK = "network"
BASE_POLICY, OUTSIDE_POLICY = "star-pods", "star-pods-outside"
API_VERSION = "networking.k8s.io/v1"
DNS_PORTS = (53, 5353)
"""Of the Service, and of OpenShift's pods behind it: policies see the pods' own ports."""
POD_IDENTITY = "169.254.170.23/32"
"""Where the agent of EKS Pod Identity gives a pod the credentials of its role (docs.aws.amazon.com, Amazon EKS)."""


def namespace_policies(namespace: str, settings: Settings) -> list[KubeObject]:
    """Return the policies of a namespace, which stand before any pod does; none where they are switched off."""
    if not settings.network.enabled:
        return []
    told: KubeObject = {"matchLabels": OURS, "matchExpressions": [{"key": EGRESS_LABEL, "operator": "Exists"}]}
    outside = {"matchLabels": {**OURS, EGRESS_LABEL: OUTSIDE}}
    return [
        _policy(_meta(namespace, BASE_POLICY), told, [], _common_ways(settings)),
        _policy(_meta(namespace, OUTSIDE_POLICY), outside, None, [{"to": _outside(settings)}]),
    ]


def group_policy(meta: KubeObject, members: dict[str, str], settings: Settings) -> list[KubeObject]:
    """Return the policy by which the pods of a group reach each other, at whatever ports they choose."""
    if not settings.network.enabled:
        return []
    selector = {"matchLabels": dict(members)}
    return [_policy(meta, selector, [{"from": [{"podSelector": selector}]}], [{"to": [{"podSelector": selector}]}])]


def server_policy(
    meta: KubeObject, selector: KubeObject, callers: Sequence[KubeObject], settings: Settings
) -> list[KubeObject]:
    """Return the policy of LLM servers: their callers reach what answers, the pods of their groups each other.

    `selector` is a LabelSelector of their pods, `callers` are NetworkPolicyPeers.
    """
    if not settings.network.enabled:
        return []
    group = [{"podSelector": selector}]
    allowed = [*callers, *peers(settings.network.scrapers)]
    ingress = [{"from": group}, {"from": allowed, "ports": [{"port": PORT, "protocol": "TCP"}]}]
    return [_policy(meta, selector, ingress, [{"to": group}])]


def shared_server_policy(meta: KubeObject, server: str, settings: Settings) -> list[KubeObject]:
    """Return the policy of a server that stages share: the pods that say that they use it may ask it."""
    users = {"podSelector": {"matchLabels": {uses_label(server): "true"}}}
    return server_policy(meta, {"matchLabels": {LABEL_SERVER: server}}, [users], settings)


def gateway_policy(meta: KubeObject, selector: dict[str, str], port: int, settings: Settings) -> list[KubeObject]:
    """Return the policy of a gateway: its callers reach its port."""
    if not settings.network.enabled:
        return []
    rule: KubeObject = {"ports": [{"port": port, "protocol": "TCP"}]}
    if settings.network.gateway_callers:
        rule["from"] = peers(settings.network.gateway_callers)
    return [_policy(meta, {"matchLabels": dict(selector)}, [rule], None)]


def goes_outside(stage: Stage) -> bool:
    """Say whether a stage calls an endpoint that is not the operator's, or fetches a model from a hub."""
    return _names_outside(stage.to_json_dict())


def _names_outside(value: object) -> bool:
    if isinstance(value, dict):
        if "baseUrl" in value:
            return "askPort" not in value
        return bool(value.get("hub")) or any(map(_names_outside, value.values()))
    return isinstance(value, list) and any(map(_names_outside, value))


def _common_ways(settings: Settings) -> list[KubeObject]:
    network, connection = settings.network, settings.store.connection
    dns = [_port(number, protocol) for number in DNS_PORTS for protocol in ("UDP", "TCP")]
    rules: list[KubeObject] = [{"to": peers(network.dns), "ports": dns}]
    if network.store:
        rules.append({"to": peers(network.store)})
    else:
        rules.append(_way(connection.endpoint, settings) if connection.endpoint else _outside_at(443, settings))
    rules += [_way(url, settings) for url in (settings.proxy.https, settings.proxy.http) if url]
    if not settings.store.secret_name:  # a role: its credentials are asked for at the cloud's STS, or at the agent's
        rules.append(_outside_at(443, settings))
        rules.append({"to": [{"ipBlock": {"cidr": POD_IDENTITY}}], "ports": [_port(80)]})
    rules.append(_way(settings.progress_url, settings))
    servers = {"matchLabels": {**OURS, LABEL_COMPONENT: LEADER}}
    rules.append({"to": [{"podSelector": servers}], "ports": [_port(PORT)]})
    found = [rule for number, rule in enumerate(rules) if rule not in rules[:number]]
    return [*found, *(dict(rule) for rule in network.egress)]


def _way(url: str, settings: Settings) -> KubeObject:
    """Return the way to a URL: of a Service's pods the namespace is known, and not at which port they listen."""
    parts, host = urlsplit(url), host_of(url)
    port = parts.port or (443 if parts.scheme == "https" else 80)
    try:
        address = ip_address(host)
    except ValueError:
        labels = host.split(".")
        if "svc" in labels[2:3]:
            return {"to": [{"namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": labels[1]}}}]}
        return _outside_at(port, settings)
    return {"to": [{"ipBlock": {"cidr": f"{address}/{address.max_prefixlen}"}}], "ports": [_port(port)]}


def _outside(settings: Settings) -> list[KubeObject]:
    return peers(settings.network.outside) or anywhere()


def _outside_at(port: int, settings: Settings) -> KubeObject:
    return {"to": _outside(settings), "ports": [_port(port)]}


def _port(number: int, protocol: str = "TCP") -> KubeObject:
    return {"port": number, "protocol": protocol}


def _meta(namespace: str, name: str) -> KubeObject:
    return {"namespace": namespace, "name": name, "labels": common_labels(NETWORK)}


def _policy(
    meta: KubeObject, selector: KubeObject, ingress: list[KubeObject] | None, egress: list[KubeObject] | None
) -> KubeObject:
    """Return a policy; None says nothing of a direction, an empty list closes it."""
    directions = {"Ingress": ingress, "Egress": egress}
    said = {name: rules for name, rules in directions.items() if rules is not None}
    spec = {"podSelector": selector, "policyTypes": list(said)}
    rules = {name.lower(): rules for name, rules in said.items() if rules}
    return {"apiVersion": API_VERSION, "kind": "NetworkPolicy", "metadata": meta, "spec": spec | rules}
