"""The cluster as the operator sees it: get, list, server-side apply, delete, each as one call on JSON objects.

Errors of the API become the operator's own, with the server's sentence (kubernetes.io/docs/reference/using-api):

| answer | error | whose to mend |
|---|---|---|
| 404 | none: there is no such object | |
| 401, 408, 409, 410, 429, 5xx, no answer | `Retryable` | nobody's: it passes. The token of the next try is read anew |
| 403 of a ResourceQuota | `Refused`, QuotaExceeded | the namespace's: it passes when the quota is raised |
| 403 of the authorizer | `Refused`, RightMissing | the platform's: which verb, which resource, where |
| other 403, a webhook that is away | `Refused` | a policy's |
| 422, 400, and all else | `InvalidSpec` | the resource's: the same object would be refused again |
"""

import asyncio
import json
import re
from collections.abc import Callable, Coroutine, Mapping
from dataclasses import dataclass
from typing import Any, cast

import aiohttp
from kubernetes.aio import client, config
from kubernetes.aio.client.exceptions import ApiException

from star_contracts.names import FIELD_MANAGER
from star_operator.core.errors import InvalidSpec, Refused, Retryable, StarError, Taken
from star_operator.core.objects import KubeObject, identity
from star_operator.core.reasons import ConditionReason
from star_operator.kube.indexes import indexed, selector
from star_operator.kube.resources import BY_GVK, NAMESPACE, POD, ResourceType
from star_operator.metrics import API_CALLS

JSON = "application/json"
NAMES_ONLY = "application/json;as=PartialObjectMetadataList;g=meta.k8s.io;v=v1"
"""Of a list: its objects' metadata (kubernetes.io, API concepts, "Alternate representations of resources")."""
APPLY = "application/apply-patch+yaml"
MERGE = "application/merge-patch+json"
VERBS = {"GET": "get", "POST": "create", "PATCH": "patch", "PUT": "update", "DELETE": "delete"}
PAGE = 500
TRANSIENT = {401, 408, 409, 410, 429, 500, 502, 503, 504}
TIMEOUT_SECONDS = 60

NOT_LEADING = "NotLeading"
NO_WEBHOOK = "failed calling webhook"
NOT_THAT_UID = "metadata.uid: Invalid value"
OTHER_UID = "the UID in the precondition"
"""How the API server says, of a patch and of a deletion, that a name is another object's than the one meant."""
_OWN_PORT = re.compile(r"((?:\d+\.){3}\d+|\[[0-9a-fA-F:]+\]):\d+->")
"""The near end of a connection that failed: its port is another each time, and would make every try news."""

_QUOTA = re.compile(r"(exceeded|failed|insufficient) quota\b|status unknown for quota")
"""What the admission plugin ResourceQuota says (apiserver, plugin/resourcequota)."""
_RIGHT = re.compile(
    r'User "[^"]*" cannot (?P<verb>\S+) resource "(?P<resource>[^"]+)" in API group "(?P<group>[^"]*)"'
    r'(?: in the namespace "(?P<namespace>[^"]+)")?'
)
"""What the authorizer says (apiserver, endpoints/handlers/responsewriters `forbiddenMessage`)."""
_MANAGER = re.compile(r'conflict with "([^"]+)"')


@dataclass(frozen=True)
class Listing:
    """A LIST, and the version of its kind that it shows; the oldest one, where it was made of several."""

    items: list[KubeObject]
    version: int


