"""The Checkpoint of a model that was brought into a store, as a manifest."""

from pathlib import Path
from typing import Any

import yaml
from pydantic import ValidationError

from star_cli.errors import StarctlError
from star_contracts.artifact import ArtifactRef
from star_contracts.names import GROUP
from star_operator.api.checkpoint import Checkpoint, Lineage
from star_operator.api.meta import API_VERSION

FILE = "checkpoint.yaml"
"""Beside an exported checkpoint: its record, with its lineage."""
SOURCE_ANNOTATION = f"{GROUP}/source"
"""On an imported Checkpoint: where the model came from."""


def manifest(place: tuple[str, str], ref: ArtifactRef, lineage: Lineage, source: str = "") -> dict[str, Any]:
    """Return the Checkpoint of a (namespace, name)."""
    namespace, name = place
    metadata: dict[str, Any] = {"name": name, "namespace": namespace}
    if source:
        metadata["annotations"] = {SOURCE_ANNOTATION: source}
    spec = {"uri": ref.uri, "digest": ref.digest}
    made = {key: value for key, value in lineage.to_json_dict().items() if value}
    return {
        "apiVersion": API_VERSION,
        "kind": Checkpoint.INFO.kind,
        "metadata": metadata,
        "spec": spec | ({"lineage": made} if made else {}),
    }


def write(body: dict[str, Any], folder: Path) -> None:
    """Write a record beside an exported checkpoint."""
    (folder / FILE).write_text(as_yaml(body))


def lineage_of(folder: Path, digest: str) -> Lineage:
    """Return the lineage that an exported checkpoint came with. Raises StarctlError for a record of something else."""
    path = folder / FILE
    if not path.is_file():
        return Lineage()
    try:
        spec = Checkpoint.parse(yaml.safe_load(path.read_text())).spec
    except (ValidationError, yaml.YAMLError, TypeError, AttributeError) as error:
        raise StarctlError(f"{path} is no Checkpoint; export it again, or delete the file to do without") from error
    if spec.digest != digest:
        text = f"{path} is of {spec.digest}, and the checkpoint beside it is {digest}"
        raise StarctlError(f"{text}; export it again, or delete the file to do without its lineage")
    return spec.lineage


def as_yaml(body: dict[str, Any]) -> str:
    """Return a manifest as text."""
    return yaml.safe_dump(body, sort_keys=False)
