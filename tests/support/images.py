"""Small images for tests, pushed to the local cluster's registry over its HTTP API.

https://github.com/opencontainers/distribution-spec/blob/main/spec.md
"""

import io
import json
import os
import subprocess
import tarfile
from pathlib import Path

import httpx

from star_cli.local.oci import single_program_image


def build_probe(folder: Path) -> Path:
    """Build the cluster tests' probe program, a static binary, into `folder`."""
    source = Path(__file__).parents[1] / "e2e" / "probe"
    target = folder / "probe"
    env = {**os.environ, "CGO_ENABLED": "0", "GOFLAGS": "-buildvcs=false -trimpath", "GOWORK": "off"}
    subprocess.run(["go", "build", "-ldflags", "-s -w", "-o", str(target), "."], cwd=source, env=env, check=True)
    return target


def push_program(program: Path, repository: str, registry: str = "localhost:5000") -> str:
    """Push an image whose one file is `program` to the registry. Returns its reference, by digest."""
    archive = single_program_image(program.read_bytes(), program.name, f"{repository}:test")
    with tarfile.open(fileobj=io.BytesIO(archive)) as layout:
        files = {entry.name: _read(layout, entry) for entry in layout}
    descriptor = json.loads(files["index.json"])["manifests"][0]
    manifest = files[_blob(descriptor["digest"])]
    parts = json.loads(manifest)
    with httpx.Client(base_url=f"http://{registry}/v2/{repository}", trust_env=False, timeout=30) as client:
        for part in (parts["config"], *parts["layers"]):
            _push_blob(client, part["digest"], files[_blob(part["digest"])])
        headers = {"Content-Type": parts["mediaType"]}
        client.put(f"/manifests/{descriptor['digest']}", content=manifest, headers=headers).raise_for_status()
    return f"{registry}/{repository}@{descriptor['digest']}"


def _push_blob(client: httpx.Client, digest: str, data: bytes) -> None:
    if client.head(f"/blobs/{digest}").status_code == 200:
        return
    upload = client.post("/blobs/uploads/").raise_for_status().headers["Location"]
    url = httpx.URL(upload).copy_merge_params({"digest": digest})
    client.put(url, content=data, headers={"Content-Type": "application/octet-stream"}).raise_for_status()


def _read(archive: tarfile.TarFile, entry: tarfile.TarInfo) -> bytes:
    file = archive.extractfile(entry)
    assert file is not None
    return file.read()


def _blob(digest: str) -> str:
    return f"blobs/{digest.replace(':', '/')}"
