"""What is kept of each run of the teacher, and where: one small object a trajectory, so that none is made twice."""

import hashlib
import re

from star_contracts.base import Model
from star_contracts.data import RankingTask, TaskType, Trajectory, Usage

FOLDER = "trajectories"


class ModelAnswer(Model):
    """What a model answered to one request."""

    key: str
    """Hash of the request."""
    text: str
    usage: Usage = Usage()
    seconds: float = 0.0
    """From the call's turn to its answer."""


class RunAnswers(Model):
    """One line of `answers.jsonl`: all answers of a run, for a later one to take over."""

    task_id: str
    pass_index: int
    answers: tuple[ModelAnswer, ...] = ()
    """In the order of asking."""


class RunRecord(Model):
    """A finished run: its trajectory, or why there is none, and what it took."""

    task_id: str
    task_type: TaskType
    pass_index: int
    trajectory: Trajectory | None = None
    """None when the endpoint refused one of its requests."""
    failure: str = ""
    """Why there is no trajectory."""
    ranked: bool = True
    """False when no ranking could be read: the trajectory's ranking is empty and counts as a miss."""
    repaired: bool = False
    """True when ids of the ranking had to be dropped or put in."""
    outputs: int = 0
    """Answers of the model."""
    invalid: int = 0
    """Answers that did not say what was asked for."""
    answers: tuple[ModelAnswer, ...] = ()
    """All of them, those taken over from an earlier run as well."""
    saved: Usage = Usage()
    """What the answers that were taken over had cost, of the trajectory's usage."""
    left_out: int = 0
    """Look-ups that were not offered, as their ids cannot be written in a tool call."""
    cost: float = 0.0
    """What its tokens cost, by the prices of the endpoints; those of answers taken over cost nothing."""
    seconds: float = 0.0
    """From the first call to the ranking, look-ups included: what an answer's seconds are of a student. Runs outnumber
    calls in flight, and what a run's calls waited for those of other runs is not counted. An answer that was taken over
    counts with the seconds it took when it was made."""

    gpus: int | None = None
    """GPUs that the run occupied: of one engine of each of its models. None where not known."""

    @property
    def reused(self) -> bool:
        """Whether no call was made for it."""
        return self.trajectory is not None and 0 < self.trajectory.usage.calls == self.saved.calls

    def given(self) -> RunAnswers:
        """Return its answers, for a later run."""
        return RunAnswers(task_id=self.task_id, pass_index=self.pass_index, answers=self.answers)

    def result(self) -> "RunResult":
        """Return what came of the run."""
        return RunResult(
            task_id=self.task_id,
            pass_index=self.pass_index,
            rank=self.trajectory.hit_rank if self.trajectory else None,
            refused=self.trajectory is None,
            seconds=self.seconds,
            gpus=self.gpus,
        )


class RunResult(Model):
    """One line of `runs.jsonl`: what an evaluation needs to compare its model with the teacher in pairs."""

    task_id: str
    pass_index: int
    rank: int | None
    """1-based place of the ground truth; None for a miss."""
    refused: bool
    """True when the endpoint refused a request of the run, which is a miss, too."""
    seconds: float
    """As the record has it."""
    gpus: int | None = None
    """As the record has it."""


def part_name(task: RankingTask, pass_index: int) -> str:
    """Return the object's name under the work prefix: readable, safe for any task id, and never shared."""
    readable = re.sub(r"[^A-Za-z0-9_.-]", "_", task.task_id)[:64]
    digest = hashlib.sha256(task.task_id.encode()).hexdigest()[:10]
    return f"{FOLDER}/p{pass_index:03d}/{readable}-{digest}.json"
