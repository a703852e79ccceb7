"""`starctl gateway-key`: the key with which a StarDeployment's gateway lets callers in.

It is read with the caller's own rights: whoever may read Secrets of the namespace may see it.
"""

import base64
from typing import Annotated

import typer

from star_cli.demo.cli import Kubeconfig, Name, Namespace
from star_cli.errors import StarctlError
from star_cli.local.paths import DEFAULT_NAME
from star_cli.resources import Reader, collection
from star_operator.api.stardeployment import StarDeployment
from star_operator.builders.gateway import owner_of
from star_operator.builders.keys import GATEWAY_KEY, deployment_keys_name


def gateway_key(api: Reader, namespace: str, name: str) -> str:
    """Return the first of the keys that a gateway takes.

    Raises StarctlError where there is no such deployment, it is open, or its Secret is not there.
    """
    body = api.get(f"{collection(StarDeployment.INFO.plural, namespace)}/{name}")
    if body is None:
        raise StarctlError(f"there is no StarDeployment {name} in namespace {namespace}")
    found = key_of(api, StarDeployment.parse({"kind": StarDeployment.INFO.kind, **body}))
    if found is None:
        raise StarctlError(f"StarDeployment {name} has spec.gateway.open: its gateway wants no key")
    return found


def key_of(api: Reader, deployment: StarDeployment) -> str | None:
    """Return the first of a deployment's keys; None where it is open. Raises StarctlError without a usable Secret."""
    gateway, namespace = deployment.spec.gateway, deployment.metadata.namespace
    if gateway.open:
        return None
    secret, key = deployment_keys_name(owner_of(deployment)), GATEWAY_KEY
    if gateway.api_keys is not None:
        secret, key = gateway.api_keys.name, gateway.api_keys.key
    body = api.get(f"/api/v1/namespaces/{namespace}/secrets/{secret}")
    if body is None:
        text = f"namespace {namespace} has no Secret {secret}"
        raise StarctlError(f"{text}; the operator makes it as soon as the deployment has something to serve")
    lines = base64.b64decode(body.get("data", {}).get(key, "")).decode("utf-8-sig", "replace").splitlines()
    usable = [line.strip() for line in lines if line.strip() and not line.lstrip().startswith("#")]
    if not usable:
        raise StarctlError(f"Secret {secret} in namespace {namespace} has no key {key}, or an empty one")
    return usable[0]


def gateway_key_command(
    deployment: Annotated[str, typer.Argument(help="Name of the StarDeployment.")],
    namespace: Namespace = "default",
    kubeconfig: Kubeconfig = None,
    name: Name = DEFAULT_NAME,
) -> None:
    """Print a key that a StarDeployment's gateway takes, for `Authorization: Bearer KEY`."""
    from contextlib import closing

    from star_cli.local.cluster import LocalCluster
    from star_cli.local.kubeapi import KubeApi

    with closing(KubeApi(kubeconfig or LocalCluster(name).kubeconfig, timeout=30.0)) as api:
        typer.echo(gateway_key(api, namespace, deployment))