class Cluster:
    """A connection to one API server.

    With `seconds_left`, writes are fenced: none is sent when it returns 0 or less, and one that is on its way then is
    given up. Reads are not. With `namespaces`, nothing of others is listed: there may be no right to.
    """

    def __init__(
        self,
        api: client.ApiClient,
        seconds_left: Callable[[], float] | None = None,
        namespaces: tuple[str, ...] = (),
    ) -> None:
        self._api = api
        self._seconds_left = seconds_left
        self._namespaces = namespaces

    @classmethod
    async def connect(cls, kubeconfig: str | None = None, namespaces: tuple[str, ...] = ()) -> "Cluster":
        """Connect by the given kubeconfig, else by the pod's service account, else by the user's kubeconfig."""
        if kubeconfig is not None:
            await config.load_kube_config(config_file=kubeconfig)
        else:
            await config.load_config()
        return cls(client.ApiClient(), namespaces=namespaces)

    def fenced(self, seconds_left: Callable[[], float]) -> "Cluster":
        """Return the same connection for a leader, who may write for so many seconds from now."""
        return Cluster(self._api, seconds_left, self._namespaces)

    async def close(self) -> None:
        """Close the connections."""
        await self._api.close()

    async def get(self, rtype: ResourceType, namespace: str, name: str) -> KubeObject | None:
        """Return the object as it is now, or None when there is none."""
        try:
            return await self._call("GET", rtype.path(namespace, name))
        except NotFound:
            return None

    async def list_objects(
        self,
        rtype: ResourceType,
        namespace: str | None,
        labels: Mapping[str, str] | None = None,
        fields: Mapping[str, str] | None = None,
    ) -> list[KubeObject]:
        """Return all objects with these labels and fields, in pages of 500; of all namespaces when it is None.

        All are those that this operator looks after. Of Namespaces, too, only they are returned.
        """
        selectors = [("labelSelector", _selector(labels)), ("fieldSelector", _selector(fields))]
        return (await self._list(rtype, namespace, selectors)).items

    async def list_by(self, rtype: ResourceType, namespace: str | None, index: str, value: str) -> list[KubeObject]:
        """Return the objects that an index of `kube/indexes.py` has under a value."""
        found = await self.list_objects(rtype, namespace, selector(rtype.kind))
        return [obj for obj in found if (index, value) in indexed(obj)]

    async def snapshot(self, rtype: ResourceType, *, names_only: bool = False) -> Listing:
        """Return all that is looked at of a kind, in all namespaces, as it was at one moment.

        With `names_only` each object has its metadata alone, which costs a tenth.
        """
        selectors = [("labelSelector", _selector(selector(rtype.kind)))]
        return await self._list(rtype, None, selectors, accept=NAMES_ONLY if names_only else JSON)

    @property
    def live(self) -> "Cluster":
        """The cluster as it is this moment: what reads from memory has another."""
        return self

    async def _list(
        self, rtype: ResourceType, namespace: str | None, selectors: list[tuple[str, str]], *, accept: str = JSON
    ) -> Listing:
        if namespace is None and self._namespaces and rtype.namespaced:
            parts = [await self._pages(rtype, one, selectors, accept) for one in self._namespaces]
            return Listing([item for part in parts for item in part.items], min(part.version for part in parts))
        found = await self._pages(rtype, namespace, selectors, accept)
        if rtype is NAMESPACE and self._namespaces:
            return Listing([one for one in found.items if one["metadata"]["name"] in self._namespaces], found.version)
        return found

    async def _pages(
        self, rtype: ResourceType, namespace: str | None, selectors: list[tuple[str, str]], accept: str
    ) -> Listing:
        items: list[KubeObject] = []
        token, version = "", ""
        while True:
            query = [("limit", str(PAGE)), *selectors, ("continue", token)]
            query = [pair for pair in query if pair[1]]
            page = await self._call("GET", rtype.path(namespace), query=query, accept=accept)
            found = page["items"] or []  # an empty list of metadata is null
            for item in found:
                item["apiVersion"], item["kind"] = rtype.api_version, rtype.kind
            items += found
            version = version or page["metadata"].get("resourceVersion", "")  # all pages are of the first one's moment
            token = page["metadata"].get("continue", "")
            if not token:
                return Listing(items, int(version or 0))

    async def apply(self, obj: KubeObject, *, manager: str = FIELD_MANAGER) -> KubeObject:
        """Server-side apply: create the object or make the fields said here so (KEP-555)."""
        return await self._apply(obj, manager, None)

    async def claim(self, obj: KubeObject) -> KubeObject:
        """Server-side apply that takes no field from others: `Taken` where they have given one another value."""
        return await self._apply(obj, FIELD_MANAGER, None, force=False)

    async def apply_status(self, obj: KubeObject) -> KubeObject:
        """Server-side apply of the status subresource; with a resourceVersion, only where that is still the last one.

        (The API server looks at no UID here: of a status' metadata it takes nothing over.)
        """
        return await self._apply(obj, FIELD_MANAGER, "status")

    async def create(self, obj: KubeObject, *, dry_run: bool = False) -> KubeObject:
        """Create an object, or find out whether it could be; `Retryable` (AlreadyExists) when there is one."""
        rtype, query = _type_of(obj), [("fieldManager", FIELD_MANAGER), *([("dryRun", "All")] if dry_run else [])]
        return await self._call("POST", rtype.path(obj["metadata"].get("namespace")), query=query, body=obj)

    async def merge(
        self, rtype: ResourceType, namespace: str, name: str, patch: KubeObject, *, uid: str | None = None
    ) -> KubeObject | None:
        """Merge-patch an object; None when it is gone, or, with `uid`, when its name is another one's now."""
        if uid is not None:
            patch = {**patch, "metadata": {**patch.get("metadata", {}), "uid": uid}}
        try:
            return await self._call("PATCH", rtype.path(namespace, name), body=patch, content_type=MERGE)
        except NotFound:
            return None
        except InvalidSpec as error:  # the API server takes another UID for a change of an immutable field
            if uid is None or NOT_THAT_UID not in error.message:
                raise
            return None

    async def replace(self, obj: KubeObject) -> KubeObject:
        """Replace an object at its resourceVersion (optimistic lock)."""
        _, _, namespace, name = identity(obj)
        return await self._call("PUT", _type_of(obj).path(namespace, name), body=obj)

    async def delete(
        self,
        rtype: ResourceType,
        namespace: str,
        name: str,
        *,
        uid: str | None = None,
        version: str | None = None,
        foreground: bool = False,
    ) -> bool:
        """Delete an object, with its dependents; with `version`, only if it has not changed.

        False when it is gone; with `uid`, also when its name is another one's now.
        """
        options: KubeObject = {"propagationPolicy": "Foreground" if foreground else "Background"}
        if uid is not None or version is not None:
            wanted = {"uid": uid, "resourceVersion": version}
            options["preconditions"] = {key: value for key, value in wanted.items() if value is not None}
        try:
            return await self._delete(rtype, namespace, name, options)
        except Retryable as error:
            if uid is None or OTHER_UID not in error.message:
                raise
            return False

    async def delete_pod(self, namespace: str, name: str, *, uid: str, grace_seconds: int) -> bool:
        """Delete this very pod, not a successor of its name. False when it is gone."""
        options = {"gracePeriodSeconds": grace_seconds, "preconditions": {"uid": uid}}
        return await self._delete(POD, namespace, name, options)

    async def _delete(self, rtype: ResourceType, namespace: str, name: str, options: KubeObject) -> bool:
        try:
            await self._call("DELETE", rtype.path(namespace, name), body=options)
        except NotFound:
            return False
        return True

    async def _apply(self, obj: KubeObject, manager: str, subresource: str | None, *, force: bool = True) -> KubeObject:
        _, _, namespace, name = identity(obj)
        path = _type_of(obj).path(namespace, name, subresource)
        query = [("fieldManager", manager), ("force", str(force).lower())]
        return await self._call("PATCH", path, query=query, body=obj, content_type=APPLY)

    async def _call(
        self,
        method: str,
        path: str,
        *,
        query: list[tuple[str, str]] | None = None,
        body: KubeObject | None = None,
        content_type: str = JSON,
        accept: str = JSON,
    ) -> KubeObject:
        headers = {"Accept": accept, "Content-Type": content_type}
        API_CALLS.labels(*_counted(method, path)).inc()
        try:
            request = await self._api.param_serialize(
                method, path, query_params=query or [], header_params=headers, body=body, auth_settings=["BearerToken"]
            )
            sending = self._send(*request)
            status, data = await (sending if method == "GET" else self._within_the_lease(sending, method, path))
        except (aiohttp.ClientError, TimeoutError, OSError) as error:
            raise Retryable(
                "ApiServerUnreachable", f"the API server did not answer {method} {path}: {error}"
            ) from error
        except ApiException as error:
            raise _refusal(error.status or 0, str(error.body or error.reason), method, path) from error
        if not 200 <= status <= 299:
            raise _refusal(status, data.decode(errors="replace"), method, path)
        return cast(KubeObject, json.loads(data))

    async def _send(self, *request: Any) -> tuple[int, bytes]:
        response = await self._api.call_api(*request, _request_timeout=TIMEOUT_SECONDS)
        return response.status, await response.read()

    async def _within_the_lease(
        self, sending: Coroutine[Any, Any, tuple[int, bytes]], method: str, path: str
    ) -> tuple[int, bytes]:
        """Send a write, as long as this replica leads: the lease may be renewed, or not, while it is on its way."""
        if self._seconds_left is None:
            return await sending
        task = asyncio.ensure_future(sending)
        try:
            while not task.done():
                left = self._seconds_left()
                if left <= 0:
                    raise Retryable(NOT_LEADING, f"{method} {path} is left to the replica that leads now")
                await asyncio.wait({task}, timeout=left)
            return task.result()
        finally:
            task.cancel()
            await asyncio.wait({task})


