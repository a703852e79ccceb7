"""From a GRPO stage to ms-swift's arguments."""

import json
from dataclasses import replace
from pathlib import Path

from star_contracts.settings import Precision, Rewards, Variant
from star_jobs.grpo.swift.arguments import Plan, arguments
from star_jobs.grpo.swift.run import PLUGIN, figures
from star_jobs.grpo.swift.settings import from_environment, to_environment
from star_jobs.models.folder import ModelFolder
from tests.unit.star_jobs.grpo.stages import stage

PLAN = Plan(
    model=ModelFolder(Path("/m"), "llama", "LlamaForCausalLM", chatml=True),
    answer_prefix="",
    prompts=Path("/p.jsonl"),
    plugin=PLUGIN,
    output=Path("/o"),
    batch=8,
    mini_batch=4,
    steps=3,
    max_tool_calls=8,
)


def value(found: list[str], name: str) -> str:
    return found[found.index(name) + 1]


def test_one_of_our_steps_is_several_updates() -> None:
    found = arguments(stage(micro_batch_size=4, group_size=4, precision=Precision.FP32, save_steps=5), PLAN)
    assert value(found, "--rlhf_type") == "grpo"
    assert value(found, "--num_generations") == "4"
    assert value(found, "--per_device_train_batch_size") == "4"
    assert value(found, "--gradient_accumulation_steps") == "4"
    assert value(found, "--steps_per_generation") == "8"
    assert value(found, "--max_steps") == "6"
    assert value(found, "--save_steps") == "10"
    assert value(found, "--use_vllm") == "false"


def test_tools_and_rewards_come_from_the_plug_in() -> None:
    found = arguments(stage(), PLAN)
    at = found.index("--reward_funcs")
    assert found[at + 1 : at + 3] == ["star_format", "star_outcome"]
    assert value(found, "--multi_turn_scheduler") == "star_student"
    assert value(found, "--stop_words") == "</tool_call>"
    assert Path(value(found, "--external_plugins")).is_file()
    assert [path.name for path in PLUGIN.parent.glob("*.py")] == [PLUGIN.name]
    assert "--multi_turn_scheduler" not in arguments(stage(), replace(PLAN, max_tool_calls=0))


def test_on_gpus() -> None:
    plan = replace(PLAN, answer_prefix="<think>\n\n</think>\n\n", resume=Path("/o/checkpoint-2"))
    found = arguments(stage(devices=8, group_size=8, tensor_parallel_size=2), plan)
    assert value(found, "--vllm_mode") == "colocate"
    assert value(found, "--vllm_tensor_parallel_size") == "2"
    assert value(found, "--deepspeed") == "zero2"
    assert value(found, "--response_prefix") == "<think>\n\n</think>\n\n"
    assert value(found, "--resume_from_checkpoint") == "/o/checkpoint-2"
    assert value(found, "--beta") == "0.001"


def test_settings_reach_the_plug_in() -> None:
    made = to_environment(Rewards(top1=2), Variant.FULL, Path("/i"), Path("/s"))
    assert json.loads(next(iter(made.values())))["rewards"]["top1"] == 2
    read = from_environment(made)
    assert (read.rewards.top1, read.variant, read.items, read.signals) == (2, Variant.FULL, "/i", "/s")


def test_figures() -> None:
    assert figures({"reward": 0.25, "completions/mean_length": 80.0, "epoch": 1.0}) == {
        "reward": 0.25,
        "responseTokens": 80.0,
    }
