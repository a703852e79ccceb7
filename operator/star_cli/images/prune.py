"""Removes images that the present sources no longer ask for: from buildah's storage and from the local registry.

Every change of the sources leaves the images of the sources before it behind: a few megabytes each, gigabytes where a
lock changed.
"""

import subprocess
from collections.abc import Iterable
from pathlib import Path

from star_cli.images.engine import Buildah
from star_cli.images.errors import ImagesError
from star_cli.images.registry import Registry, tag_folder
from star_cli.local.binaries import Binaries
from star_cli.local.files import locked
from star_cli.local.nodeconfig import registry_config


def prune_storage(engine: Buildah, keep: Iterable[str]) -> list[str]:
    """Remove what is not in `keep` (references) from buildah's storage. Returns the removed references.

    A root file system stays: it takes longest to make, and follows no source.
    """
    kept = set(keep)
    removed = []
    for reference in engine.references():
        if "/star/" in reference and "/star/rootfs:" not in reference and reference not in kept:
            engine.remove(reference)
            removed.append(reference)
    engine.remove_dangling()
    return removed


def stale_tags(folder: Path, keep: Iterable[str]) -> list[Path]:
    """Tag folders of a registry's storage whose `star/<name>:<tag>` is not in `keep`."""
    kept = set(keep)
    tags = sorted(folder.glob(str(tag_folder(Path(), "star/*", "*"))))
    return [tag for tag in tags if f"star/{tag.parents[2].name}:{tag.name}" not in kept]


def prune_registry(address: str, binaries: Binaries, keep: Iterable[str]) -> int:
    """Remove tags that are not in `keep`, and the data that only they used. Returns the number of removed tags.

    Raises:
        ImagesError: the registry runs: what is pushed meanwhile would be lost.
    """
    folder = binaries.cache / "registry"
    if Registry(address).answers():
        raise ImagesError(
            f"the registry at {address} is in use; run `starctl local down` first, or leave it out with --no-registry"
        )
    tags = stale_tags(folder, keep)
    for tag in tags:
        for file in sorted(tag.rglob("*"), reverse=True):
            file.rmdir() if file.is_dir() else file.unlink()
        tag.rmdir()
    if tags:
        _collect_garbage(folder, binaries)
    return len(tags)


def _collect_garbage(folder: Path, binaries: Binaries) -> None:
    config = folder.with_name(".registry-prune.yaml")
    config.write_text(registry_config("127.0.0.1:0", folder, read_only=False))
    command = [str(binaries.ensure("registry")), "garbage-collect", "--delete-untagged", str(config)]
    try:
        done = subprocess.run(command, capture_output=True, text=True, check=False)
    finally:
        config.unlink()
    if done.returncode:
        raise ImagesError(f"the registry's garbage collection failed: {done.stderr.strip()[-800:]}")


def prune(engine: Buildah, binaries: Binaries, address: str, references: Iterable[str], *, registry: bool) -> list[str]:
    """Remove all but `references`. Returns sentences that say what was done."""
    kept = list(references)
    with locked(binaries.cache / ".images.lock"):
        said = []
        if registry:
            tags = prune_registry(address, binaries, (reference.partition("/")[2] for reference in kept))
            said.append(f"{tags} tags removed from the registry")
        removed = prune_storage(engine, kept)
        said.append(f"{len(removed)} images removed from the storage of {engine.name}")
    return said
