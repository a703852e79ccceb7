"""What every ms-swift run shares: how it is started, its checkpoints on disk, and its log.

Written for ms-swift 4.6 (https://swift.readthedocs.io, "Command Line Parameters"); the CPU flags are those that a run
without a GPU needs: no flash attention, no gradient checkpointing.
"""

import json
import re
import sys
import zipfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from star_contracts.settings import Precision, Sharding
from star_jobs.models.folder import ModelFolder
from star_jobs.models.weights import is_whole_safetensors
from star_jobs.training.cluster import Node
from star_jobs.training.figures import finite
from star_jobs.training.process import Command, cpu_threads, engine_environment
from star_jobs.training.staging import LocalCheckpoint, folders

ENGINE = "ms-swift"
LOG_FILE = "logging.jsonl"
CHECKPOINTS = "checkpoint-*"
_STATE = "trainer_state.json"
_VITAL = ("loss", "grad_norm", "kl", "reward", "train_loss")
"""Figures without which a training is lost. The trainer logs a loss that is NaN as 0 or as the one before it
(transformers, TrainingArguments: logging_nan_inf_filter); its gradient's norm says so all the same."""
_STEP_OF = re.compile(r"([0-9]{1,18})/([0-9]{1,18})")
_MODEL_TYPES = {"llama": "llama", "qwen2": "qwen2", "qwen3": "qwen3"}
_DEEPSPEED = {Sharding.ZERO2: "zero2", Sharding.ZERO3: "zero3"}


@dataclass(frozen=True)
class SwiftStep:
    """One line of an ms-swift log."""

    step: int
    total: int
    values: Mapping[str, float]
    """Every finite figure of the line, e.g. `loss`, `grad_norm`, `learning_rate`, `reward`."""


def model_arguments(model: ModelFolder, precision: Precision, devices: int, sharding: Sharding) -> list[str]:
    """Return the arguments that say which model is trained on what device in which number format.

    DeepSpeed's optimizers keep master weights in float32 by themselves; without them the loaded weights are the master
    weights, and the computation alone is in `precision` (autocast): bfloat16 would round small updates away.
    """
    arguments = ["--model", str(model.path), "--tuner_type", "full", "--check_model", "false"]
    if model.model_type in _MODEL_TYPES:
        arguments += ["--model_type", _MODEL_TYPES[model.model_type]]
    if model.chatml:
        arguments += ["--template", "chatml"]
    on_gpu = devices > 0
    bf16 = precision is Precision.BF16
    weights = precision if sharding in _DEEPSPEED else Precision.FP32
    arguments += ["--torch_dtype", weights.value, "--bf16", _flag(bf16), "--fp16", "false", "--attn_impl", "sdpa"]
    arguments += ["--use_cpu", _flag(not on_gpu), "--gradient_checkpointing", _flag(on_gpu)]
    if sharding in _DEEPSPEED:
        arguments += ["--deepspeed", _DEEPSPEED[sharding]]
    return arguments


def run_arguments(output: Path, save_steps: int, seed: int, resume: Path | None) -> list[str]:
    """Return the arguments about output, logging, checkpoints and seeds."""
    arguments = ["--output_dir", str(output), "--add_version", "false", "--report_to", "none"]
    arguments += ["--logging_steps", "1", "--logging_first_step", "true", "--eval_strategy", "no"]
    arguments += ["--save_strategy", "steps", "--save_steps", str(save_steps), "--save_total_limit", "2"]
    arguments += ["--seed", str(seed), "--data_seed", str(seed)]
    arguments += ["--dataset_num_proc", "1", "--dataloader_num_workers", "0", "--split_dataset_ratio", "0"]
    if resume is not None:
        arguments += ["--resume_from_checkpoint", str(resume)]
    return arguments


