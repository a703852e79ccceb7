"""What NetworkPolicies let through, as a plug-in that enforces them would (kubernetes.io, `Network Policies`)."""

import ipaddress
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from star_operator.core.objects import KubeObject


@dataclass(frozen=True)
class End:
    """One end of a connection: a pod, or an address outside."""

    labels: Mapping[str, str] = field(default_factory=dict)
    namespace: str = "default"
    address: str = ""


def pod_of(workload: KubeObject) -> End:
    """The pod of a Job, Deployment or StatefulSet, with the label that its controller adds."""
    labels = dict(workload["spec"]["template"]["metadata"]["labels"])
    if workload["kind"] == "Job":
        labels["batch.kubernetes.io/job-name"] = workload["metadata"]["name"]
    return End(labels, workload["metadata"]["namespace"])


def lets_through(policies: Sequence[KubeObject], source: End, target: End, port: int, protocol: str = "TCP") -> bool:
    """Say whether a connection comes about: both its ends' policies have to allow it."""
    out = _allows(policies, "Egress", source, target, (port, protocol))
    return out and _allows(policies, "Ingress", target, source, (port, protocol))


def _allows(policies: Iterable[KubeObject], direction: str, subject: End, peer: End, port: tuple[int, str]) -> bool:
    if subject.address:
        return True
    selecting = [one["spec"] for one in policies if _is_about(one, direction, subject)]
    rules = [rule for spec in selecting for rule in spec.get(direction.lower(), [])]
    ends = "to" if direction == "Egress" else "from"
    return not selecting or any(_rule(rule, ends, subject, peer, port) for rule in rules)


def _is_about(policy: KubeObject, direction: str, subject: End) -> bool:
    same = policy["metadata"]["namespace"] == subject.namespace
    return (
        same and direction in policy["spec"]["policyTypes"] and _selects(policy["spec"]["podSelector"], subject.labels)
    )


def _rule(rule: KubeObject, ends: str, subject: End, peer: End, port: tuple[int, str]) -> bool:
    ports = rule.get("ports")
    if ports and port not in [(one["port"], one["protocol"]) for one in ports]:
        return False
    return ends not in rule or any(_is_peer(one, subject, peer) for one in rule[ends])


def _is_peer(one: KubeObject, subject: End, peer: End) -> bool:
    if "ipBlock" in one:
        return bool(peer.address) and _within(one["ipBlock"], peer.address)
    if peer.address:
        return False
    namespace = one.get("namespaceSelector")
    placed = (
        peer.namespace == subject.namespace
        if namespace is None
        else _selects(namespace, {"kubernetes.io/metadata.name": peer.namespace})
    )
    return placed and _selects(one.get("podSelector", {}), peer.labels)


def _within(block: KubeObject, address: str) -> bool:
    found = ipaddress.ip_address(address)
    inside = [found in ipaddress.ip_network(net) for net in (block["cidr"], *block.get("except", []))]
    return inside[0] and not any(inside[1:])


def _selects(selector: Mapping[str, Any], labels: Mapping[str, str]) -> bool:
    if not selector.get("matchLabels", {}).items() <= labels.items():
        return False
    for rule in selector.get("matchExpressions", []):
        has = rule["key"] in labels
        match rule["operator"]:
            case "In":
                if labels.get(rule["key"]) not in rule["values"]:
                    return False
            case "Exists":
                if not has:
                    return False
            case _:
                raise NotImplementedError(rule["operator"])
    return True
