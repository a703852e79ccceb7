"""The demo's manifests in several sizes: as they are, with less for slow machines and tests, with more to measure."""

from collections.abc import Mapping
from copy import deepcopy
from enum import StrEnum
from math import ceil
from pathlib import Path
from typing import Any

import yaml

from star_cli.errors import StarctlError

FOLDER = Path("manifests/samples/demo")
Manifest = dict[str, Any]
Overrides = Mapping[tuple[str, str], Manifest]
"""Kind and name -> what is merged into the spec."""


class Size(StrEnum):
    """How much the demo does."""

    DEMO = "demo"
    """What manifests/samples/demo says."""
    THREE_QUARTERS = "three-quarters"
    HALF = "half"
    QUARTER = "quarter"
    """Shares of it, for machines that are too slow for all of it (`sizing`)."""
    TINY = "tiny"
    """Every stage for real, with just enough samples to pass through: for tests."""
    LEARNING = "learning"
    """More trajectories, steps and test tasks, so that a gain shows: for `make bench-learning`."""


def _share(share: float) -> Overrides:
    """The demo as written, cut down to a share of its samples and steps.

    With half of the trajectories or fewer too little of the form is learnt for the gate as written: it then asks for
    no loss against the base model alone.
    """
    few: Manifest = {"settings": {"samples": ceil(40 * share)}}
    steps = ceil(70 * share)
    rules = {"rules": [{"metric": "against.ciLow", "comparison": "AtLeast", "value": 0}]}
    return {
        ("Verbalization", "ml-100k"): {"limit": ceil(40 * share)},
        ("TeacherRun", "mars"): {"tasks": ceil(180 * share)},
        ("SFTJob", "sft"): {"hyperparameters": {"maxSteps": steps, "saveSteps": ceil(steps / 2)}},
        ("GRPOJob", "grpo"): {
            "sampling": {"instances": ceil(8 * share), "tasks": ceil(16 * share)},
            "hyperparameters": {"maxSteps": 1, "saveSteps": 1},
        },
        ("Evaluation", "base"): few,
        ("Evaluation", "sft"): few,
        ("StarDeployment", "star"): {"gates": {**few, **(rules if share <= 0.5 else {})}},
    }


_FEW = {"settings": {"samples": 6}}
_MANY = {"settings": {"samples": 120}}
OVERRIDES: Mapping[Size, Overrides] = {
    Size.DEMO: {},
    Size.THREE_QUARTERS: _share(0.75),
    Size.HALF: _share(0.5),
    Size.QUARTER: _share(0.25),
    Size.TINY: {
        # Histories that are longer than prompts show, and analysts that may look up again: the tests look for both.
        ("RecDataset", "ml-100k"): {"tasks": {"train": 60, "test": 8, "historyLength": 9}},
        ("Verbalization", "ml-100k"): {"limit": 4},
        ("TeacherRun", "mars"): {"tasks": 24, "agents": {"lookupRounds": 2}},
        ("SFTJob", "sft"): {"hyperparameters": {"maxSteps": 4, "saveSteps": 2}},
        ("GRPOJob", "grpo"): {
            "sampling": {"samples": 2, "instances": 2, "tasks": 2},
            "hyperparameters": {"groupSize": 2, "trainBatchSize": 2, "miniBatchSize": 2, "maxSteps": 1, "saveSteps": 1},
        },
        ("Evaluation", "base"): _FEW,
        ("Evaluation", "sft"): _FEW,
        # A model of four training steps: the gate is passed through, not proved.
        ("StarDeployment", "star"): {"gates": {**_FEW, "rules": [{"metric": "valid", "value": 0.0}]}},
    },
    Size.LEARNING: {
        ("RecDataset", "ml-100k"): {"tasks": {"train": 480, "test": 120}},
        ("TeacherRun", "mars"): {"tasks": 240},
        ("SFTJob", "sft"): {"hyperparameters": {"maxSteps": 80, "saveSteps": 20}},
        ("GRPOJob", "grpo"): {
            "sampling": {"instances": 24, "tasks": 48},
            "hyperparameters": {"maxSteps": 6, "saveSteps": 3},
        },
        ("Evaluation", "base"): _MANY,
        ("Evaluation", "sft"): _MANY,
        ("StarDeployment", "star"): {"gates": _MANY},
    },
}


def load(root: Path, size: Size, further: Overrides | None = None) -> list[Manifest]:
    """The demo's resources of that size, and with further changes.

    Raises:
        StarctlError: the manifests are not there, or the size changes a resource that they lack.
    """
    files = sorted((root / FOLDER).glob("*.yaml"))
    if not files:
        raise StarctlError(f"{root / FOLDER} holds no manifests; run this in a checkout of the repository")
    found = [document for file in files for document in yaml.safe_load_all(file.read_text()) if document]
    return resized(resized(found, OVERRIDES[size]), further or {})


def resized(manifests: list[Manifest], overrides: Overrides) -> list[Manifest]:
    """The manifests with changes merged into their specs: maps are merged, everything else is replaced."""
    unknown = set(overrides) - {key(manifest) for manifest in manifests}
    if unknown:
        raise StarctlError(f"{FOLDER} has no {', '.join('/'.join(one) for one in sorted(unknown))}")
    return [{**manifest, "spec": merged(manifest["spec"], overrides.get(key(manifest), {}))} for manifest in manifests]


def key(manifest: Manifest) -> tuple[str, str]:
    """Kind and name."""
    return manifest["kind"], manifest["metadata"]["name"]


def merged(base: Any, change: Any) -> Any:
    """`base` with `change` merged in (JSON merge patch, RFC 7386, without the removal of fields)."""
    if not isinstance(base, dict) or not isinstance(change, dict):
        return deepcopy(change)
    return {**deepcopy(base), **{name: merged(base.get(name), value) for name, value in change.items()}}
