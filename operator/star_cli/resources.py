"""STAR resources of a namespace, as the command line reads them."""

from datetime import UTC, datetime
from typing import Any, Protocol

from star_contracts.names import GROUP, VERSION
from star_operator.api.kinds import KINDS
from star_operator.api.meta import Condition, Resource, Scope

ORDER = {kind.INFO.kind: place for place, kind in enumerate(KINDS)}
"""Kinds in the order of the chain."""

StarResource = Resource[Any, Any]


class Reader(Protocol):
    """What reads objects of a cluster (`star_cli.local.kubeapi.KubeApi`)."""

    def get(self, path: str) -> dict[str, Any] | None:
        """The object or list at a URL path, or None where it does not exist."""


def collection(plural: str, namespace: str) -> str:
    """URL path of all resources of one kind in a namespace."""
    return f"/apis/{GROUP}/{VERSION}/namespaces/{namespace}/{plural}"


def list_resources(api: Reader, namespace: str) -> list[StarResource]:
    """All STAR resources of a namespace, in the order of the chain, then by age.

    A kind whose CustomResourceDefinition is not installed has none.
    """
    found: list[StarResource] = []
    for kind in (one for one in KINDS if one.INFO.scope is Scope.NAMESPACED):
        body = api.get(collection(kind.INFO.plural, namespace)) or {}
        items = body.get("items", [])
        # Items of a list leave their kind out.
        parsed = [kind.parse({"apiVersion": f"{GROUP}/{VERSION}", "kind": kind.INFO.kind, **item}) for item in items]
        found += sorted(parsed, key=lambda one: (one.metadata.creation_timestamp, one.metadata.name))
    return found


def title(resource: StarResource) -> str:
    """`Kind/name`."""
    return f"{resource.kind}/{resource.metadata.name}"


def ready_condition(resource: StarResource) -> Condition | None:
    """The condition that says why the resource is as it is."""
    return next((found for found in resource.status.conditions if found.type == "Ready"), None)


def parse_time(text: str) -> datetime:
    """RFC 3339 as the API writes it."""
    return datetime.fromisoformat(text.replace("Z", "+00:00")).astimezone(UTC)
