"""helm for tests: the chart of this repository, rendered."""

import subprocess
from pathlib import Path
from typing import Any

import yaml

from star_cli.local.binaries import Binaries

CHART = Path(__file__).resolve().parents[2] / "charts" / "star-operator"


def helm(*arguments: str) -> str:
    """Run one command and return what it prints; its error output is in the exception's message."""
    command = [str(Binaries().ensure("helm")), *arguments]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60)
    if done.returncode != 0:
        raise RuntimeError(done.stderr)
    return done.stdout


def render(*arguments: str) -> list[dict[str, Any]]:
    """The chart's objects, rendered for namespace star-system."""
    text = helm("template", "star-operator", str(CHART), "--namespace", "star-system", *arguments)
    return [document for document in yaml.safe_load_all(text) if document]


def only(objects: list[dict[str, Any]], kind: str, name: str = "star-operator") -> dict[str, Any]:
    """The one object of that kind and name."""
    (found,) = (obj for obj in objects if obj["kind"] == kind and obj["metadata"]["name"] == name)
    return found