class NotFound(StarError):
    """404: there is no such object."""


def _refusal(status: int, body: str, method: str, path: str) -> StarError:
    try:
        details: dict[str, Any] = json.loads(body)
    except ValueError:
        details = {}
    reason = str(details.get("reason") or f"Http{status}")
    message = f"{method} {path}: {details.get('message') or body[:500]}"
    if status == 404:
        return NotFound("NotFound", message)
    if status == 403 or NO_WEBHOOK in message:
        return _refused(_OWN_PORT.sub(r"\1->", message))
    if status == 409 and (taken := _taken(details, message)) is not None:
        return taken
    if status in TRANSIENT:
        return Retryable(reason, message)
    return InvalidSpec(ConditionReason.INVALID_OBJECT, message)


def _refused(message: str) -> Refused:
    if _QUOTA.search(message):
        return Refused(ConditionReason.QUOTA_EXCEEDED, message)
    if (right := _RIGHT.search(message)) is None:
        return Refused(ConditionReason.REFUSED, message)
    group, namespace = right["group"] or "core", right["namespace"]
    where = f"in namespace {namespace}" if namespace else "in the whole cluster"
    what = f"the operator has no right to {right['verb']} {right['resource']} (API group {group}) {where}"
    remedy = "the platform team gives it the roles of the chart of this version; it is tried again by itself"
    return Refused(ConditionReason.RIGHT_MISSING, f"{what}: {remedy} ({message})")


