"""From a GRPO stage to verl's overrides."""

from dataclasses import replace
from pathlib import Path

import pytest

from star_contracts.settings import Precision
from star_jobs.grpo.verl.overrides import Plan, Value, micro_batch, overrides, render
from tests.unit.star_jobs.grpo.stages import stage

PLAN = Plan(
    model=Path("/m"),
    prompts=Path("/p.parquet"),
    agent_loop=Path("/a.yaml"),
    reward=Path("/r.py"),
    checkpoints=Path("/c"),
    batch=32,
    mini_batch=4,
    steps=15,
    epochs=1,
    template_arguments={},
)


def settings(found: list[str]) -> dict[str, str]:
    made = dict(entry.split("=", 1) for entry in found)
    assert len(made) == len(found)
    return made


def test_the_papers_table_5_on_two_nodes() -> None:
    found = settings(overrides(stage(devices=8, nodes=2, precision=Precision.BF16), replace(PLAN, ray_address="auto")))
    assert {
        "algorithm.adv_estimator": "'grpo'",
        "actor_rollout_ref.actor.optim.lr": "1e-06",
        "actor_rollout_ref.actor.use_kl_loss": "true",
        "actor_rollout_ref.actor.kl_loss_coef": "0.001",
        "actor_rollout_ref.rollout.name": "'vllm'",
        "actor_rollout_ref.rollout.n": "8",
        "actor_rollout_ref.rollout.temperature": "0.7",
        "actor_rollout_ref.rollout.tensor_model_parallel_size": "2",
        "actor_rollout_ref.actor.ppo_mini_batch_size": "4",
        "data.max_prompt_length": "6000",
        "data.max_response_length": "8192",
        "+actor_rollout_ref.actor.fsdp_config.mixed_precision.param_dtype": "'bf16'",
        "trainer.nnodes": "2",
        "trainer.n_gpus_per_node": "8",
        "+ray_kwargs.ray_init.address": "'auto'",
    }.items() <= found.items()
    assert "ray_kwargs.ray_init.num_cpus" not in found


def test_a_small_machine() -> None:
    small = stage(precision=Precision.FP32, kl_coefficient=0, tensor_parallel_size=1)
    found = settings(overrides(small, PLAN))
    assert found["actor_rollout_ref.rollout.name"] == "'star_hf'"
    assert found["trainer.device"] == "'cpu'"
    assert found["+ray_kwargs.ray_init.num_gpus"] == "1"
    assert found["+actor_rollout_ref.actor.fsdp_config.mixed_precision.param_dtype"] == "'fp32'"
    assert found["actor_rollout_ref.actor.use_kl_loss"] == "false"
    assert not [name for name in found if name.startswith("actor_rollout_ref.ref.")]


def test_rewards_and_the_template_reach_the_engine() -> None:
    plan = replace(PLAN, template_arguments={"enable_thinking": False})
    found = settings(overrides(stage(), plan))
    assert found["+reward.custom_reward_function.reward_kwargs.format_invalid"] == "-1.0"
    assert found["+reward.custom_reward_function.reward_kwargs.top5"] == repr(1 / 3)
    assert found["+data.apply_chat_template_kwargs.enable_thinking"] == "false"


def test_checkpoints_can_be_resumed_from_and_loaded() -> None:
    found = settings(overrides(stage(), PLAN))
    assert found["actor_rollout_ref.actor.checkpoint.save_contents"] == "['model','optimizer','extra','hf_model']"
    assert found["trainer.resume_mode"] == "'auto'"


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (None, "null"),
        (True, "true"),
        (3, "3"),
        (1e-6, "1e-06"),
        ("/a b/it's", "'/a b/it\\'s'"),
        (("console", "file"), "['console','file']"),
    ],
)
def test_hydras_grammar(value: Value, text: str) -> None:
    assert render(value) == text


def test_micro_batches_divide_an_updates_share() -> None:
    assert micro_batch(stage(devices=8, nodes=2, micro_batch_size=4), 4) == 2
    assert micro_batch(stage(micro_batch_size=4, group_size=3), 1) == 3
    assert micro_batch(stage(micro_batch_size=5, group_size=4), 4) == 4
