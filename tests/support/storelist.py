"""What lies in a store, and what retention should take out of it: computed from resources and objects alone.

Nothing here asks the operator's policy, or reads its marks.
"""

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import boto3
from botocore.config import Config

from star_cli.demo.store import StoreAccess

BUCKET = "star"
PROOFS = ".proofs/"
"""Between the prefix of an artifact and what was written about it: cards, provenance, verdicts."""
Body = dict[str, Any]
Listing = Mapping[str, tuple[str, int]]
"""Key -> (ETag, bytes)."""


@dataclass(frozen=True)
class Bucket:
    """A bucket, read without any of the product's code."""

    client: Any

    @classmethod
    def of(cls, access: StoreAccess) -> "Bucket":
        """Return the local cluster's bucket."""
        client = boto3.client(
            "s3",
            endpoint_url=access.endpoint,
            aws_access_key_id=access.credentials.access_key,
            aws_secret_access_key=access.credentials.secret_key,
            region_name=access.region,
            config=Config(s3={"addressing_style": "path"}, proxies={}),
        )
        return cls(client)

    def listing(self, prefix: str) -> Listing:
        """Return all objects below a prefix."""
        pages = self.client.get_paginator("list_objects_v2").paginate(Bucket=BUCKET, Prefix=prefix)
        return {one["Key"]: (one["ETag"], one["Size"]) for page in pages for one in page.get("Contents", [])}

    def read(self, key: str) -> bytes:
        """Return an object."""
        return bytes(self.client.get_object(Bucket=BUCKET, Key=key)["Body"].read())

    def empty(self, prefix: str) -> None:
        """Delete everything below a prefix."""
        for key in self.listing(prefix):
            self.client.delete_object(Bucket=BUCKET, Key=key)


def own(bodies: Iterable[Body]) -> dict[str, str]:
    """Return the artifacts that resources have as their own, by digest: what they made, found made, or record."""
    found = {}
    for body in bodies:
        status = body.get("status", {})
        refs = [status.get("artifact"), *(step.get("artifact") for step in status.get("steps", []))]
        refs += [body["spec"]] if body["kind"] == "Checkpoint" else []
        found.update({ref["digest"]: ref["uri"] for ref in refs if ref})
    return found


def subject(key: str) -> str | None:
    """Return the URI of the artifact that an object is a proof of; None for all others."""
    uri, found, _ = key.partition(PROOFS)
    return f"s3://{BUCKET}/{uri}" if found else None


def to_go(bucket: Bucket, namespace: str, before: Listing, gone: Iterable[Body], rest: Iterable[Body]) -> set[str]:
    """Return the keys that go with some resources: their artifacts that no other has, with what was written about
    them, their work, and its memos.
    """
    gone = list(gone)
    kept = own(rest)
    artifacts = {digest: uri for digest, uri in own(gone).items() if digest not in kept}
    roots = [uri.removeprefix(f"s3://{BUCKET}/") for uri in artifacts.values()]
    prefixes = [f"{place}{end}" for place in roots for end in ("/", PROOFS)]
    places = [(body["kind"].lower(), body["metadata"]["name"]) for body in gone if body["kind"] != "Checkpoint"]
    prefixes += [f"{namespace}/{kind}/{name}/work/" for kind, name in places]
    found = {key for key in before if key.startswith(tuple(prefixes))}
    memos = [key for key in before if key.split("/")[2:3] == ["memo"]]
    return found | {key for key in memos if json.loads(bucket.read(key))["digest"] in artifacts}
