"""verl's checkpoints on disk and its metrics file. Imports nothing of verl."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from star_jobs.training.figures import finite
from star_jobs.training.staging import LocalCheckpoint, folders

ENGINE = "verl"
LATEST = "latest_checkpointed_iteration.txt"
"""verl writes the step here once a checkpoint is whole, on all nodes."""
HUGGING_FACE = Path("actor") / "huggingface"

_METRICS = {
    "reward": "critic/rewards/mean",
    "loss": "actor/pg_loss",
    "kl": "actor/kl_loss",
    "responseTokens": "response_length/mean",
    "promptTokens": "prompt_length/mean",
    "turns": "num_turns/mean",
    "stepSeconds": "timing_s/step",
    "rolloutGap": "training/rollout_probs_diff_mean",
}
_VITAL = ("actor/pg_loss", "actor/loss", "actor/grad_norm", "actor/kl_loss", "critic/rewards/mean")
"""Figures without which a training is lost."""


@dataclass(frozen=True)
class VerlStep:
    """One line of verl's metrics file."""

    step: int
    values: Mapping[str, float]
    """Our names: `reward`, `loss`, `kl`, `responseTokens`, ... Finite all of them."""


def parse_step(line: Mapping[str, Any]) -> VerlStep | None:
    """Read one object of the file that `trainer.logger=[file]` writes; None when it is about something else.

    Raises Diverged.
    """
    step, data = line.get("step"), line.get("data")
    if type(step) is not int or step < 0 or not isinstance(data, dict):
        return None
    figures = finite(ENGINE, step, data, _VITAL)
    return VerlStep(step, {name: figures[key] for name, key in _METRICS.items() if key in figures})


class VerlLayout:
    """`global_step_<n>/` folders (`staging.Layout`)."""

    def __init__(self, steps: int, nodes: int = 1) -> None:
        self._steps = steps
        self._nodes = nodes

    def find(self, folder: Path) -> list[LocalCheckpoint]:
        """Return the checkpoint folders, oldest first."""
        return folders(folder, "global_step_*")

    def is_saved(self, checkpoint: LocalCheckpoint) -> bool:
        """Tell whether verl has said, on this node, that this checkpoint or a later one is whole."""
        try:
            return int((checkpoint.path.parent / LATEST).read_text()) >= checkpoint.step
        except (OSError, ValueError):
            return False

    def is_last(self, checkpoint: LocalCheckpoint) -> bool:
        """Tell whether training ends with it. Across nodes it is staged all the same: the model may be elsewhere."""
        return self._nodes == 1 and checkpoint.step >= self._steps

    def restored(self, folder: Path, checkpoint: LocalCheckpoint) -> None:
        """Make `trainer.resume_mode=auto` find the checkpoint."""
        (folder / LATEST).write_text(str(checkpoint.step))