def _taken(details: dict[str, Any], message: str) -> Taken | None:
    """Return which fields a server-side apply would have taken from whom (metav1.CauseTypeFieldManagerConflict)."""
    causes = (details.get("details") or {}).get("causes") or []
    conflicts = [cause for cause in causes if cause.get("reason") == "FieldManagerConflict"]
    if not conflicts:
        return None
    managers = (_MANAGER.search(str(cause.get("message"))) for cause in conflicts)
    who = tuple(sorted({found[1] for found in managers if found is not None}))
    return Taken(message, tuple(sorted(str(cause.get("field")) for cause in conflicts)), who)


def _counted(method: str, path: str) -> tuple[str, str]:
    """Return the verb, as roles have it, and the resource of a call."""
    _, root, *parts = path.split("/")
    parts = parts[1 if root == "api" else 2 :]
    if parts[0] == "namespaces" and len(parts) > 2:
        parts = parts[2:]
    resource = "/".join([parts[0], *parts[2:]])
    return VERBS[method] if len(parts) > 1 or method != "GET" else "list", resource


def _selector(wanted: Mapping[str, str] | None) -> str:
    return ",".join(f"{key}={value}" for key, value in sorted((wanted or {}).items()))


def _type_of(obj: KubeObject) -> ResourceType:
    return BY_GVK[obj["apiVersion"], obj["kind"]]
