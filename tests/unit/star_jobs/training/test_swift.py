"""What every ms-swift run shares."""

import json
import zipfile
from pathlib import Path

import pytest

from star_contracts.settings import Precision, Sharding
from star_jobs.models.folder import ModelFolder
from star_jobs.training import swift
from star_jobs.training.cluster import Node
from star_jobs.training.staging import LocalCheckpoint
from tests.support.training import write_safetensors

MODEL = ModelFolder(Path("/m"), "llama", "LlamaForCausalLM", chatml=True)


def pairs(arguments: list[str]) -> dict[str, str]:
    return dict(zip(arguments[::2], arguments[1::2], strict=True))


def test_on_a_cpu() -> None:
    found = pairs(swift.model_arguments(MODEL, Precision.FP32, 0, Sharding.NONE))
    assert found["--use_cpu"] == "true"
    assert found["--torch_dtype"] == "float32"
    assert found["--bf16"] == "false"
    assert found["--attn_impl"] == "sdpa"
    assert found["--template"] == "chatml"
    assert found["--model_type"] == "llama"
    assert "--deepspeed" not in found


def test_without_deepspeed_the_weights_stay_in_float32() -> None:
    for devices in (0, 1):
        found = pairs(swift.model_arguments(MODEL, Precision.BF16, devices, Sharding.NONE))
        assert (found["--torch_dtype"], found["--bf16"]) == ("float32", "true")


def test_on_gpus() -> None:
    other = ModelFolder(Path("/m"), "gemma", "GemmaForCausalLM", chatml=False)
    found = pairs(swift.model_arguments(other, Precision.BF16, 8, Sharding.ZERO3))
    assert (found["--use_cpu"], found["--bf16"], found["--deepspeed"]) == ("false", "true", "zero3")
    assert found["--torch_dtype"] == "bfloat16"
    assert "--template" not in found
    assert "--model_type" not in found


def test_environment_of_one_pod_and_of_a_group() -> None:
    alone = Node(0, 1, "127.0.0.1")
    base = {"AWS_SECRET_ACCESS_KEY": "s"}
    cpu = swift.environment(base, alone, 0, offline=True)
    assert "AWS_SECRET_ACCESS_KEY" not in cpu
    assert cpu["CUDA_VISIBLE_DEVICES"] == ""
    assert cpu["HF_HUB_OFFLINE"] == "1"
    assert "NPROC_PER_NODE" not in swift.environment({}, alone, 1, offline=False)
    group = swift.environment({}, Node(1, 2, "j-0.j", 29500), 8, offline=True)
    assert {k: group[k] for k in ("NPROC_PER_NODE", "NNODES", "NODE_RANK", "MASTER_ADDR", "MASTER_PORT")} == {
        "NPROC_PER_NODE": "8",
        "NNODES": "2",
        "NODE_RANK": "1",
        "MASTER_ADDR": "j-0.j",
        "MASTER_PORT": "29500",
    }


@pytest.mark.parametrize(
    ("global_batch", "micro", "devices", "nodes", "steps"),
    [(64, 2, 8, 1, 4), (64, 2, 8, 2, 2), (4, 4, 0, 1, 1), (2, 4, 0, 1, 1)],
)
def test_accumulation(global_batch: int, micro: int, devices: int, nodes: int, steps: int) -> None:
    assert swift.accumulation(global_batch, micro, devices, nodes) == steps


def test_log_lines() -> None:
    step = swift.parse_step({"loss": "1.196", "epoch": 0.5, "global_step/max_steps": "4/8", "elapsed_time": "1m 0s"})
    assert step is not None
    assert (step.step, step.total, dict(step.values)) == (4, 8, {"loss": 1.196, "epoch": 0.5})
    assert swift.parse_step({"last_model_checkpoint": "x", "global_step": 8}) is None


def checkpoint(folder: Path, step: int = 4, total: int = 8) -> LocalCheckpoint:
    path = folder / f"checkpoint-{step}"
    path.mkdir()
    write_safetensors(path / "model.safetensors", {"w": (3, 5)})
    for name in ("optimizer.pt", "scheduler.pt", "rng_state.pth"):
        with zipfile.ZipFile(path / name, "w") as archive:
            archive.writestr("data", bytes(100))
    (path / "trainer_state.json").write_text(json.dumps({"global_step": step, "max_steps": total}))
    return LocalCheckpoint(step, path)


def cut(file: Path) -> None:
    file.write_bytes(file.read_bytes()[:-3])


def test_a_whole_checkpoint(tmp_path: Path) -> None:
    layout = swift.SwiftLayout()
    made = checkpoint(tmp_path)
    assert layout.find(tmp_path) == [made]
    assert layout.is_saved(made)
    assert not layout.is_last(made)
    assert layout.is_last(checkpoint(tmp_path, 8))


@pytest.mark.parametrize("file", ["model.safetensors", "optimizer.pt", "rng_state.pth", "trainer_state.json"])
def test_a_checkpoint_that_is_cut_short_or_lacks_a_part(tmp_path: Path, file: str) -> None:
    layout = swift.SwiftLayout()
    made = checkpoint(tmp_path)
    cut(made.path / file)
    assert not layout.is_saved(made)
    (made.path / file).unlink()
    assert layout.is_saved(made) is (file == "optimizer.pt")  # weights alone are a choice of the run


def test_every_process_of_the_node_has_left_its_random_state(tmp_path: Path) -> None:
    made = checkpoint(tmp_path)
    assert not swift.SwiftLayout(devices=2).is_saved(made)
    (made.path / "rng_state.pth").rename(made.path / "rng_state_0.pth")
    (made.path / "rng_state_1.pth").write_bytes((made.path / "rng_state_0.pth").read_bytes())
    assert swift.SwiftLayout(devices=2).is_saved(made)
