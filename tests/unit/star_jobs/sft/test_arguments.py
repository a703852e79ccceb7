"""From an SFT stage to ms-swift's arguments."""

from pathlib import Path
from typing import Any

from star_contracts.artifact import ArtifactRef
from star_contracts.job import ModelSource, TrainSFT
from star_contracts.settings import Precision, SFTHyperparameters, Sharding, Variant
from star_jobs.models.folder import ModelFolder
from star_jobs.sft.arguments import arguments, planned_steps

MODEL = ModelFolder(Path("/models/q"), "qwen3", "Qwen3ForCausalLM", chatml=True)
REF = ArtifactRef(uri="s3://star/a", digest="sha256:" + "0" * 64)


def stage(devices: int = 0, nodes: int = 1, **values: Any) -> TrainSFT:
    return TrainSFT(
        model=ModelSource(artifact=REF),
        trajectories=REF,
        dataset=REF,
        variant=Variant.FULL,
        hyperparameters=SFTHyperparameters(**values),
        nodes=nodes,
        devices_per_node=devices,
    )


def pairs(found: list[str]) -> dict[str, str]:
    return dict(zip(found[::2], found[1::2], strict=True))


def test_the_papers_table_4() -> None:
    found = pairs(arguments(stage(devices=8, precision=Precision.BF16), MODEL, Path("/d.jsonl"), Path("/o"), None))
    assert {
        "--bf16": "true",
        "--num_train_epochs": "2",
        "--per_device_train_batch_size": "2",
        "--gradient_accumulation_steps": "4",
        "--learning_rate": "1e-05",
        "--lr_scheduler_type": "linear",
        "--warmup_ratio": "0.05",
        "--max_length": "16384",
        "--deepspeed": "zero2",
        "--tuner_type": "full",
    }.items() <= found.items()
    assert "--max_steps" not in found
    assert "--resume_from_checkpoint" not in found


def test_a_small_machine_that_resumes() -> None:
    small = stage(
        max_steps=6, global_batch_size=4, micro_batch_size=2, precision=Precision.FP32, sharding=Sharding.NONE
    )
    found = pairs(arguments(small, MODEL, Path("/d.jsonl"), Path("/o"), Path("/o/checkpoint-4")))
    assert found["--use_cpu"] == "true"
    assert found["--gradient_accumulation_steps"] == "2"
    assert found["--max_steps"] == "6"
    assert found["--resume_from_checkpoint"] == "/o/checkpoint-4"
    assert found["--add_version"] == "false"


def test_steps_planned_before_the_engine_tells() -> None:
    assert planned_steps(stage(global_batch_size=64), 130) == 6
    assert planned_steps(stage(global_batch_size=64, epochs=0.1), 10) == 1
    assert planned_steps(stage(max_steps=7), 1) == 7
