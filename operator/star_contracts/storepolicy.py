"""Who may do what in the store: policy documents that keep each namespace to its own prefix.

In the words of Amazon S3 ("Policies and permissions in Amazon S3"), which versitygw, MinIO and Ceph take as well. With
principals it is a bucket's policy, and without it a policy of the identity that it is attached to.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

VERSION = "2012-10-17"
READ = ["s3:GetObject"]
WRITE = ["s3:PutObject", "s3:DeleteObject", "s3:AbortMultipartUpload"]


class StoreRole(StrEnum):
    """What a pod is to the store."""

    JOBS = "jobs"
    """It makes artifacts, and deletes what retention lets go: all of its namespace."""
    GATEWAY = "gateway"
    """It reads artifacts of its namespace, and writes what users fed back."""


@dataclass(frozen=True)
class Tenant:
    """Whose access is described."""

    namespace: str
    role: StoreRole = StoreRole.JOBS
    principal: str = ""
    """Who gets it, as the store names accounts; empty in a policy that is attached to its identity."""
    sources: tuple[str, ...] = ()
    """Prefixes of raw files, `s3://bucket/...`, that it reads besides."""


def policy_document(store: str, tenants: Sequence[Tenant]) -> dict[str, Any]:
    """Return the policy under which each tenant has its own prefix of `store` (`s3://bucket[/prefix]`) and no other.

    Listing is bound to the prefix, too: names of other namespaces' runs are nobody's business.
    """
    return {"Version": VERSION, "Statement": [one for tenant in tenants for one in _statements(store, tenant)]}


def _statements(store: str, tenant: Tenant) -> list[dict[str, Any]]:
    own = f"{store}/{tenant.namespace}"
    whole = tenant.role is StoreRole.JOBS
    found = [_listing(own, tenant), _allow(READ + (WRITE if whole else []), f"{own}/*", tenant)]
    if not whole:
        found.append(_allow(["s3:PutObject"], f"{own}/stardeployment/*/feedback/*", tenant))
    for source in tenant.sources if whole else ():
        found += [_listing(source.rstrip("/"), tenant), _allow(READ, f"{source.rstrip('/')}/*", tenant)]
    return found


def _listing(prefix: str, tenant: Tenant) -> dict[str, Any]:
    bucket, _, key = prefix.removeprefix("s3://").partition("/")
    within = {"StringLike": {"s3:prefix": [f"{key}/*"]}} if key else {}
    condition = {"Condition": within} if within else {}
    return {**_allow(["s3:ListBucket"], f"s3://{bucket}", tenant), **condition}


def _allow(actions: list[str], uri: str, tenant: Tenant) -> dict[str, Any]:
    who = {"Principal": {"AWS": [tenant.principal]}} if tenant.principal else {}
    resource = f"arn:aws:s3:::{uri.removeprefix('s3://')}"
    return {"Effect": "Allow", **who, "Action": actions, "Resource": resource}
