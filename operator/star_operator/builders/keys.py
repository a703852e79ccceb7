"""Secrets with the keys by which pods of one run know each other. Pods get them as files, and never otherwise.

A Secret has its owner's UID in its name, so that what is made anew under a name never waits for what is on its way out.
"""

from collections.abc import Mapping

from star_operator.api.common import SecretKeyRef
from star_operator.builders.names import child_name, common_labels, labels, owner_reference
from star_operator.builders.step import Owner, ServerPlan, Step
from star_operator.core.keys import KeyRing, new_key
from star_operator.core.labels import GATEWAY, LABEL_COMPONENT, LABEL_SERVER, resource_labels
from star_operator.core.objects import KubeObject

RAY_KEY = "ray"
"""The pods of a group know each other by it."""
RAY_ROLE = "rollout"
"""Image role of the pods that make a Ray cluster where they work as a group."""
SERVER_KEY = "server"
"""Requests to an LLM server come with it."""
GATEWAY_KEY = "gateway"
"""Requests to a gateway come with it, where the spec names no other."""
UID_DIGITS = 8


def step_keys_name(owner: Owner, attempt: int, step: str) -> str:
    """Return the name of the Secret of one attempt of a step."""
    return child_name(owner, attempt, f"{step}-keys-{owner.uid[:UID_DIGITS]}")


def step_key_refs(secret: str, step: Step) -> dict[str, SecretKeyRef]:
    """Return which keys the pods of a step have, by the name of the file: of its servers, and of its Ray cluster."""
    names = [server.name for server in step.servers] + ([RAY_KEY] if makes_ray_cluster(step) else [])
    return {name: SecretKeyRef(name=secret, key=name) for name in names}


def makes_ray_cluster(step: Step) -> bool:
    """Say whether a step's pods may make a Ray cluster of several nodes."""
    return step.compute.nodes > 1 and step.role == RAY_ROLE


def step_keys(owner: Owner, step: Step, attempt: int, keys: KeyRing) -> KubeObject | None:
    """Return the Secret that the pods of one attempt need; None where they call no server and are no group."""
    data = {server.name: keys.server(owner.namespace, server.name) for server in step.servers}
    data |= {RAY_KEY: new_key()} if makes_ray_cluster(step) else {}
    if not data:
        return None
    meta = {
        "namespace": owner.namespace,
        "name": step_keys_name(owner, attempt, step.name),
        "labels": labels(owner, step.name, attempt),
        "ownerReferences": [owner_reference(owner)],
    }
    return _secret(meta, data)


def server_keys(namespace: str, plan: ServerPlan, keys: KeyRing) -> KubeObject:
    """Return the Secret of a shared server; it gets the server's anchor as its owner."""
    meta = {
        "namespace": namespace,
        "name": plan.name,
        "labels": common_labels("vllm") | {LABEL_SERVER: plan.name},
    }
    return _secret(meta, {SERVER_KEY: keys.server(namespace, plan.name)})


def deployment_keys_name(owner: Owner) -> str:
    """Return the name of the Secret of a StarDeployment."""
    return child_name(owner, None, f"keys-{owner.uid[:UID_DIGITS]}")


def deployment_keys(owner: Owner) -> KubeObject:
    """Return the Secret of a StarDeployment: the key between its gateway and its servers, and one for its callers."""
    meta = {
        "namespace": owner.namespace,
        "name": deployment_keys_name(owner),
        "labels": labels(owner) | resource_labels(owner.kind, owner.name) | {LABEL_COMPONENT: GATEWAY},
        "ownerReferences": [owner_reference(owner)],
    }
    return _secret(meta, {SERVER_KEY: new_key(), GATEWAY_KEY: new_key()})


def _secret(meta: KubeObject, data: Mapping[str, str]) -> KubeObject:
    return {"apiVersion": "v1", "kind": "Secret", "metadata": meta, "type": "Opaque", "stringData": dict(data)}
