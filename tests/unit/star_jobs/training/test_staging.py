"""Checkpoints on their way to the work area and back."""

import math
from collections.abc import Callable
from pathlib import Path

import pytest

from star_contracts.errors import Reason
from star_jobs.errors import RetryableFailure
from star_jobs.storage import ObjectStore, WorkArea
from star_jobs.training.figures import Diverged
from star_jobs.training.staging import CheckpointStager, LocalCheckpoint, folders, newest, step_of


class Layout:
    """Checkpoints `c-<n>` that are saved once they hold a file `done`."""

    def __init__(self, last: int = 100) -> None:
        self.last = last
        self.brought_back: list[int] = []

    def find(self, folder: Path) -> list[LocalCheckpoint]:
        return folders(folder, "c-*")

    def is_saved(self, checkpoint: LocalCheckpoint) -> bool:
        return (checkpoint.path / "done").is_file()

    def is_last(self, checkpoint: LocalCheckpoint) -> bool:
        return checkpoint.step >= self.last

    def restored(self, folder: Path, checkpoint: LocalCheckpoint) -> None:
        self.brought_back.append(checkpoint.step)


@pytest.fixture
def work(store: ObjectStore, uri: str) -> WorkArea:
    return WorkArea(store, uri)


def write(folder: Path, step: int, *, done: bool = True, content: str = "x") -> None:
    path = folder / f"c-{step}"
    path.mkdir(parents=True)
    (path / "weights").write_text(f"{content}{step}")
    if done:
        (path / "done").touch()


def test_the_newest_saved_checkpoint_is_staged_and_brought_back(work: WorkArea, tmp_path: Path) -> None:
    here, there = tmp_path / "here", tmp_path / "there"
    write(here, 2)
    write(here, 10)
    write(here, 12, done=False)
    CheckpointStager(work, here, Layout()).sync()
    assert work.trees("checkpoints") == ["checkpoints/c-10/node-0"]
    layout = Layout()
    back = CheckpointStager(work, there, layout).restore()
    assert back == LocalCheckpoint(10, there / "c-10")
    assert (there / "c-10" / "weights").read_text() == "x10"
    assert layout.brought_back == [10]


def test_a_newer_one_replaces_it(work: WorkArea, tmp_path: Path) -> None:
    write(tmp_path, 1)
    stager = CheckpointStager(work, tmp_path, Layout())
    stager.sync()
    write(tmp_path, 2)
    stager.sync()
    assert work.trees("checkpoints") == ["checkpoints/c-2/node-0"]
    assert not [name for name in work.list("checkpoints") if "c-1" in name]


def test_nothing_to_bring_back(work: WorkArea, tmp_path: Path) -> None:
    assert CheckpointStager(work, tmp_path, Layout()).restore() is None


def test_what_was_brought_back_is_not_staged_again(work: WorkArea, tmp_path: Path) -> None:
    write(tmp_path / "a", 3)
    CheckpointStager(work, tmp_path / "a", Layout()).sync()
    again = CheckpointStager(work, tmp_path / "b", Layout())
    again.restore()
    (tmp_path / "b" / "c-3" / "weights").write_text("changed")
    again.sync()
    CheckpointStager(work, tmp_path / "c", Layout()).restore()
    assert (tmp_path / "c" / "c-3" / "weights").read_text() == "x3"


def test_the_last_one_becomes_the_artifact_instead(work: WorkArea, tmp_path: Path) -> None:
    write(tmp_path, 100)
    CheckpointStager(work, tmp_path, Layout(last=100)).sync()
    assert work.trees("checkpoints") == []


def test_across_nodes_a_checkpoint_counts_when_every_part_is_there(work: WorkArea, tmp_path: Path) -> None:
    leader = CheckpointStager(work, tmp_path / "0", Layout(), node=0, nodes=2)
    other = CheckpointStager(work, tmp_path / "1", Layout(), node=1, nodes=2)
    write(tmp_path / "1", 5, done=False, content="b")
    other.sync()
    assert work.trees("checkpoints") == []  # nobody has said yet that it is whole
    write(tmp_path / "0", 5, content="a")
    leader.sync()
    assert CheckpointStager(work, tmp_path / "x", Layout(), nodes=2).restore() is None
    other.sync()
    back = CheckpointStager(work, tmp_path / "y", Layout(), node=1, nodes=2).restore()
    assert back is not None
    assert back.step == 5


def test_a_failing_store_does_not_end_training(tmp_path: Path) -> None:
    class Away:
        def __getattr__(self, _name: str) -> Callable[..., None]:
            def fail(*_arguments: object) -> None:
                raise RetryableFailure(Reason.STORE_UNREACHABLE, "away")

            return fail

    write(tmp_path, 1)
    CheckpointStager(Away(), tmp_path, Layout()).sync()  # type: ignore[arg-type]


def test_close_stages_what_is_finished_by_then(work: WorkArea, tmp_path: Path) -> None:
    stager = CheckpointStager(work, tmp_path, Layout())
    stager.start(period_seconds=60)
    write(tmp_path, 4)
    stager.close()
    assert work.trees("checkpoints") == ["checkpoints/c-4/node-0"]


@pytest.mark.parametrize(("step", "left"), [(4, []), (5, ["checkpoints/c-4/node-0"])])
def test_no_checkpoint_of_a_diverged_training_is_resumed_from(
    work: WorkArea, tmp_path: Path, step: int, left: list[str]
) -> None:
    write(tmp_path, 4)
    stager = CheckpointStager(work, tmp_path, Layout())
    stager.sync()

    def train() -> None:
        with stager.staging():
            raise Diverged("engine", step, "loss", math.nan)

    with pytest.raises(Diverged):
        train()
    write(tmp_path, 6)
    assert work.trees("checkpoints") == left


def test_steps_are_numbers() -> None:
    assert newest({"checkpoint-9", "checkpoint-10"}) == "checkpoint-10"
    assert step_of("global_step_120") == 120
    assert step_of("notes") == -1
    assert newest(set()) is None
