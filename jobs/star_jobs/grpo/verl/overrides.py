"""From a GRPO stage to verl's overrides (hydra). Pure.

Written for verl 0.9 (https://verl.readthedocs.io, "Config Explanation"). Lists what differs from verl's defaults alone.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from star_contracts.job import TrainGRPO
from star_contracts.settings import Precision, Rewards
from star_jobs.grpo.rows import divisor_at_most

CPU_ROLLOUT = "star_hf"
"""Name of our Hugging Face rollout (`cpu_rollout`)."""
AGENT = "star_student"
"""Name of our agent loop (`agent_loop`)."""
RESUMABLE = ("model", "optimizer", "extra", "hf_model")
"""What a checkpoint holds: the state to resume from, and the model in Hugging Face layout."""
CPU_SLOTS = 32
"""Logical CPUs told to Ray on a small machine: its actors mostly wait, and with the real number they wait for ever."""

Value = str | int | float | bool | Sequence[str] | None


@dataclass(frozen=True)
class Plan:
    """What follows from the data and the machine rather than from the stage."""

    model: Path
    prompts: Path
    """Parquet file of the rows."""
    agent_loop: Path
    """YAML file that registers our agent loop."""
    reward: Path
    """Python file with `compute_score`."""
    checkpoints: Path
    batch: int
    """Instances a step."""
    mini_batch: int
    """Instances an update."""
    steps: int
    epochs: int
    template_arguments: Mapping[str, object]
    """What the chat template is rendered with."""
    ray_address: str | None = None
    """Address of a Ray cluster that is there; None starts one in this pod."""


def overrides(stage: TrainGRPO, plan: Plan) -> list[str]:
    """Return verl's arguments: paper Table 5, on GPUs with vLLM rollouts, without GPUs on the CPU platform."""
    on_gpu = stage.devices_per_node > 0
    settings: dict[str, Value] = {
        **_algorithm(stage),
        **_data(stage, plan),
        **_model(plan, on_gpu),
        **_actor(stage, plan),
        **_reference(stage),
        **_rollout(stage, plan),
        **_reward(stage.rewards, plan),
        **_trainer(stage, plan),
        **_ray(plan, on_gpu),
    }
    return [f"{name}={render(value)}" for name, value in settings.items()]


def render(value: Value) -> str:
    """Return a value in hydra's grammar (hydra.cc, "The Override Grammar")."""
    if value is None:
        return "null"
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, int | float):
        return repr(value)
    if isinstance(value, str):
        escaped = value.replace("\\", "\\\\").replace("'", "\\'")
        return f"'{escaped}'"
    return "[" + ",".join(render(element) for element in value) + "]"


