"""Which ways pods have: what the platform says of the network around them (networking.k8s.io/v1 NetworkPolicy)."""

from typing import Annotated

from pydantic import Field, JsonValue, StringConstraints

from star_contracts.addresses import metadata_networks
from star_contracts.base import Model
from star_operator.core.objects import KubeObject, compact

CIDR = Annotated[str, StringConstraints(pattern=r"^[0-9A-Fa-f.:]+/[0-9]{1,3}$", max_length=49)]


class IPBlock(Model):
    """A range of addresses."""

    cidr: CIDR
    """As `10.0.0.0/8`."""
    except_: tuple[CIDR, ...] = Field(default=(), alias="except", max_length=64)
    """Ranges within it that are left out."""


class Selector(Model):
    """Labels that are looked for; none of them selects all."""

    match_labels: dict[str, str] = {}
    """Labels and their values."""
    match_expressions: tuple[dict[str, JsonValue], ...] = ()
    """meta/v1 LabelSelectorRequirements."""


class Peer(Model):
    """Where a way leads: a range of addresses, or pods."""

    ip_block: IPBlock | None = None
    """Addresses, without selectors beside."""
    namespace_selector: Selector | None = None
    """Namespaces; with `podSelector`, pods in these."""
    pod_selector: Selector | None = None
    """Pods of the policy's own namespace, or of those that `namespaceSelector` selects."""


class PodNetwork(Model):
    """NetworkPolicies of the pods that the operator starts. They need a network plug-in that enforces them."""

    enabled: bool = True
    """Make them."""
    dns: tuple[Peer, ...] = (
        Peer(namespace_selector=Selector(match_labels={"kubernetes.io/metadata.name": "kube-system"})),
        Peer(ip_block=IPBlock(cidr="169.254.20.10/32")),
    )
    """Who answers DNS, at port 53 or 5353. The address is that of NodeLocal DNSCache."""
    store: tuple[Peer, ...] = ()
    """Where the store is; empty for what follows from `store.connection.endpoint`."""
    outside: tuple[Peer, ...] = ()
    """Where pods may go that call an endpoint, a hub, or a Git server; empty for every address but those at which
    nodes and clouds give their credentials away."""
    egress: tuple[dict[str, JsonValue], ...] = ()
    """Further NetworkPolicyEgressRules of all pods: a mesh's control plane, for example."""
    gateway_callers: tuple[Peer, ...] = ()
    """Who may reach gateways; empty for everybody."""
    scrapers: tuple[Peer, ...] = ()
    """Who may read the metrics of LLM servers, besides their callers."""


def peers(found: tuple[Peer, ...]) -> list[KubeObject]:
    """Return them as the API has them. A selector without labels is said, as it selects all."""
    return [_peer(one) for one in found]


def anywhere() -> list[KubeObject]:
    """Return every address but those of the node and the cloud."""
    return [
        {"ipBlock": {"cidr": cidr, "except": metadata_networks(version)}}
        for version, cidr in ((4, "0.0.0.0/0"), (6, "::/0"))
    ]


def _peer(one: Peer) -> KubeObject:
    selectors = {"namespaceSelector": one.namespace_selector, "podSelector": one.pod_selector}
    found: KubeObject = {name: _selector(value) for name, value in selectors.items() if value is not None}
    if one.ip_block is not None:
        found["ipBlock"] = compact(one.ip_block.to_json_dict())
    return found


def _selector(one: Selector) -> KubeObject:
    found: KubeObject = {"matchLabels": dict(one.match_labels)} if one.match_labels else {}
    if one.match_expressions:
        found["matchExpressions"] = [dict(rule) for rule in one.match_expressions]
    return found
