"""How to reach the API server that a kubeconfig names, and as whom: read by the official client's own loader.

So every kind of user works that kubectl knows: certificates, tokens, token files, passwords, and exec plugins of cloud
providers (kubernetes.io, `client-go credential plugins`), whose tokens are renewed when they expire.
"""

import ssl
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import yaml

from star_cli.local.errors import LocalClusterError


@dataclass(frozen=True)
class Connection:
    """An API server and its credentials."""

    url: str
    tls: ssl.SSLContext
    authorization: Callable[[], str | None]
    """The Authorization header of a request sent now; None for a user known by certificate."""
    proxy: str | None
    server_name: str | None
    """The name that the server's certificate is for, where it is not the URL's."""


def connection(kubeconfig: Path) -> Connection:
    """Return the connection that the kubeconfig's current context stands for.

    Raises:
        LocalClusterError: there is no such file, or it has no usable current context.
    """
    # Half a second of imports, needed by whoever talks to a cluster only.
    from kubernetes.client import Configuration
    from kubernetes.config import ConfigException, load_kube_config

    if not kubeconfig.exists():
        raise LocalClusterError(f"kubeconfig {kubeconfig} does not exist; name an existing file")
    found = Configuration()
    try:
        load_kube_config(str(kubeconfig), client_configuration=found, persist_config=False)
        tls = _tls(found.ssl_ca_cert, found.cert_file, found.key_file, verify=found.verify_ssl)
    except (ConfigException, yaml.YAMLError, KeyError, TypeError, AttributeError, ValueError, OSError) as error:
        raise LocalClusterError(
            f"kubeconfig {kubeconfig} has no usable current context ({error}); set one with kubectl config use-context"
        ) from error

    def authorization() -> str | None:
        token: str | None = found.get_api_key_with_prefix("BearerToken", "authorization")
        return token

    return Connection(found.host, tls, authorization, found.proxy or None, found.tls_server_name)


def _tls(authority: str | None, certificate: str | None, key: str | None, *, verify: bool) -> ssl.SSLContext:
    context = ssl.create_default_context(cafile=authority)
    if not verify:
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
    if certificate:
        context.load_cert_chain(certificate, key)
    return context
