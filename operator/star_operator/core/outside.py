"""How pods reach what lies outside of the cluster: whom they trust, and through which proxies."""

from typing import Annotated

from pydantic import AfterValidator, Field, StringConstraints

from star_contracts.base import Model


def _public(text: str) -> str:
    if _PRIVATE in text:
        raise ValueError("holds a private key, which no pod needs: give the certificates alone")
    return text


_PRIVATE = "PRIVATE KEY-----"
MAX_CA_BUNDLE = 512 * 1024
"""Characters: it lies in a ConfigMap beside a job's spec, and a ConfigMap holds 1 MiB."""
CABundle = Annotated[
    str,
    StringConstraints(pattern=r"^$|-----BEGIN CERTIFICATE-----", max_length=MAX_CA_BUNDLE),
    AfterValidator(_public),
    Field(json_schema_extra={"not": {"pattern": _PRIVATE}}),
]
HOST_PATTERN = r"^(\.?[a-z0-9]([-a-z0-9._]*[a-z0-9])?|[0-9a-f]*:[0-9a-f:.]+)$"
HostPattern = Annotated[str, StringConstraints(pattern=HOST_PATTERN, max_length=253)]
"""A host's name or address, or with a dot in front a domain and all below it."""
ProxyUrl = Annotated[str, StringConstraints(pattern=r"^https?://[^\s/@]+/?$", max_length=253)]
NoProxyEntry = Annotated[str, StringConstraints(pattern=r"^[^\s,]+$", max_length=253)]


class Proxy(Model):
    """Proxies for HTTP clients in pods. What is inside the cluster is always reached without one."""

    https: ProxyUrl | None = None
    """`http://host:port` for https:// addresses; without user and password, which do not belong into values."""
    http: ProxyUrl | None = None
    """The same for http:// addresses."""
    no_proxy: tuple[NoProxyEntry, ...] = Field(default=(), max_length=256)
    """Hosts and `.domains` besides the cluster's own that are reached directly, e.g. the store's."""

    def environment(self, cluster_domain: str) -> dict[str, str]:
        """Return the variables that HTTP clients obey, in both spellings; nothing without a proxy."""
        urls = {"HTTPS_PROXY": self.https, "HTTP_PROXY": self.http}
        found = {name: url for name, url in urls.items() if url is not None}
        if found:
            inside = ("localhost", "127.0.0.1", ".svc", f".{cluster_domain}")
            found["NO_PROXY"] = ",".join((*inside, *self.no_proxy))
        return found | {name.lower(): value for name, value in found.items()}
