"""From an SFT stage to ms-swift's arguments. Pure."""

from pathlib import Path

from star_contracts.job import TrainSFT
from star_jobs.models.folder import ModelFolder
from star_jobs.training import swift


def arguments(stage: TrainSFT, model: ModelFolder, dataset: Path, output: Path, resume: Path | None) -> list[str]:
    """Return the arguments of `swift sft` (paper Table 4: linear schedule with 5% warm-up, full parameters)."""
    h = stage.hyperparameters
    accumulate = swift.accumulation(h.global_batch_size, h.micro_batch_size, stage.devices_per_node, stage.nodes)
    found = swift.model_arguments(model, h.precision, stage.devices_per_node, h.sharding)
    found += ["--dataset", str(dataset), "--load_from_cache_file", "false", "--loss_scale", "default"]
    found += ["--max_length", str(h.max_length), "--truncation_strategy", "delete"]
    found += ["--per_device_train_batch_size", str(h.micro_batch_size)]
    found += ["--gradient_accumulation_steps", str(accumulate)]
    found += ["--learning_rate", repr(h.learning_rate), "--lr_scheduler_type", "linear"]
    found += ["--warmup_ratio", repr(h.warmup_ratio), "--num_train_epochs", repr(h.epochs)]
    if h.max_steps is not None:
        found += ["--max_steps", str(h.max_steps)]
    return found + swift.run_arguments(output, h.save_steps, h.seed, resume)


def planned_steps(stage: TrainSFT, sequences: int) -> int:
    """Return how many optimizer steps the run will take, for progress before the engine says so itself."""
    h = stage.hyperparameters
    if h.max_steps is not None:
        return h.max_steps
    return max(1, int(-(-sequences // h.global_batch_size) * h.epochs))
