"""Inputs of the training stages as real artifacts, and stand-ins for the engines as programs of their own."""

import json
import struct
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from star_contracts.artifact import ArtifactKind, ArtifactRef
from star_contracts.data import AgentStep, GroundTruth, RankingTask, SignalKind, TaskType, ToolExchange, Trajectory
from star_contracts.job import ModelSource
from star_jobs.models.chat_template import CHATML
from star_jobs.storage import ObjectStore, write_jsonl
from tests.support import world

ENGINES = Path(__file__).with_name("engines")
REPOSITORY = Path(__file__).parents[2]
PYTHON_PATH = ":".join(str(path) for path in (ENGINES, REPOSITORY, REPOSITORY / "operator", REPOSITORY / "jobs"))
"""PYTHONPATH under which `swift` and `verl` are the stand-ins."""

CHATML_TOKENS = [{"content": "<|im_start|>"}, {"content": "<|im_end|>"}]


def write_safetensors(path: Path, shapes: Mapping[str, Sequence[int]], fill: int = 0) -> None:
    """Write float32 tensors of these shapes in the safetensors format, every byte `fill`."""
    header: dict[str, Any] = {}
    offset = 0
    for name, shape in shapes.items():
        size = 4
        for length in shape:
            size *= length
        header[name] = {"dtype": "F32", "shape": list(shape), "data_offsets": [offset, offset + size]}
        offset += size
    text = json.dumps(header).encode()
    path.write_bytes(struct.pack("<Q", len(text)) + text + bytes([fill]) * offset)


def write_model(folder: Path, **config: Any) -> Path:
    """Write a model folder that has everything but sense."""
    folder.mkdir(parents=True, exist_ok=True)
    settings = {"model_type": "llama", "architectures": ["LlamaForCausalLM"], "dtype": "float32", **config}
    (folder / "config.json").write_text(json.dumps(settings))
    (folder / "tokenizer.json").write_text(json.dumps({"added_tokens": CHATML_TOKENS}))
    (folder / "tokenizer_config.json").write_text(json.dumps({"eos_token": "<|im_end|>", "chat_template": CHATML}))
    write_safetensors(folder / "model.safetensors", {"w": (2, 2)})
    return folder


def train_tasks(count: int = 6) -> list[RankingTask]:
    """Training tasks of the test world; the truth of every task is its third candidate."""
    return world.tasks(count, [TaskType.CLASSIC])


def trajectory(task: RankingTask, *, kept: bool = True, thinking: str = "It fits.") -> Trajectory:
    """A teacher's run over a task, with one tool call, that ranks the truth first."""
    truth = task.candidates[2]
    ranking = (truth, *(c for c in task.candidates if c != truth))
    call = ToolExchange(tool=SignalKind.USER_CF, argument=task.user_id, response="quiet films")
    steps = (
        AgentStep(agent="planner", output=json.dumps(["user_profile"])),
        AgentStep(agent="user_profile", thinking=thinking, output=json.dumps(["drama"]), tools=(call,)),
        AgentStep(agent="reflection", output=json.dumps({"correct": "yes"})),
        AgentStep(agent="recommend", output=json.dumps(list(ranking))),
    )
    return Trajectory(task_id=task.task_id, pass_index=0, steps=steps, ranking=ranking, hit_rank=1, kept=kept)


class TrainingInputs:
    """Publishes the inputs under one prefix."""

    def __init__(self, store: ObjectStore, uri: str, folder: Path) -> None:
        self._store, self._uri, self._folder = store, uri, folder
        self._published = 0

    def model(self, change: Callable[[Path], object] = lambda folder: folder) -> ModelSource:
        """A checkpoint to start from, `change`d before it is published."""
        folder = write_model(self._folder / "in-model")
        change(folder)
        return ModelSource(artifact=self._publish("model", folder, ArtifactKind.CHECKPOINT))

    def dataset(self, tasks: Sequence[RankingTask]) -> ArtifactRef:
        """A dataset with these training tasks."""
        folder = world.write_dataset(self._folder / "in-dataset", world.tasks(1))
        truth = [GroundTruth(task_id=task.task_id, item_id=task.candidates[2]) for task in tasks]
        write_jsonl(folder / "tasks" / "train.jsonl", tasks)
        write_jsonl(folder / "truth" / "train.jsonl", truth)
        return self._publish("dataset", folder, ArtifactKind.DATASET)

    def trajectories(self, runs: Sequence[Trajectory]) -> ArtifactRef:
        """A TeacherRun's artifact."""
        folder = self._folder / "in-trajectories"
        write_jsonl(folder / "trajectories.jsonl", runs)
        return self._publish("trajectories", folder, ArtifactKind.TRAJECTORIES)

    def samples(self, instances: Sequence[Any]) -> ArtifactRef:
        """A sampling step's artifact."""
        folder = self._folder / "in-samples"
        write_jsonl(folder / "samples.jsonl", instances)
        return self._publish("samples", folder, ArtifactKind.SAMPLES)

    def signals(self, *long: RankingTask) -> ArtifactRef:
        """A look-up store, with the summaries of some tasks' long histories."""
        folder = world.write_signals(self._folder / "in-signals", *long)
        return self._publish("signals", folder, ArtifactKind.VERBALIZATION)

    def _publish(self, name: str, folder: Path, kind: ArtifactKind) -> ArtifactRef:
        self._published += 1
        return world.publish(self._store, f"{self._uri}/in/{name}-{self._published}", folder, kind)
