"""Labels, annotations and identity of pods: what people may add to what the operator gives them."""

from typing import Annotated

from pydantic import Field, JsonValue, StringConstraints

from star_contracts.base import Model

LABEL_KEY_PATTERN = r"^([a-z0-9]([-a-z0-9.]{0,251}[a-z0-9])?/)?[A-Za-z0-9]([-A-Za-z0-9_.]{0,61}[A-Za-z0-9])?$"
LABEL_VALUE_PATTERN = r"^([A-Za-z0-9]([-A-Za-z0-9_.]*[A-Za-z0-9])?)?$"
OWN_KEYS_PATTERN = (
    r"^((star\.recsys\.dev|batch\.kubernetes\.io|apps\.kubernetes\.io|kueue\.x-k8s\.io)/.*"
    r"|app\.kubernetes\.io/(name|part-of|managed-by)|job-name|controller-uid|pod-template-hash)$"
)
"""Keys by which the operator and Kubernetes' controllers find their pods: what they say there stands."""
NODE_KEYS_PATTERN = (
    r"^(io[.]kubernetes[.]cri-o|run[.]oci|io[.]katacontainers|dev[.]gvisor)[.]"
    r"|(^|[.])(security[.](alpha|beta)[.]kubernetes[.]io/|cri-?o[.]io|nri([.]containerd)?[.]io|cdi[.]k8s[.]io/"
    r"|cni[.]cncf[.]io/|multus-cni[.]io/|cni[.]projectcalico[.]org/)"
)
"""Annotations by which a node's runtime or network gives a pod more than its spec asks for: devices (CDI, NRI, CRI-O),
other networks (Multus), or less confinement. A resource may not set them; the chart's values may."""
_KEYS: dict[str, JsonValue] = {
    "propertyNames": {"pattern": LABEL_KEY_PATTERN, "maxLength": 317, "not": {"pattern": OWN_KEYS_PATTERN}}
}
LabelValue = Annotated[str, StringConstraints(pattern=LABEL_VALUE_PATTERN, max_length=63)]
AnnotationValue = Annotated[str, StringConstraints(max_length=4096)]
Labels = Annotated[dict[str, LabelValue], Field(max_length=32, json_schema_extra=_KEYS)]
Annotations = Annotated[dict[str, AnnotationValue], Field(max_length=32, json_schema_extra=_KEYS)]

USER = 65532
"""User and group that the images are built for."""


class PodDefaults(Model):
    """What pods carry besides what the operator gives them."""

    labels: Labels = {}
    """Further labels, e.g. of a cost centre, or `sidecar.istio.io/inject: "false"`."""
    annotations: Annotations = {}
    """Further annotations."""
    service_account_name: str | None = Field(default=None, max_length=253)
    """ServiceAccount of the pods, in their own namespaces, e.g. one that a cloud's workload identity knows; no API
    token is mounted."""

    def over(self, base: "PodDefaults") -> "PodDefaults":
        """Return both together; where both say something, this one stands."""
        return PodDefaults(
            labels={**base.labels, **self.labels},
            annotations={**base.annotations, **self.annotations},
            service_account_name=self.service_account_name or base.service_account_name,
        )


class PodSecurity(Model):
    """User and groups of every pod. Null leaves one to the cluster, as OpenShift wants it."""

    run_as_user: int | None = Field(default=USER, ge=1)
    """User id; never root."""
    run_as_group: int | None = Field(default=USER, ge=1)
    """Group id."""
    fs_group: int | None = Field(default=USER, ge=1)
    """Group of the mounted files. Null only where the cluster sets one: without any, pods cannot read their files."""