def micro_batch(stage: TrainGRPO, mini_batch: int) -> int:
    """Return sequences a device works on at once: at most what was asked for, and a divisor of an update's share."""
    devices = max(1, stage.devices_per_node) * stage.nodes
    share = max(1, mini_batch * stage.hyperparameters.group_size // devices)
    return divisor_at_most(share, stage.hyperparameters.micro_batch_size)


def _algorithm(stage: TrainGRPO) -> dict[str, Value]:
    return {
        "algorithm.adv_estimator": "grpo",
        "algorithm.use_kl_in_reward": False,
        "critic.enable": False,
        # Our CPU rollout and a trainer in float32 compute the very same probabilities (one model code), so the
        # rollout's are taken instead of computing them again.
        "algorithm.rollout_correction.bypass_mode": stage.devices_per_node == 0
        and stage.hyperparameters.precision is Precision.FP32,
    }


def _data(stage: TrainGRPO, plan: Plan) -> dict[str, Value]:
    h = stage.hyperparameters
    found: dict[str, Value] = {
        "data.train_files": str(plan.prompts),
        "data.val_files": str(plan.prompts),
        "data.train_batch_size": plan.batch,
        "data.max_prompt_length": h.max_prompt_length,
        "data.max_response_length": h.max_response_length,
        "data.shuffle": True,
        "data.seed": h.seed,
        "data.dataloader_num_workers": 0,
    }
    for name, value in plan.template_arguments.items():
        found[f"+data.apply_chat_template_kwargs.{name}"] = value if isinstance(value, bool) else str(value)
    return found


def _model(plan: Plan, on_gpu: bool) -> dict[str, Value]:
    return {
        "actor_rollout_ref.model.path": str(plan.model),
        "actor_rollout_ref.model.use_remove_padding": False,
        "actor_rollout_ref.model.enable_gradient_checkpointing": on_gpu,
        "+actor_rollout_ref.model.override_config.attn_implementation": "sdpa",
    }


def _actor(stage: TrainGRPO, plan: Plan) -> dict[str, Value]:
    h = stage.hyperparameters
    actor = "actor_rollout_ref.actor"
    return {
        f"{actor}.strategy": "fsdp2",
        f"{actor}.optim.lr": h.learning_rate,
        f"{actor}.ppo_mini_batch_size": plan.mini_batch,
        f"{actor}.ppo_micro_batch_size_per_gpu": micro_batch(stage, plan.mini_batch),
        f"{actor}.use_kl_loss": h.kl_coefficient > 0,
        f"{actor}.kl_loss_coef": h.kl_coefficient,
        f"{actor}.kl_loss_type": "low_var_kl",
        f"{actor}.use_torch_compile": stage.devices_per_node > 0,
        f"{actor}.data_loader_seed": h.seed,
        f"{actor}.checkpoint.save_contents": RESUMABLE,
        **_fsdp(f"{actor}.fsdp_config", h.precision),
    }


def _reference(stage: TrainGRPO) -> dict[str, Value]:
    if stage.hyperparameters.kl_coefficient == 0:
        return {}
    reference = "actor_rollout_ref.ref"
    return {
        f"{reference}.log_prob_micro_batch_size_per_gpu": stage.hyperparameters.micro_batch_size,
        **_fsdp(f"{reference}.fsdp_config", stage.hyperparameters.precision),
    }


def _fsdp(name: str, precision: Precision) -> dict[str, Value]:
    """Keep master weights in float32; compute in the precision asked for."""
    compute = "bf16" if precision is Precision.BF16 else "fp32"
    return {
        f"{name}.model_dtype": "fp32",
        f"+{name}.mixed_precision.param_dtype": compute,
        f"+{name}.mixed_precision.reduce_dtype": "fp32",
        f"+{name}.mixed_precision.buffer_dtype": "fp32",
    }


def _rollout(stage: TrainGRPO, plan: Plan) -> dict[str, Value]:
    h = stage.hyperparameters
    on_gpu = stage.devices_per_node > 0
    rollout = "actor_rollout_ref.rollout"
    found: dict[str, Value] = {
        f"{rollout}.name": "vllm" if on_gpu else CPU_ROLLOUT,
        f"{rollout}.n": h.group_size,
        f"{rollout}.temperature": h.temperature,
        f"{rollout}.top_p": 1.0,
        f"{rollout}.tensor_model_parallel_size": h.tensor_parallel_size if on_gpu else 1,
        f"{rollout}.log_prob_micro_batch_size_per_gpu": h.micro_batch_size,
        f"{rollout}.agent.agent_loop_config_path": str(plan.agent_loop),
        f"{rollout}.agent.default_agent_loop": AGENT,
    }
    if on_gpu:
        return found | {
            # Stop strings need the engine's own tokenizer.
            f"{rollout}.skip_tokenizer_init": False,
            f"{rollout}.dtype": h.precision.value,
            f"{rollout}.gpu_memory_utilization": 0.6,
            f"{rollout}.max_model_len": h.max_prompt_length + h.max_response_length,
            f"{rollout}.max_num_batched_tokens": max(8192, h.max_prompt_length + h.max_response_length),
        }
    return found | {f"{rollout}.agent.num_workers": 1, f"{rollout}.free_cache_engine": False}


def _reward(rewards: Rewards, plan: Plan) -> dict[str, Value]:
    found: dict[str, Value] = {
        "reward.num_workers": 1,
        "reward.custom_reward_function.path": str(plan.reward),
        "reward.custom_reward_function.name": "compute_score",
    }
    for name, value in rewards.model_dump().items():
        found[f"+reward.custom_reward_function.reward_kwargs.{name}"] = value
    return found


def _trainer(stage: TrainGRPO, plan: Plan) -> dict[str, Value]:
    on_gpu = stage.devices_per_node > 0
    return {
        "trainer.nnodes": stage.nodes,
        "trainer.n_gpus_per_node": max(1, stage.devices_per_node),
        "trainer.device": "cuda" if on_gpu else "cpu",
        "trainer.total_epochs": plan.epochs,
        "trainer.total_training_steps": plan.steps,
        "trainer.save_freq": stage.hyperparameters.save_steps,
        "trainer.test_freq": -1,
        "trainer.val_before_train": False,
        "trainer.logger": ("console", "file"),
        "trainer.project_name": "star",
        "trainer.experiment_name": "grpo",
        "trainer.default_local_dir": str(plan.checkpoints),
        "trainer.resume_mode": "auto",
        "trainer.max_actor_ckpt_to_keep": 2,
    }


def _ray(plan: Plan, on_gpu: bool) -> dict[str, Value]:
    if plan.ray_address is not None:
        return {"+ray_kwargs.ray_init.address": plan.ray_address}
    found: dict[str, Value] = {"+ray_kwargs.ray_init.include_dashboard": False}
    if on_gpu:
        return found
    return found | {
        # One logical GPU is the slot verl places its one worker in.
        "+ray_kwargs.ray_init.num_gpus": 1,
        "ray_kwargs.ray_init.num_cpus": CPU_SLOTS,
        "transfer_queue.backend.SimpleStorage.num_data_storage_units": 1,
    }
