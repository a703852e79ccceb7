"""Where each kind lives in the API: path segments by (apiVersion, kind)."""

import re
from dataclasses import dataclass

from star_operator.api.kinds import KINDS
from star_operator.api.meta import API_VERSION, Scope
from star_operator.core.errors import InvalidSpec
from star_operator.core.reasons import ConditionReason

_SEGMENT = re.compile(r"(?!\.{1,2}$)[A-Za-z0-9._:-]{1,253}")
"""A name in a path: no slash, no query, no dots alone (apimachinery, `IsValidPathSegmentName`)."""


@dataclass(frozen=True)
class ResourceType:
    """A resource type; namespaced but for Namespace, TokenReview and those of ours whose scope is the cluster."""

    api_version: str
    kind: str
    plural: str
    namespaced: bool = True

    def path(self, namespace: str | None, name: str | None = None, subresource: str | None = None) -> str:
        """Return the URL path of the collection, the object, or its subresource.

        Raises InvalidSpec for a name that would be something else in a path: `..` would lead into another namespace.
        """
        for part in (namespace, name):
            if part and not _SEGMENT.fullmatch(part):
                raise InvalidSpec(ConditionReason.INVALID_REFERENCE, f"{part[:80]!r} is no name of a {self.kind}")
        root = "/api/" if "/" not in self.api_version else "/apis/"
        path = f"{root}{self.api_version}"
        if namespace:
            path += f"/namespaces/{namespace}"
        path += f"/{self.plural}"
        if name:
            path += f"/{name}"
        return f"{path}/{subresource}" if subresource else path


JOB = ResourceType("batch/v1", "Job", "jobs")
POD = ResourceType("v1", "Pod", "pods")
SERVICE = ResourceType("v1", "Service", "services")
CONFIG_MAP = ResourceType("v1", "ConfigMap", "configmaps")
SECRET = ResourceType("v1", "Secret", "secrets")
EVENT = ResourceType("v1", "Event", "events")
DEPLOYMENT = ResourceType("apps/v1", "Deployment", "deployments")
STATEFUL_SET = ResourceType("apps/v1", "StatefulSet", "statefulsets")
POD_DISRUPTION_BUDGET = ResourceType("policy/v1", "PodDisruptionBudget", "poddisruptionbudgets")
NETWORK_POLICY = ResourceType("networking.k8s.io/v1", "NetworkPolicy", "networkpolicies")
LEASE = ResourceType("coordination.k8s.io/v1", "Lease", "leases")
NAMESPACE = ResourceType("v1", "Namespace", "namespaces", namespaced=False)
WORKLOAD = ResourceType("kueue.x-k8s.io/v1beta1", "Workload", "workloads")
TOKEN_REVIEW = ResourceType("authentication.k8s.io/v1", "TokenReview", "tokenreviews", namespaced=False)
ADMISSION_POLICY = ResourceType(
    "admissionregistration.k8s.io/v1", "ValidatingAdmissionPolicy", "validatingadmissionpolicies", namespaced=False
)
ADMISSION_BINDING = ResourceType(
    "admissionregistration.k8s.io/v1",
    "ValidatingAdmissionPolicyBinding",
    "validatingadmissionpolicybindings",
    namespaced=False,
)

STAR_TYPES = {
    kind.INFO.kind: ResourceType(
        API_VERSION, kind.INFO.kind, kind.INFO.plural, namespaced=kind.INFO.scope is Scope.NAMESPACED
    )
    for kind in KINDS
}

BY_GVK = {
    (rtype.api_version, rtype.kind): rtype
    for rtype in (
        JOB,
        POD,
        SERVICE,
        CONFIG_MAP,
        SECRET,
        EVENT,
        DEPLOYMENT,
        STATEFUL_SET,
        POD_DISRUPTION_BUDGET,
        NETWORK_POLICY,
        LEASE,
        NAMESPACE,
        WORKLOAD,
        TOKEN_REVIEW,
        ADMISSION_POLICY,
        ADMISSION_BINDING,
        *STAR_TYPES.values(),
    )
}
