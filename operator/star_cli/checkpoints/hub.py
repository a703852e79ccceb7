"""A model's files from a Hugging Face compatible hub, at one commit (huggingface.co, `Hub API Endpoints`)."""

import os
from collections.abc import Iterator
from fnmatch import fnmatchcase
from pathlib import Path, PurePosixPath
from urllib.parse import quote

import httpx

from star_cli.errors import StarctlError

PUBLIC = "https://huggingface.co"
BRANCH = "main"
WANTED = ("*.json", "*.safetensors", "*.jinja", "*.model", "*.txt")
SECONDS = 60.0


def download(model: str, folder: Path) -> str:
    """Download `org/name[@revision]` into a folder; return `org/name@<commit>`, which it was.

    The hub is HF_ENDPOINT's, its token HF_TOKEN's. Raises StarctlError.
    """
    name, _, revision = model.partition("@")
    endpoint, token = os.environ.get("HF_ENDPOINT", PUBLIC).rstrip("/"), os.environ.get("HF_TOKEN")
    headers = {"Authorization": f"Bearer {token}"} if token else {}
    try:
        with httpx.Client(headers=headers, timeout=SECONDS, follow_redirects=True) as client:
            found = client.get(f"{endpoint}/api/models/{name}/revision/{quote(revision or BRANCH, safe='')}")
            if found.status_code in (401, 403, 404):
                raise StarctlError(f"the hub at {endpoint} has no {model}; correct the name, or set HF_TOKEN")
            commit, files = _listed(found)
            for file in files:
                _one(client, f"{endpoint}/{name}/resolve/{commit}/{quote(file)}", folder / file)
    except httpx.HTTPError as error:
        raise StarctlError(
            f"{model} could not be downloaded from {endpoint}: {error or type(error).__name__}"
        ) from error
    return f"{name}@{commit}"


def _listed(found: httpx.Response) -> tuple[str, list[str]]:
    found.raise_for_status()
    try:
        body = found.json()
        return str(body["sha"]), [*_wanted(one["rfilename"] for one in body["siblings"])]
    except (ValueError, KeyError, TypeError) as error:
        raise StarctlError(f"{found.url.host} answers as no hub does; set HF_ENDPOINT to a hub's URL") from error


def _wanted(names: Iterator[str]) -> Iterator[str]:
    """Yield the files of a model's own folder; a hub's names are not to be trusted with places."""
    for name in names:
        if PurePosixPath(name).name == name and any(fnmatchcase(name, pattern) for pattern in WANTED):
            yield name


def _one(client: httpx.Client, url: str, path: Path) -> None:
    part = path.with_name(path.name + ".part")
    with client.stream("GET", url) as answer, part.open("wb") as target:
        answer.raise_for_status()
        for chunk in answer.iter_bytes():
            target.write(chunk)
    part.replace(path)
