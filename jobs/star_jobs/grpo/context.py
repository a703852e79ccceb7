"""What a GRPO run is made from, ready on local disk: the same for every engine."""

from dataclasses import dataclass
from pathlib import Path

from star_contracts.job import TrainGRPO
from star_contracts.settings import Variant
from star_jobs.datasets.snapshot import ITEMS, Dataset
from star_jobs.grpo.difficulty import SAMPLES, Instance
from star_jobs.grpo.rows import PromptSet, Tasks, batch_size, build, steps
from star_jobs.lookup import SignalStore
from star_jobs.models.folder import ModelFolder
from star_jobs.models.source import resolve
from star_jobs.models.tokens import token_counter
from star_jobs.runtime import JobContext
from star_jobs.storage import read_jsonl
from star_jobs.training.cluster import Node
from star_jobs.trajectory.phases import student_variant
from star_jobs.trajectory.prompt import shown


@dataclass(frozen=True)
class Prepared:
    """Inputs and plan of a run."""

    stage: TrainGRPO
    node: Node
    model: ModelFolder
    answer_prefix: str
    """What the model's template puts before an answer."""
    prompts: PromptSet
    variant: Variant
    """The stage's with a look-up store, `WithoutTools` without."""
    items: Path
    """`items.jsonl` of the dataset."""
    signals: Path | None
    """Folder of the look-up store, for a student with tools."""
    batch: int
    """Instances a step."""
    mini_batch: int
    """Instances an update."""
    steps: int
    epochs: int


@dataclass(frozen=True)
class Trained:
    """What an engine leaves behind."""

    model: Path
    """Folder with weights, configuration and tokenizer."""
    steps: int
    metrics: dict[str, float]


def prepare(stage: TrainGRPO, job: JobContext, node: Node) -> Prepared:
    """Fetch the inputs and plan the run. Raises JobFailure: the inputs', NothingToTrainOn, InvalidDataset."""
    h = stage.hyperparameters
    model = resolve(stage.model, job)
    folder = job.fetch(stage.dataset, only=("*.jsonl",))
    dataset = Dataset(folder)
    signals = job.fetch(stage.signals) if stage.signals is not None else None
    store = SignalStore.open(signals) if signals is not None else None
    variant = student_variant(stage.variant, tools=signals is not None)
    source = Tasks(
        tasks={task.task_id: shown(task, store) for task in dataset.tasks("train")},
        truth=dataset.ground_truth("train"),
        items=dataset.items,
    )
    instances = read_jsonl(job.fetch(stage.samples) / SAMPLES, Instance)
    prompts = build(instances, source, variant, token_counter(model.path, model.name), h.max_prompt_length)
    batch, mini_batch = batch_size(h.train_batch_size, h.mini_batch_size, len(prompts.rows))
    total, epochs = steps(len(prompts.rows), batch, h.epochs, h.max_steps)
    return Prepared(
        stage=stage,
        node=node,
        model=model,
        answer_prefix=model.answer_prefix(),
        prompts=prompts,
        variant=variant,
        items=folder / ITEMS,
        signals=None if variant is Variant.WITHOUT_TOOLS else signals,
        batch=batch,
        mini_batch=mini_batch,
        steps=total,
        epochs=epochs,
    )
