"""Secrets that the operator makes. It may create them and read none but the one with its own root key."""

import base64
import binascii

from star_contracts.names import GROUP
from star_operator.core.errors import Retryable
from star_operator.core.keys import ROOT_BYTES, KeyRing, new_key
from star_operator.core.labels import OURS
from star_operator.core.objects import KubeObject
from star_operator.kube.cluster import Cluster
from star_operator.kube.resources import SECRET

ROOT_KEY = "root"
NOTE = {f"{GROUP}/note": "keys of LLM servers follow from this one; docs/operator.md says how to change it"}


async def ensure_secret(cluster: Cluster, secret: KubeObject) -> None:
    """Make a Secret unless there is one of its name, which is left as it is: pods may have read it."""
    try:
        await cluster.create(secret)
    except Retryable as error:
        if error.reason != "AlreadyExists":
            raise


async def load_key_ring(cluster: Cluster, namespace: str, name: str) -> KeyRing:
    """Return the key ring of this operator, whose root key is in a Secret of its namespace; made at the first start.

    Raises Retryable as long as it cannot be read or made.
    """
    meta = {"namespace": namespace, "name": name, "labels": dict(OURS), "annotations": NOTE}
    made = {
        "apiVersion": "v1",
        "kind": "Secret",
        "metadata": meta,
        "type": "Opaque",
        "immutable": True,
        "stringData": {ROOT_KEY: new_key()},
    }
    if (found := await cluster.get(SECRET, namespace, name)) is None:
        await ensure_secret(cluster, made)  # another replica may be faster: what counts is what is there afterwards
        found = await cluster.get(SECRET, namespace, name)
    return KeyRing(_root(found or {}, f"Secret {name} in namespace {namespace}"))


def _root(secret: KubeObject, what: str) -> bytes:
    try:
        root = bytes.fromhex(base64.b64decode(secret.get("data", {}).get(ROOT_KEY, ""), validate=True).decode())
    except (binascii.Error, ValueError):
        root = b""
    if len(root) < ROOT_BYTES:
        text = f"{what} has no {ROOT_KEY} of {2 * ROOT_BYTES} hex digits; delete it, and a new one is made"
        raise Retryable("RootKeyUnusable", text)
    return root
