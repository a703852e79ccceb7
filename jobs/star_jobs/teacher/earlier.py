"""What an earlier run's model answered: `answers.jsonl` of its artifact, from which a later run takes answers over.

An answer's key is the hash of the request that it answers: model, messages, sampling with its seed, schema. The
messages hold all that a trajectory follows from: the task, the texts of the items, the summary, the signals that were
offered and looked up, the prompts, what the agents said before. So nothing has to be known of what changed: a
trajectory whose every request is as it was is the one that was made, and of another the calls up to the first
difference are saved.
"""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from pydantic import ValidationError

from star_contracts.base import value_hash
from star_contracts.errors import JobWarning, Reason, WarningReason
from star_contracts.settings import Sampling
from star_jobs.errors import TerminalFailure
from star_jobs.llm.messages import ChatMessage
from star_jobs.llm.structured import JsonSchema
from star_jobs.previous import Previous
from star_jobs.teacher.records import ModelAnswer, RunAnswers

ANSWERS = "answers.jsonl"
KEY_CHARS = 32
Run = tuple[str, int]
"""Task id and pass: a run's seeds follow from them, and so do its requests."""


def request_key(
    model: str,
    messages: Sequence[ChatMessage],
    sampling: Sampling,
    schema: JsonSchema | None,
    template_arguments: Mapping[str, object] | None,
) -> str:
    """Return the key of the answer to a request."""
    request = {
        "model": model,
        "messages": list(messages),
        "sampling": sampling.to_json_dict(),
        "schema": schema,
        "template": dict(template_arguments or {}),
    }
    return value_hash(request).removeprefix("sha256:")[:KEY_CHARS]


@dataclass(frozen=True)
class EarlierRuns:
    """An earlier run's answers, read when their turn comes: in memory is where each run's line starts."""

    path: Path | None = None
    starts: Mapping[Run, int] = field(default_factory=dict)

    @classmethod
    def open(cls, previous: Previous, wanted: Collection[Run]) -> tuple["EarlierRuns", tuple[JobWarning, ...]]:
        """Return the answers of the wanted runs, and what to say where there are none.

        Raises TerminalFailure(ArtifactCorrupted) for a file that does not hold answers.
        """
        if previous.folder is None:
            return cls(), previous.warnings
        path = previous.folder / ANSWERS
        if not path.is_file():
            text = "nothing is taken over from the previous trajectories: they were made before answers were kept"
            return cls(), (JobWarning(reason=WarningReason.PREVIOUS_GONE, message=text),)
        known, starts, at = set(wanted), {}, 0
        with path.open("rb") as lines:
            for number, line in enumerate(lines, start=1):
                one = _read(line, f"{ANSWERS} line {number}")
                if (one.task_id, one.pass_index) in known:
                    starts[one.task_id, one.pass_index] = at
                at += len(line)
        return cls(path, starts), ()

    def answers(self, task_id: str, pass_index: int) -> dict[str, ModelAnswer]:
        """Return a run's answers by their keys; empty for one that was not made."""
        start = self.starts.get((task_id, pass_index))
        if start is None or self.path is None:
            return {}
        with self.path.open("rb") as lines:
            lines.seek(start)
            return {answer.key: answer for answer in _read(lines.readline(), ANSWERS).answers}


def _read(line: bytes, where: str) -> RunAnswers:
    try:
        return RunAnswers.model_validate_json(line)
    except ValidationError as error:
        raise TerminalFailure(
            Reason.ARTIFACT_CORRUPTED, f"{where} of the previous trajectories holds no answers; leave previous out"
        ) from error
