"""`starctl store-policy`: the policy documents that keep each namespace to its own prefix of the store."""

import json
import re
from typing import Annotated

import typer

from star_cli.demo.cli import Kubeconfig, Name
from star_cli.errors import StarctlError
from star_cli.local.paths import DEFAULT_NAME
from star_contracts.storepolicy import StoreRole, Tenant, policy_document

_NAMESPACE = re.compile(r"[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?")
_PREFIX = re.compile(r"s3://[a-z0-9][a-z0-9.-]{1,61}[a-z0-9](/[A-Za-z0-9_.-]+)*/?")


def tenant_of(text: str, role: StoreRole, sources: tuple[str, ...]) -> Tenant:
    """Read `NAMESPACE[=PRINCIPAL]`. Raises StarctlError for what is no name, or could mean more than one namespace."""
    namespace, _, principal = text.partition("=")
    if not _NAMESPACE.fullmatch(namespace):
        raise StarctlError(f"{namespace!r} is no name of a namespace: write NAMESPACE, or NAMESPACE=PRINCIPAL")
    if any(wildcard in principal for wildcard in "*?"):
        raise StarctlError(f"{principal!r} stands for more than one account: name one")
    return Tenant(namespace, role, principal, sources)


def prefix_of(text: str, option: str) -> str:
    """Return a prefix without its last slash. Raises StarctlError for what is none."""
    if not _PREFIX.fullmatch(text):
        raise StarctlError(f"{option} {text!r} is no prefix of a store: write s3://BUCKET/PREFIX, without wildcards")
    return text.rstrip("/")


def store_policy_command(
    namespaces: Annotated[
        list[str],
        typer.Argument(
            metavar="NAMESPACE[=PRINCIPAL]...",
            help="With principals it is a bucket's policy, without one to attach to an identity.",
        ),
    ],
    role: Annotated[
        StoreRole, typer.Option("--role", help="Of the jobs, or of a gateway, which writes feedback alone.")
    ] = StoreRole.JOBS,
    source: Annotated[
        list[str] | None, typer.Option("--source", help="Prefix of raw files that jobs read besides.")
    ] = None,
    store: Annotated[
        str | None,
        typer.Option("--store", help="s3://BUCKET[/PREFIX]; by default the cluster's."),
    ] = None,
    kubeconfig: Kubeconfig = None,
    name: Name = DEFAULT_NAME,
) -> None:
    """Print the S3 policy that gives namespaces their own prefixes of the store, and nothing of each other's."""
    sources = tuple(prefix_of(one, "--source") for one in source or ())
    tenants = [tenant_of(one, role, sources) for one in namespaces]
    if len({bool(one.principal) for one in tenants}) > 1:
        raise StarctlError("some namespaces have a principal and some have none: give all of them one, or none")
    root = prefix_of(store, "--store") if store is not None else _clusters_store(kubeconfig, name)
    typer.echo(json.dumps(policy_document(root, tenants), indent=2))


def _clusters_store(kubeconfig: Kubeconfig, name: str) -> str:
    from contextlib import closing

    from star_cli.local.cluster import LocalCluster
    from star_cli.local.kubeapi import KubeApi
    from star_cli.retention import cluster_settings

    with closing(KubeApi(kubeconfig or LocalCluster(name).kubeconfig, timeout=30.0)) as api:
        settings = cluster_settings(api)
    if settings is None:
        raise StarctlError("the operator's settings cannot be read: say --store s3://BUCKET[/PREFIX]")
    return settings.store.uri
