"""The few API calls that building a cluster needs, over plain HTTP: readiness, server-side apply, read, tokens."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import httpx

from star_cli.local.errors import LocalClusterError
from star_cli.local.kubeauth import connection
from star_contracts.names import GROUP, VERSION

FIELD_MANAGER = "starctl"
Object = dict[str, Any]

_PLURALS = {
    "Namespace": ("api/v1", "namespaces"),
    "Service": ("api/v1", "services"),
    "ServiceAccount": ("api/v1", "serviceaccounts"),
    "Secret": ("api/v1", "secrets"),
    "ConfigMap": ("api/v1", "configmaps"),
    "Node": ("api/v1", "nodes"),
    "EndpointSlice": ("apis/discovery.k8s.io/v1", "endpointslices"),
    "Job": ("apis/batch/v1", "jobs"),
    "Checkpoint": (f"apis/{GROUP}/{VERSION}", "checkpoints"),
    "ClusterRole": ("apis/rbac.authorization.k8s.io/v1", "clusterroles"),
    "ClusterRoleBinding": ("apis/rbac.authorization.k8s.io/v1", "clusterrolebindings"),
}


def object_path(kind: str, name: str, namespace: str = "") -> str:
    """URL path of one object of the kinds that this module knows."""
    base, plural = _PLURALS[kind]
    return f"/{base}/namespaces/{namespace}/{plural}/{name}" if namespace else f"/{base}/{plural}/{name}"


class KubeApi:
    """A client for the API server that a kubeconfig's current context names."""

    def __init__(self, kubeconfig: Path, timeout: float = 10.0) -> None:
        self._to = connection(kubeconfig)
        self.url = self._to.url
        self._client = httpx.Client(
            base_url=self.url,
            verify=self._to.tls,
            proxy=self._to.proxy,
            timeout=timeout,
            trust_env=False,
            event_hooks={"request": [self._sign]},
        )

    def ready(self) -> bool:
        """Whether /readyz says ok and a read that goes through to etcd is answered."""
        try:
            well = self._client.get("/readyz").status_code == 200
            # /readyz remembers etcd's last answer for a while: ask for something that is there from the start
            return well and self._client.get(object_path("Namespace", "kube-system")).status_code == 200
        except httpx.HTTPError:
            return False

    def get(self, path: str) -> Object | None:
        """The object at `path`, or None where it does not exist."""
        response = self._send("GET", path, accept=(200, 404))
        return None if response.status_code == 404 else response.json()

    def apply(self, manifest: Mapping[str, Any], path: str | None = None) -> Object:
        """Server-side apply of one object, taking over fields that someone else had set.

        `path` is its URL path, for kinds that this module does not know.
        """
        metadata = manifest["metadata"]
        path = path or object_path(manifest["kind"], metadata["name"], metadata.get("namespace", ""))
        response = self._send(
            "PATCH",
            path,
            params={"fieldManager": FIELD_MANAGER, "force": "true"},
            content_type="application/apply-patch+yaml",
            body=manifest,
        )
        return dict(response.json())

    def apply_all(self, manifests: Sequence[Mapping[str, Any]]) -> None:
        """Server-side apply of several objects, in order."""
        for manifest in manifests:
            self.apply(manifest)

    def create(self, path: str, manifest: Mapping[str, Any]) -> Object:
        """Create one object in the collection at `path`; of a review, the answer."""
        return dict(self._send("POST", path, body=manifest).json())

    def merge(self, path: str, patch: Mapping[str, Any]) -> Object:
        """JSON merge patch of the object (or subresource) at `path`."""
        response = self._send("PATCH", path, content_type="application/merge-patch+json", body=patch)
        return dict(response.json())

    def delete(self, path: str) -> None:
        """Delete the object at `path`; nothing happens where it does not exist."""
        self._send("DELETE", path, accept=(200, 202, 404))

    def service_account_token(self, namespace: str, name: str, seconds: int = 3600) -> str:
        """A token of a ServiceAccount that exists, valid for `seconds` (at least 600)."""
        body = {
            "apiVersion": "authentication.k8s.io/v1",
            "kind": "TokenRequest",
            "spec": {"expirationSeconds": seconds},
        }
        path = object_path("ServiceAccount", name, namespace) + "/token"
        return str(self._send("POST", path, accept=(201,), body=body).json()["status"]["token"])

    def close(self) -> None:
        """Close the connections."""
        self._client.close()

    def _sign(self, request: httpx.Request) -> None:
        authorization = self._to.authorization()
        if authorization is not None:
            request.headers["Authorization"] = authorization
        if self._to.server_name is not None:
            request.extensions["sni_hostname"] = self._to.server_name

    def _send(
        self,
        method: str,
        path: str,
        *,
        accept: Sequence[int] = (200, 201),
        params: Mapping[str, str] | None = None,
        content_type: str = "application/json",
        body: Mapping[str, Any] | None = None,
    ) -> httpx.Response:
        try:
            response = self._client.request(
                method,
                path,
                params=dict(params) if params else None,  # even an empty one would take the place of the path's query
                json=body,
                headers={"Content-Type": content_type},
            )
        except httpx.HTTPError as error:
            raise LocalClusterError(f"the API server at {self.url} does not answer {method} {path}: {error}") from error
        if response.status_code == 401:
            raise LocalClusterError(
                f"{self.url} does not know the user of the kubeconfig's current context; log in anew"
            )
        if response.status_code not in accept:
            raise LocalClusterError(f"{method} {path} was refused ({response.status_code}): {_message(response)}")
        return response


def _message(response: httpx.Response) -> str:
    try:
        return str(response.json()["message"])
    except (ValueError, KeyError, TypeError):
        return response.text[:300]