def command(verb: str, arguments: Sequence[str], cwd: Path, env: Mapping[str, str]) -> Command:
    """Return the command `swift <verb> <arguments>`, with the interpreter that runs this job."""
    argv = (sys.executable, "-m", "swift.cli.main", verb, *arguments)
    return Command(argv=argv, env=env, cwd=cwd)


def environment(base: Mapping[str, str], node: Node, devices: int, offline: bool) -> dict[str, str]:
    """Return the engine's environment: offline where the model is on disk, torchrun's variables on GPUs.

    ms-swift starts torchrun by itself when NPROC_PER_NODE or NNODES is set.
    """
    extra = {"PYTHONUNBUFFERED": "1", "TOKENIZERS_PARALLELISM": "false"}
    if offline:
        extra |= {"HF_HUB_OFFLINE": "1", "MODELSCOPE_OFFLINE": "1", "HF_DATASETS_OFFLINE": "1"}
    if devices == 0:
        extra |= {"CUDA_VISIBLE_DEVICES": "", **cpu_threads(base)}
    elif devices > 1 or node.nodes > 1:
        extra |= {
            "NPROC_PER_NODE": str(devices),
            "NNODES": str(node.nodes),
            "NODE_RANK": str(node.rank),
            "MASTER_ADDR": node.master,
            "MASTER_PORT": str(node.port),
        }
    return engine_environment(base, extra)


def accumulation(global_batch: int, micro_batch: int, devices: int, nodes: int) -> int:
    """Return how many micro batches make one optimizer step: global / (micro x devices x nodes), at least 1."""
    return max(1, global_batch // (micro_batch * max(1, devices) * nodes))


def parse_step(line: Mapping[str, Any]) -> SwiftStep | None:
    """Read one object of `logging.jsonl`; None for lines that are not about a step. Raises Diverged."""
    found = _STEP_OF.fullmatch(str(line.get("global_step/max_steps", "")))
    if found is None:
        return None
    step, total = int(found[1]), int(found[2])
    return SwiftStep(step=step, total=total, values=finite(ENGINE, step, line, _VITAL))


class SwiftLayout:
    """`checkpoint-<step>/` folders of the Hugging Face trainer (`staging.Layout`)."""

    def __init__(self, devices: int = 0) -> None:
        self._processes = max(1, devices)

    def find(self, folder: Path) -> list[LocalCheckpoint]:
        """Return the checkpoint folders, oldest first."""
        return folders(folder, CHECKPOINTS)

    def is_saved(self, checkpoint: LocalCheckpoint) -> bool:
        """Tell whether a checkpoint is whole: its state, which the trainer writes last, and all it depends on."""
        state = _state(checkpoint.path)
        if state is None or state.get("global_step") != checkpoint.step:
            return False
        weights = list(checkpoint.path.glob("*.safetensors"))
        archives = [
            *checkpoint.path.glob("*.pt"),
            *checkpoint.path.glob("*.pth"),
            *checkpoint.path.rglob("global_step*/*.pt"),
        ]
        random_states = list(checkpoint.path.glob("rng_state*.pth"))
        return (
            bool(weights)
            and len(random_states) >= self._processes
            and all(is_whole_safetensors(file) for file in weights)
            and all(zipfile.is_zipfile(file) for file in archives)
        )

    def is_last(self, checkpoint: LocalCheckpoint) -> bool:
        """Tell whether training ends with this checkpoint."""
        state = _state(checkpoint.path)
        total = state.get("max_steps") if state is not None else None
        return isinstance(total, int) and 0 < total <= checkpoint.step

    def restored(self, folder: Path, checkpoint: LocalCheckpoint) -> None:
        """Nothing to do: the checkpoint's path is an argument of the engine."""


def _state(checkpoint: Path) -> dict[str, Any] | None:
    try:
        state = json.loads((checkpoint / _STATE).read_bytes())
    except (OSError, ValueError, RecursionError):
        return None
    return state if isinstance(state, dict) else None


def _flag(value: bool) -> str:
    return "true" if value else "false"
