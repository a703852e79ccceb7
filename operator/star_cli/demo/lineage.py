"""Lineage: every artifact of a namespace by digest, who made it, and from what."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

from star_cli.resources import StarResource, title
from star_contracts.artifact import ArtifactRef, Manifest
from star_operator.api.checkpoint import Checkpoint

SHORT = 12
"""Hex digits that tell artifacts apart for people."""


class Manifests(Protocol):
    """What reads manifests (`star_cli.demo.store.Store`)."""

    def manifest(self, ref: ArtifactRef) -> Manifest:
        """The manifest of an artifact, its digest checked."""


@dataclass(frozen=True)
class Made:
    """One artifact."""

    ref: ArtifactRef
    manifest: Manifest
    reused: bool
    """Found by its work hash: nothing had to be run for it."""

    @property
    def maker(self) -> str:
        """`Kind/name, step`."""
        producer = self.manifest.producer
        return f"{producer.kind}/{producer.name}, step {producer.step}"


def artifacts(resources: Sequence[StarResource], store: Manifests) -> list[Made]:
    """Every artifact the resources made or stand for, each once, in the order of the chain.

    Raises:
        StarctlError: one is gone or was changed.
    """
    found: dict[str, Made] = {}
    imported = [(one.spec.uri, one.spec.digest, False) for one in resources if isinstance(one, Checkpoint)]
    made = [
        (step.artifact.uri, step.artifact.digest, step.reused)
        for one in resources
        for step in one.status.steps
        if step.artifact is not None
    ]
    known = {digest for _, digest, _ in made}
    for uri, digest, reused in [*(entry for entry in imported if entry[1] not in known), *made]:
        ref = ArtifactRef(uri=uri, digest=digest)
        found.setdefault(digest, Made(ref, store.manifest(ref), reused))
    return list(found.values())


def lineage_lines(made: Iterable[Made]) -> list[str]:
    """The artifacts in words, each under its digest."""
    entries = list(made)
    makers = {entry.ref.digest: entry.maker.partition(",")[0] for entry in entries}
    lines: list[str] = []
    for entry in entries:
        manifest = entry.manifest
        again = ", reused" if entry.reused else ""
        lines.append(f"{entry.ref.digest}  {manifest.kind}, {size_text(manifest.total_bytes())}")
        lines.append(f"    at    {entry.ref.uri}")
        lines.append(f"    by    {entry.maker}{again}")
        if manifest.inputs:
            lines.append(f"    from  {_inputs(manifest.inputs, makers)}")
    return lines


def _inputs(inputs: Mapping[str, str], makers: Mapping[str, str]) -> str:
    return ", ".join(
        f"{role} {short(digest)}" + (f" ({makers[digest]})" if digest in makers else "")
        for role, digest in sorted(inputs.items())
    )


def short(digest: str) -> str:
    """The first digits of a digest."""
    return digest.removeprefix("sha256:")[:SHORT]


def size_text(count: int) -> str:
    """Bytes in a unit that reads well."""
    value = float(count)
    for unit in ("B", "kB", "MB"):
        if value < 1000:
            return f"{value:.0f} {unit}"
        value /= 1000
    return f"{value:.2f} GB"


def made_by(resources: Sequence[StarResource], kind: str) -> dict[str, StarResource]:
    """The resources of a kind that have an artifact, by its digest."""
    return {
        resource.status.artifact.digest: resource
        for resource in resources
        if resource.kind == kind and resource.status.artifact is not None
    }


def checkpoint_names(resources: Sequence[StarResource]) -> dict[str, str]:
    """Checkpoints' names by digest."""
    return {one.spec.digest: one.metadata.name for one in resources if isinstance(one, Checkpoint)}


def titles(resources: Iterable[StarResource]) -> frozenset[str]:
    """`Kind/name` of each."""
    return frozenset(title(resource) for resource in resources)
