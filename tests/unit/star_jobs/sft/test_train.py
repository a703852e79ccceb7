"""Stage train-sft as a whole: real S3, a stand-in for ms-swift."""

import json
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from star_contracts.job import ModelSource, TrainSFT
from star_contracts.result import ExitCode
from star_contracts.settings import Precision, SFTHyperparameters, Sharding, Variant
from star_jobs.models.folder import ModelFolder
from star_jobs.sft import train as stage_module
from star_jobs.sft.arguments import arguments
from star_jobs.sft.data import Row
from star_jobs.storage import ObjectStore, find_manifest
from tests.support import processors, world
from tests.support.jobs import JobRunner
from tests.support.training import PYTHON_PATH, TrainingInputs, train_tasks, trajectory, write_model


@pytest.fixture(autouse=True)
def _engine(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PYTHONPATH", PYTHON_PATH)
    monkeypatch.setattr(stage_module, "token_counter", lambda *_model: len)


@pytest.fixture
def inputs(store: ObjectStore, uri: str, tmp_path: Path) -> TrainingInputs:
    return TrainingInputs(store, uri, tmp_path)


def stage(inputs: TrainingInputs, **changes: Any) -> TrainSFT:
    tasks = train_tasks()
    values: dict[str, Any] = {
        "model": inputs.model(),
        "trajectories": inputs.trajectories([trajectory(task) for task in tasks]),
        "dataset": inputs.dataset(tasks),
        "variant": Variant.FULL,
        "hyperparameters": SFTHyperparameters(
            max_steps=5,
            save_steps=2,
            global_batch_size=2,
            micro_batch_size=1,
            max_length=3000,
            precision=Precision.FP32,
            sharding=Sharding.NONE,
        ),
    }
    return TrainSFT(**values | changes)


def test_the_final_model_alone_is_the_artifact(inputs: TrainingInputs, jobs: JobRunner) -> None:
    job = stage(inputs)
    done = jobs.run(job)
    assert done.code == ExitCode.DONE, done.result
    folder = jobs.fetch(done.artifact)
    assert {path.name for path in folder.iterdir()} == {
        "config.json",
        "manifest.json",
        "model.safetensors",
        "tokenizer.json",
        "tokenizer_config.json",
    }
    assert (folder / "model.safetensors").read_bytes().endswith(bytes([5]) * 16)
    assert json.loads((folder / "manifest.json").read_bytes())["inputs"] == {
        "dataset": job.dataset.digest,
        "model": job.model.artifact.digest if job.model.artifact else "",
        "trajectories": job.trajectories.digest,
    }
    assert {"steps": 5.0, "sequences": 6.0, "leftOut": 0.0, "loss": 0.8}.items() <= done.result.metrics.items()


def test_ms_swift_which_trusts_every_model_gets_one_without_programs(
    inputs: TrainingInputs, jobs: JobRunner, monkeypatch: pytest.MonkeyPatch
) -> None:
    given: list[Path] = []

    def watched(stage: TrainSFT, model: ModelFolder, *rest: Any) -> list[str]:
        given.append(model.path)
        assert not [*model.path.rglob("*.py")]
        assert "auto_map" not in json.loads((model.path / "config.json").read_text())
        return arguments(stage, model, *rest)

    monkeypatch.setattr(stage_module, "arguments", watched)

    def bring_code(folder: Path) -> None:
        write_model(folder, auto_map={"AutoModelForCausalLM": "evil.Model"})
        (folder / "evil.py").write_text("raise SystemExit")

    done = jobs.run(stage(inputs, model=inputs.model(bring_code)))
    assert done.code == ExitCode.DONE, done.result
    assert len(given) == 1


def test_the_student_learns_from_the_summaries_that_its_teacher_read(
    inputs: TrainingInputs, jobs: JobRunner, monkeypatch: pytest.MonkeyPatch
) -> None:
    rows: list[Row] = []
    write = stage_module.write_rows
    monkeypatch.setattr(stage_module, "write_rows", lambda path, given: write(path, rows.extend(given) or given))
    long = world.with_past(train_tasks()[0], 14)
    job = stage(
        inputs,
        trajectories=inputs.trajectories([trajectory(long)]),
        dataset=inputs.dataset([long]),
        signals=inputs.signals(long),
    )
    done = jobs.run(job)
    assert done.code == ExitCode.DONE, done.result
    (row,) = rows
    shown = row["messages"][1]["content"]
    assert "Long-term summary: The first 12 films of u1.\nHistory, newest last:\ni0 Film 0" in shown
    assert shown.split("Candidates:")[0].count(" Film ") == 2
    assert job.signals is not None
    assert json.loads((jobs.fetch(done.artifact) / "manifest.json").read_bytes())["inputs"]["signals"] == (
        job.signals.digest
    )


@pytest.mark.parametrize(("cpuinfo", "bits"), [(processors.AVX2, 32.0), (processors.AVX512_BF16, 16.0)])
def test_the_precision_follows_the_processor_and_is_recorded(
    inputs: TrainingInputs, jobs: JobRunner, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, cpuinfo: str, bits: float
) -> None:
    processors.pretend(monkeypatch, tmp_path, cpuinfo)
    given: list[Precision] = []
    monkeypatch.setattr(
        stage_module,
        "arguments",
        lambda stage, *rest: given.append(stage.hyperparameters.precision) or arguments(stage, *rest),
    )
    job = stage(inputs)
    auto = job.hyperparameters.model_copy(update={"precision": Precision.AUTO})
    done = jobs.run(job.model_copy(update={"hyperparameters": auto}))
    assert done.code == ExitCode.DONE, done.result
    assert done.result.metrics["precisionBits"] == bits
    assert given == [Precision.FP32 if bits == 32 else Precision.BF16]


def test_a_run_that_ended_early_goes_on_from_its_newest_checkpoint(
    inputs: TrainingInputs, jobs: JobRunner, monkeypatch: pytest.MonkeyPatch
) -> None:
    job = stage(inputs)
    monkeypatch.setenv("FAKE_ENGINE", json.dumps({"fail_at": 4, "last_words": "ConnectionError: node lost"}))
    broken = jobs.run(job, output="1")
    assert broken.code == ExitCode.RETRYABLE
    assert broken.error.reason == "TrainerFailed"
    assert "ConnectionError: node lost" in broken.error.message
    assert jobs.work().trees("checkpoints") == ["checkpoints/checkpoint-2/node-0"]
    # From step 1 it would meet this again.
    monkeypatch.setenv("FAKE_ENGINE", json.dumps({"fail_at": 2, "last_words": "started anew"}))
    done = jobs.run(job, output="2")
    assert done.code == ExitCode.DONE, done.result
    assert done.result.metrics["steps"] == 5.0


@pytest.mark.bad_input
def test_out_of_memory_is_told_apart_and_not_retried(
    inputs: TrainingInputs, jobs: JobRunner, monkeypatch: pytest.MonkeyPatch
) -> None:
    words = "torch.OutOfMemoryError: CUDA out of memory."
    monkeypatch.setenv("FAKE_ENGINE", json.dumps({"fail_at": 1, "last_words": words}))
    ended = jobs.run(stage(inputs))
    assert (ended.code, ended.error.reason) == (ExitCode.TERMINAL, "OutOfMemory")


@pytest.mark.bad_input
@pytest.mark.case("nan-loss")
@pytest.mark.parametrize(
    "last", [{"loss": math.nan}, {"loss": math.inf}, {"loss": "nan"}, {"loss": 0, "grad_norm": "nan"}]
)
def test_a_diverged_training_ends_when_it_is_seen_and_leaves_nothing(
    inputs: TrainingInputs, jobs: JobRunner, monkeypatch: pytest.MonkeyPatch, last: dict[str, Any]
) -> None:
    # The engine would go on after a long wait: it is not waited for.
    monkeypatch.setenv("FAKE_ENGINE", json.dumps({"figures": {"4": last}, "hang_at": 5}))
    ended = jobs.run(stage(inputs))
    assert (ended.code, ended.error.reason) == (ExitCode.TERMINAL, "TrainingDiverged")
    assert "diverged at step 4" in ended.error.message
    assert "checkpoints/checkpoint-4/node-0" not in jobs.work().trees("checkpoints")
    assert find_manifest(jobs.store, f"{jobs.uri}/train-sft") is None


@pytest.mark.bad_input
@pytest.mark.case("nan-loss")
def test_a_loss_lost_in_the_last_step(inputs: TrainingInputs, jobs: JobRunner, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FAKE_ENGINE", json.dumps({"figures": {"5": {"loss": math.nan}}}))
    ended = jobs.run(stage(inputs))
    assert (ended.code, ended.error.reason) == (ExitCode.TERMINAL, "TrainingDiverged")


@pytest.mark.bad_input
def test_no_trajectory_was_kept(inputs: TrainingInputs, jobs: JobRunner) -> None:
    none_kept = inputs.trajectories([trajectory(train_tasks()[0], kept=False)])
    job = stage(inputs).model_copy(update={"trajectories": none_kept})
    ended = jobs.run(job)
    assert (ended.code, ended.error.reason) == (ExitCode.TERMINAL, "NothingToTrainOn")


def without_a_shard(folder: Path) -> None:
    (folder / "model.safetensors").rename(folder / "model-00001-of-00002.safetensors")
    placed = {"w": "model-00001-of-00002.safetensors", "v": "model-00002-of-00002.safetensors"}
    (folder / "model.safetensors.index.json").write_text(json.dumps({"weight_map": placed}))


@pytest.mark.bad_input
@pytest.mark.parametrize(
    ("change", "said"),
    [
        pytest.param(without_a_shard, "has no model-00002-of-00002", marks=pytest.mark.case("missing-shard")),
        pytest.param(
            lambda folder: (folder / "tokenizer_config.json").write_text("{}"),
            "has no chat template",
            marks=pytest.mark.case("no-chat-template"),
        ),
        pytest.param(
            lambda folder: (folder / "chat_template.jinja").write_text("\n{% if true %}"),
            "chat_template.jinja, line 2",
            marks=pytest.mark.case("chat-templates"),
        ),
    ],
)
def test_a_model_that_cannot_be_used_ends_the_run_before_the_engine_starts(
    inputs: TrainingInputs,
    jobs: JobRunner,
    capfd: pytest.CaptureFixture[str],
    change: Callable[[Path], object],
    said: str,
) -> None:
    source = inputs.model(change)
    ended = jobs.run(stage(inputs).model_copy(update={"model": source}))
    assert (ended.code, ended.error.reason) == (ExitCode.TERMINAL, "InvalidModel")
    assert said in ended.error.message
    assert source.artifact is not None
    assert source.artifact.uri in ended.error.message
    assert "no credentials" not in capfd.readouterr().err, "the engine was started"


@pytest.mark.bad_input
def test_a_model_that_is_no_checkpoint(inputs: TrainingInputs, jobs: JobRunner) -> None:
    dataset = inputs.dataset(train_tasks())
    ended = jobs.run(stage(inputs).model_copy(update={"model": ModelSource(artifact=dataset), "dataset": dataset}))
    assert (ended.code, ended.error.reason) == (ExitCode.TERMINAL, "InvalidModel")
    assert "dataset artifact" in ended.error.message


def test_engines_never_see_the_stores_credentials(
    inputs: TrainingInputs, jobs: JobRunner, capfd: pytest.CaptureFixture[str]
) -> None:
    jobs.run(stage(inputs))
    assert "no credentials" in capfd.readouterr().err
