"""From a GRPO stage to ms-swift's arguments. Pure.

ms-swift counts optimizer updates where verl counts batches of rollouts: one of our steps is `batch / mini_batch` of its
own (ms-swift documentation, "GRPO": steps_per_generation).
"""

from dataclasses import dataclass
from pathlib import Path

from star_contracts.job import TrainGRPO
from star_contracts.settings import Sharding
from star_jobs.grpo.rows import divisor_at_most
from star_jobs.models.folder import ModelFolder
from star_jobs.training import swift
from star_jobs.trajectory.tools import TOOL_STOP

REWARDS = ("star_format", "star_outcome")
"""Names under which the plug-in registers the two parts of the reward."""
SCHEDULER = "star_student"
"""Name under which the plug-in registers the tool loop."""


@dataclass(frozen=True)
class Plan:
    """What follows from the data rather than from the stage."""

    model: ModelFolder
    answer_prefix: str
    prompts: Path
    """JSON Lines file of the rows."""
    plugin: Path
    output: Path
    batch: int
    """Instances a step."""
    mini_batch: int
    """Instances an update."""
    steps: int
    max_tool_calls: int
    """0 for a student without tools."""
    resume: Path | None = None

    @property
    def updates_per_step(self) -> int:
        """How many of ms-swift's steps are one of ours."""
        return self.batch // self.mini_batch


def arguments(stage: TrainGRPO, plan: Plan) -> list[str]:
    """Return the arguments of `swift rlhf` (paper Table 5)."""
    h = stage.hyperparameters
    devices = max(1, stage.devices_per_node)
    sharding = Sharding.ZERO2 if devices * stage.nodes > 1 else Sharding.NONE
    found = ["--rlhf_type", "grpo", *swift.model_arguments(plan.model, h.precision, stage.devices_per_node, sharding)]
    found += ["--dataset", str(plan.prompts), "--load_from_cache_file", "false"]
    found += ["--max_length", str(h.max_prompt_length + h.max_response_length)]
    found += ["--max_completion_length", str(h.max_response_length)]
    found += ["--learning_rate", repr(h.learning_rate), "--lr_scheduler_type", "constant", "--warmup_ratio", "0"]
    found += ["--beta", repr(h.kl_coefficient), "--temperature", repr(h.temperature), "--top_p", "1.0"]
    found += ["--max_steps", str(plan.steps * plan.updates_per_step), "--log_completions", "true"]
    found += _batches(stage, plan, devices * stage.nodes)
    found += _rollouts(stage, plan)
    return found + swift.run_arguments(plan.output, h.save_steps * plan.updates_per_step, h.seed, plan.resume)


def micro_batch(stage: TrainGRPO, plan: Plan, devices: int) -> int:
    """Return sequences a device works on at once: a divisor of its share of an update, at most what was asked for."""
    share = max(1, plan.mini_batch * stage.hyperparameters.group_size // devices)
    return divisor_at_most(share, stage.hyperparameters.micro_batch_size)


def _batches(stage: TrainGRPO, plan: Plan, devices: int) -> list[str]:
    micro = micro_batch(stage, plan, devices)
    group = stage.hyperparameters.group_size
    accumulate = max(1, plan.mini_batch * group // (micro * devices))
    found = ["--num_generations", str(group), "--per_device_train_batch_size", str(micro)]
    found += ["--gradient_accumulation_steps", str(accumulate)]
    return [*found, "--steps_per_generation", str(accumulate * plan.updates_per_step)]


def _rollouts(stage: TrainGRPO, plan: Plan) -> list[str]:
    h = stage.hyperparameters
    found = ["--external_plugins", str(plan.plugin), "--reward_funcs", *REWARDS]
    if plan.answer_prefix:
        found += ["--response_prefix", plan.answer_prefix]
    if plan.max_tool_calls:
        found += ["--multi_turn_scheduler", SCHEDULER, "--max_turns", str(plan.max_tool_calls + 1)]
        found += ["--stop_words", TOOL_STOP]
    if stage.devices_per_node == 0:
        return [*found, "--use_vllm", "false"]
    found += ["--use_vllm", "true", "--vllm_mode", "colocate"]
    found += ["--vllm_tensor_parallel_size", str(h.tensor_parallel_size)]
    return [*found, "--vllm_max_model_len", str(h.max_prompt_length + h.max_response_length)]
