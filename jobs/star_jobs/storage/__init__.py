"""S3-compatible storage and the artifact contract: files first, `manifest.json` last, every byte pinned by digest."""

from star_jobs.storage.artifacts import ArtifactWriter, fetch, find_manifest, read_manifest
from star_jobs.storage.records import read_jsonl, to_line, write_jsonl
from star_jobs.storage.s3 import ObjectStore
from star_jobs.storage.work import WorkArea

__all__ = [
    "ArtifactWriter",
    "ObjectStore",
    "WorkArea",
    "fetch",
    "find_manifest",
    "read_jsonl",
    "read_manifest",
    "to_line",
    "write_jsonl",
]
