"""The format reward of an ablated student asks for the phases it was trained to write."""

from pathlib import Path

import pytest

from star_contracts.artifact import ArtifactRef
from star_contracts.job import TrainGRPO
from star_contracts.settings import GRPOBackend, GRPOHyperparameters, Rewards, Variant
from star_jobs.grpo import context, train
from star_jobs.grpo.context import Prepared
from star_jobs.grpo.difficulty import Difficulty, Instance
from star_jobs.storage import ObjectStore
from tests.support import world
from tests.support.jobs import JobRunner
from tests.support.training import TrainingInputs, train_tasks


@pytest.mark.parametrize(
    ("trained", "tools", "judged"),
    [
        (Variant.FULL, True, Variant.FULL),
        (Variant.WITHOUT_PLANNER, True, Variant.WITHOUT_PLANNER),
        (Variant.WITHOUT_REFLECTOR, True, Variant.WITHOUT_REFLECTOR),
        (Variant.WITHOUT_TOOLS, False, Variant.WITHOUT_TOOLS),
        (Variant.WITHOUT_TOOLS, True, Variant.WITHOUT_TOOLS),
        (Variant.FULL, False, Variant.WITHOUT_TOOLS),
    ],
)
def test_rollouts_are_judged_as_the_student_was_trained(
    trained: Variant,
    tools: bool,
    judged: Variant,
    store: ObjectStore,
    uri: str,
    tmp_path: Path,
    jobs: JobRunner,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(context, "token_counter", lambda *_model: len)
    inputs = TrainingInputs(store, uri, tmp_path)
    tasks = [world.with_past(task, 7) for task in train_tasks(2)]
    chosen = [
        Instance(task_id=task.task_id, samples=4, solved=2, difficulty=Difficulty.MEDIUM, kept=True) for task in tasks
    ]
    signals: ArtifactRef | None = inputs.signals(*tasks) if tools else None
    stage = TrainGRPO(
        model=inputs.model(),
        dataset=inputs.dataset(tasks),
        samples=inputs.samples(chosen),
        signals=signals,
        variant=trained,
        backend=GRPOBackend.VERL,
        rewards=Rewards(),
        hyperparameters=GRPOHyperparameters(max_prompt_length=3000),
    )
    seen: list[Prepared] = []
    monkeypatch.setattr(train, "_engine", lambda ready, _job: seen.append(ready))
    jobs.run(stage)
    (ready,) = seen
    assert ready.variant is judged
    assert (ready.signals is not None) == (judged is not Variant.WITHOUT_TOOLS), "tools, in the engine's rollouts"
    for row in ready.prompts.rows:
        assert ("Long-term summary: The first 6 films" in row.messages[1]["content"]) == tools
