"""Stage an engine's checkpoints to the work area, and bring the newest one back after a kill.

An engine writes a checkpoint over some time and on every node a part of it. The node that finishes it last knows that
it is whole (each engine's `Layout` says how to see that) and announces it; then every node uploads its own part. A
checkpoint counts only when the parts of all nodes are there, so half of one is never resumed from.
"""

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import structlog

from star_jobs.errors import JobFailure
from star_jobs.storage import WorkArea
from star_jobs.training.figures import Diverged

FOLDER = "checkpoints"
_SAVED = ".saved"


@dataclass(frozen=True)
class LocalCheckpoint:
    """A checkpoint folder on this node."""

    step: int
    path: Path

    @property
    def name(self) -> str:
        """The folder's name: the engine's own, the same on every node."""
        return self.path.name


class Layout(Protocol):
    """How one engine lays out its checkpoints on disk."""

    def find(self, folder: Path) -> list[LocalCheckpoint]:
        """Return the checkpoint folders there are, finished or not, oldest first."""
        ...

    def is_saved(self, checkpoint: LocalCheckpoint) -> bool:
        """Tell whether this node can see that the whole checkpoint was written, on all nodes."""
        ...

    def is_last(self, checkpoint: LocalCheckpoint) -> bool:
        """Tell whether training ends with it: its model becomes the artifact, so it need not be staged."""
        ...

    def restored(self, folder: Path, checkpoint: LocalCheckpoint) -> None:
        """Make the engine find a checkpoint that was brought back."""
        ...


class CheckpointStager:
    """Uploads complete checkpoints in the background, the newest only, and removes those it replaces."""

    def __init__(self, work: WorkArea, folder: Path, layout: Layout, *, node: int = 0, nodes: int = 1) -> None:
        self._work = work
        self._folder = folder
        self._layout = layout
        self._node = node
        self._nodes = nodes
        self._announced: set[str] = set()
        self._done: set[str] = set()
        self._period = 5.0
        self._log = structlog.get_logger().bind(part="checkpoints", node=node)
        self._wake = threading.Event()
        self._closing = threading.Event()
        self._abandoned = False
        self._thread = threading.Thread(target=self._loop, name="checkpoint-stager", daemon=True)

    def restore(self) -> LocalCheckpoint | None:
        """Bring the newest complete checkpoint back into the folder; None when there is none to resume from."""
        name = newest(self._complete())
        if name is None:
            return None
        for node in range(self._nodes):
            self._work.download_tree(f"{FOLDER}/{name}/node-{node}", self._folder / name)
        self._done.add(name)
        checkpoint = LocalCheckpoint(step=step_of(name), path=self._folder / name)
        self._layout.restored(self._folder, checkpoint)
        self._log.info("resuming", checkpoint=name)
        return checkpoint

    @contextmanager
    def staging(self) -> Iterator[None]:
        """Stage while an engine runs. What a training saved once it had diverged is no checkpoint to resume from."""
        self.start()
        try:
            yield
        except Diverged as failure:
            self._abandon(failure.step)
            raise
        finally:
            self.close()

    def start(self, period_seconds: float = 5.0) -> None:
        """Look for finished checkpoints from now on."""
        self._period = period_seconds
        self._thread.start()

    def close(self) -> None:
        """Stage what is finished by now, then stop."""
        self._closing.set()
        self._wake.set()
        if self._thread.is_alive():
            self._thread.join()

    def sync(self) -> None:
        """Stage the newest checkpoint that is finished and not staged yet. A failing store is tried again later."""
        try:
            self._announce()
            self._upload()
        except (JobFailure, OSError) as error:
            # Training goes on: a checkpoint that is not staged costs time only if this pod is lost as well.
            self._log.warning("staging failed", error=str(error))

    def _loop(self) -> None:
        while not self._closing.is_set():
            self.sync()
            self._wake.wait(self._period)
        if not self._abandoned:
            self.sync()

    def _abandon(self, step: int) -> None:
        """Stage nothing more, and remove what was staged of this step and later ones."""
        self._abandoned = True
        self.close()
        try:
            for name in self._complete():
                if step_of(name) >= step:
                    self._remove(name)
        except (JobFailure, OSError) as error:
            self._log.warning("could not remove the checkpoints of a diverged training", error=str(error))

    def _announce(self) -> None:
        for checkpoint in self._layout.find(self._folder):
            if checkpoint.name not in self._announced | self._done and self._layout.is_saved(checkpoint):
                self._work.put(f"{FOLDER}/{checkpoint.name}{_SAVED}", b"")
                self._announced.add(checkpoint.name)

    def _upload(self) -> None:
        saved = self._saved()
        ready = [c for c in self._layout.find(self._folder) if c.name in saved and c.name not in self._done]
        if not ready or self._layout.is_last(ready[-1]):
            return
        checkpoint = ready[-1]
        self._work.upload_tree(checkpoint.path, f"{FOLDER}/{checkpoint.name}/node-{self._node}")
        self._done.update(c.name for c in ready)
        self._log.info("staged", checkpoint=checkpoint.name)
        if self._node == 0:
            self._remove_older()

    def _remove_older(self) -> None:
        """Keep the newest complete checkpoint and what is newer; the store need not hold every one."""
        complete = self._complete()
        keep = newest(complete)
        for name in complete:
            if name != keep:
                self._remove(name)

    def _remove(self, name: str) -> None:
        for node in range(self._nodes):
            self._work.delete_tree(f"{FOLDER}/{name}/node-{node}")
        self._work.delete(f"{FOLDER}/{name}{_SAVED}")

    def _saved(self) -> set[str]:
        if self._nodes == 1:
            return self._announced
        names = self._work.list(FOLDER)
        return {n.removeprefix(f"{FOLDER}/").removesuffix(_SAVED) for n in names if n.endswith(_SAVED)}

    def _complete(self) -> set[str]:
        """Return the names of the checkpoints of which every node's part is in the work area."""
        parts: dict[str, set[str]] = {}
        for tree in self._work.trees(FOLDER):
            name, _, node = tree.removeprefix(f"{FOLDER}/").partition("/")
            parts.setdefault(name, set()).add(node)
        wanted = {f"node-{node}" for node in range(self._nodes)}
        return {name for name, nodes in parts.items() if wanted <= nodes}


def step_of(name: str) -> int:
    """Return the step of a checkpoint's folder name (`checkpoint-40`, `global_step_40`)."""
    digits = name.rsplit("-", 1)[-1].rsplit("_", 1)[-1]
    return int(digits) if digits.isdigit() else -1


def newest(names: set[str]) -> str | None:
    """Return the name of the highest step."""
    return max(names, key=step_of, default=None)


def folders(folder: Path, pattern: str) -> list[LocalCheckpoint]:
    """Return the folders that match, by step."""
    found = [LocalCheckpoint(step_of(path.name), path) for path in folder.glob(pattern) if path.is_dir()]
    return sorted((c for c in found if c.step >= 0), key=lambda c: c.step)
