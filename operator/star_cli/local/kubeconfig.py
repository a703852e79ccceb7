"""Kubeconfig files: who one is, and where the API server is.

https://kubernetes.io/docs/reference/config-api/kubeconfig.v1/
"""

import base64
from dataclasses import dataclass
from pathlib import Path

import yaml

from star_cli.local.files import write_if_changed
from star_cli.local.pki import KeyPair


@dataclass(frozen=True)
class Endpoint:
    """An API server: its URL, the certificate authority to believe, and the name the context gets."""

    url: str
    authority: Path
    name: str = "star"


def render(endpoint: Endpoint, *, pair: KeyPair | None = None, token: str | None = None, namespace: str = "") -> str:
    """A kubeconfig with everything inlined: the file alone is enough, wherever it is copied to."""
    user: dict[str, str] = {}
    if pair is not None:
        user = {
            "client-certificate-data": _inline(pair.certificate),
            "client-key-data": _inline(pair.key),
        }
    if token is not None:
        user = {"token": token}
    context = {"cluster": endpoint.name, "user": endpoint.name} | ({"namespace": namespace} if namespace else {})
    document = {
        "apiVersion": "v1",
        "kind": "Config",
        "current-context": endpoint.name,
        "clusters": [
            {
                "name": endpoint.name,
                "cluster": {"server": endpoint.url, "certificate-authority-data": _inline(endpoint.authority)},
            }
        ],
        "users": [{"name": endpoint.name, "user": user}],
        "contexts": [{"name": endpoint.name, "context": context}],
    }
    return yaml.safe_dump(document, sort_keys=False)


def write(path: Path, content: str) -> Path:
    """Write a kubeconfig, readable by its owner alone. Returns the path."""
    write_if_changed(path, content, mode=0o600)
    return path


def _inline(path: Path) -> str:
    return base64.b64encode(path.read_bytes()).decode()
