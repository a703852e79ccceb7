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


def without_empty_maps(value: Any) -> Any:
    """Leave out empty maps, recursively. A map whose last entry is taken back by a server-side apply is null.

    (structured-merge-diff makes it so, and a schema without a default or `nullable` then refuses the whole object, each
    time anew. One that is not said at all is gone.)
    """
    if isinstance(value, dict):
        return {key: without_empty_maps(item) for key, item in value.items() if item != {}}
    if isinstance(value, list | tuple):
        return [without_empty_maps(item) for item in value]
    return value


def identity(obj: KubeObject) -> tuple[str, str, str, str]:
    """Return (apiVersion, kind, namespace, name)."""
    meta = obj["metadata"]
    return obj["apiVersion"], obj["kind"], meta.get("namespace", ""), meta["name"]
