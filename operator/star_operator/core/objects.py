"""Small helpers for Kubernetes objects as JSON values."""

from typing import Any, TypeAlias

KubeObject: TypeAlias = dict[str, Any]
"""A Kubernetes object as JSON, with apiVersion, kind and metadata."""


def compact(value: Any) -> Any:
    """Drop None, empty maps and empty lists, recursively: server-side apply owns only what is said."""
    if isinstance(value, dict):
        slim = {key: compact(item) for key, item in value.items()}
        return {key: item for key, item in slim.items() if item is not None and item != {} and item != []}
    if isinstance(value, list | tuple):
        return [compact(item) for item in value]
    return value


def is_owned(obj: KubeObject, uid: str) -> bool:
    """Say whether the object of this UID owns another: what was made under the same name before is somebody else's."""
    return any(owner.get("uid") == uid for owner in obj["metadata"].get("ownerReferences") or ())


def identity(obj: KubeObject) -> tuple[str, str, str, str]:
    """Return (apiVersion, kind, namespace, name)."""
    meta = obj["metadata"]
    return obj["apiVersion"], obj["kind"], meta.get("namespace", ""), meta["name"]
