"""Stage train-grpo as a whole: real S3, stand-ins for verl and ms-swift."""

import json
from pathlib import Path
from typing import Any

import pytest

from star_contracts.job import TrainGRPO
from star_contracts.result import ExitCode
from star_contracts.settings import GRPOBackend, GRPOHyperparameters, Precision, Rewards
from star_jobs.grpo import context
from star_jobs.grpo.difficulty import Difficulty, Instance
from star_jobs.grpo.verl import run as verl_run
from star_jobs.storage import ObjectStore
from tests.support import processors
from tests.support.jobs import JobRunner
from tests.support.training import PYTHON_PATH, TrainingInputs, train_tasks

BACKENDS = list(GRPOBackend)


@pytest.fixture(autouse=True)
def _engine(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PYTHONPATH", PYTHON_PATH)
    monkeypatch.setattr(context, "token_counter", lambda *_model: len)
    monkeypatch.setattr(verl_run, "write_parquet", lambda _ready, path: path)


@pytest.fixture
def inputs(store: ObjectStore, uri: str, tmp_path: Path) -> TrainingInputs:
    return TrainingInputs(store, uri, tmp_path)


def stage(inputs: TrainingInputs, backend: GRPOBackend, **changes: Any) -> TrainGRPO:
    tasks = train_tasks()
    sampled = [
        Instance(task_id=task.task_id, samples=4, solved=2, difficulty=Difficulty.MEDIUM, kept=n < 5)
        for n, task in enumerate(tasks)
    ]
    values: dict[str, Any] = {
        "model": inputs.model(),
        "dataset": inputs.dataset(tasks),
        "samples": inputs.samples(sampled),
        "signals": inputs.signals(),
        "backend": backend,
        "rewards": Rewards(),
        "hyperparameters": GRPOHyperparameters(
            train_batch_size=4,
            mini_batch_size=4,
            group_size=2,
            max_prompt_length=3000,
            max_steps=5,
            save_steps=2,
            kl_coefficient=0,
            tensor_parallel_size=1,
            precision=Precision.FP32,
        ),
    }
    return TrainGRPO(**values | changes)


@pytest.mark.parametrize("backend", BACKENDS)
def test_the_last_steps_model_is_the_artifact(inputs: TrainingInputs, jobs: JobRunner, backend: GRPOBackend) -> None:
    done = jobs.run(stage(inputs, backend))
    assert done.code == ExitCode.DONE, done.result
    folder = jobs.fetch(done.artifact)
    assert (folder / "model.safetensors").read_bytes().endswith(bytes([5]) * 16)
    assert json.loads((folder / "config.json").read_text())["dtype"] == "float32"
    assert not list(folder.glob("*.pt"))
    assert {"steps": 5.0, "instances": 5.0, "reward": 0.5}.items() <= done.result.metrics.items()
    manifest = json.loads((folder / "manifest.json").read_bytes())
    assert set(manifest["inputs"]) == {"dataset", "model", "samples", "signals"}


@pytest.mark.parametrize(("backend", "bits"), [(GRPOBackend.VERL, 32.0), (GRPOBackend.SWIFT, 16.0)])
def test_the_precision_that_was_chosen_is_recorded_and_a_cpus_weights_stay_whole(
    inputs: TrainingInputs,
    jobs: JobRunner,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    backend: GRPOBackend,
    bits: float,
) -> None:
    processors.pretend(monkeypatch, tmp_path, processors.AVX512_BF16)
    job = stage(inputs, backend)
    auto = job.hyperparameters.model_copy(update={"precision": Precision.AUTO})
    done = jobs.run(job.model_copy(update={"hyperparameters": auto}))
    assert done.code == ExitCode.DONE, done.result
    assert done.result.metrics["precisionBits"] == bits
    assert json.loads((jobs.fetch(done.artifact) / "config.json").read_text())["dtype"] == "float32"


@pytest.mark.parametrize("backend", BACKENDS)
def test_a_run_that_ended_early_goes_on_from_its_newest_checkpoint(
    inputs: TrainingInputs, jobs: JobRunner, monkeypatch: pytest.MonkeyPatch, backend: GRPOBackend
) -> None:
    job = stage(inputs, backend)
    monkeypatch.setenv("FAKE_ENGINE", json.dumps({"fail_at": 4, "last_words": "ray.exceptions.ActorDiedError: gone"}))
    broken = jobs.run(job, output="1")
    assert (broken.code, broken.error.reason) == (ExitCode.RETRYABLE, "TrainerFailed")
    assert "ActorDiedError" in broken.error.message
    (tree,) = jobs.work().trees("checkpoints")
    assert tree.endswith("2/node-0")
    monkeypatch.setenv("FAKE_ENGINE", json.dumps({"fail_at": 2, "last_words": "started anew"}))
    done = jobs.run(job, output="2")
    assert done.code == ExitCode.DONE, done.result


@pytest.mark.bad_input
@pytest.mark.case("nan-loss")
@pytest.mark.parametrize("backend", BACKENDS)
def test_a_diverged_training_ends_when_it_is_seen(
    inputs: TrainingInputs, jobs: JobRunner, monkeypatch: pytest.MonkeyPatch, backend: GRPOBackend
) -> None:
    lost = {"loss": 0.0, "grad_norm": "nan", "actor/grad_norm": float("nan")}
    monkeypatch.setenv("FAKE_ENGINE", json.dumps({"figures": {"3": lost}, "hang_at": 4}))
    ended = jobs.run(stage(inputs, backend))
    assert (ended.code, ended.error.reason) == (ExitCode.TERMINAL, "TrainingDiverged")
    assert "diverged at step 3" in ended.error.message


@pytest.mark.bad_input
def test_an_empty_rl_set(inputs: TrainingInputs, jobs: JobRunner) -> None:
    never = Instance(task_id=train_tasks()[0].task_id, samples=4, solved=0, difficulty=Difficulty.UNSOLVED)
    job = stage(inputs, GRPOBackend.VERL).model_copy(update={"samples": inputs.samples([never])})
    ended = jobs.run(job)
    assert (ended.code, ended.error.reason) == (ExitCode.TERMINAL, "NothingToTrainOn")
    assert "keepUnsolved" in ended.error.message


@pytest.mark.bad_input
def test_several_nodes_without_gpus(inputs: TrainingInputs, jobs: JobRunner) -> None:
    ended = jobs.run(stage(inputs, GRPOBackend.VERL, nodes=2))
    assert (ended.code, ended.error.reason) == (ExitCode.TERMINAL, "InvalidJobSpec")
