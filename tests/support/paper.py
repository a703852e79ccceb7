"""The presets in manifests/paper: every resource of every file, by kind and name."""

from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import yaml

PAPER = Path(__file__).resolve().parents[2] / "manifests" / "paper"
FILES = tuple(sorted(PAPER.rglob("*.yaml")))
SUITES = ("amazon", "goodreads", "yelp")


@dataclass(frozen=True)
class Preset:
    """One resource of a file."""

    path: Path
    body: dict[str, Any]

    @property
    def kind(self) -> str:
        """Its kind."""
        return str(self.body["kind"])

    @property
    def name(self) -> str:
        """Its metadata.name."""
        return str(self.body["metadata"]["name"])

    @property
    def spec(self) -> dict[str, Any]:
        """Its spec, as written."""
        spec: dict[str, Any] = self.body["spec"]
        return spec


def documents(path: Path) -> list[dict[str, Any]]:
    """The resources of a file."""
    return [document for document in yaml.safe_load_all(path.read_text()) if document]


@cache
def presets() -> tuple[Preset, ...]:
    """All resources of all files."""
    return tuple(Preset(path, body) for path in FILES for body in documents(path))


def preset(kind: str, name: str) -> Preset:
    """The one resource of that kind and name."""
    [found] = [each for each in presets() if (each.kind, each.name) == (kind, name)]
    return found
