"""Artifacts put into a test's S3 server as files: the wire format and nothing else."""

import hashlib
from collections.abc import Mapping

from star_contracts.artifact import ArtifactKind, ArtifactRef, FileEntry, Manifest, Producer
from star_contracts.base import value_hash
from tests.support.s3 import S3Server


def put_artifact(
    server: S3Server,
    files: Mapping[str, bytes],
    *,
    kind: ArtifactKind = ArtifactKind.REPORT,
    maker: tuple[str, str, str] = ("Test", "test", "step"),
    inputs: Mapping[str, str] | None = None,
) -> ArtifactRef:
    """Write an artifact of these files; `maker` is the producing resource's kind, name and step."""
    uri = server.new_uri("artifact")
    for path, data in files.items():
        target = server.file(f"{uri}/{path}")
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes(data)
    owner, name, step = maker
    producer = Producer(kind=owner, namespace="ns", name=name, uid="u", step=step, work_hash=value_hash(uri))
    entries = [
        FileEntry(path=path, bytes=len(data), sha256=hashlib.sha256(data).hexdigest())
        for path, data in sorted(files.items())
    ]
    manifest = Manifest(kind=kind, files=tuple(entries), producer=producer, inputs=dict(inputs or {}))
    server.file(f"{uri}/manifest.json").write_bytes(manifest.canonical())
    return ArtifactRef(uri=uri, digest=manifest.digest())
