"""verl's files: checkpoints, metrics, our reward, and the environment it is started in."""

import json
from pathlib import Path

import pytest

from star_contracts.settings import MAX_TOOL_CALLS, Rewards, Variant
from star_jobs.grpo.context import Prepared
from star_jobs.grpo.rows import PromptSet
from star_jobs.grpo.verl.layout import LATEST, VerlLayout, parse_step
from star_jobs.grpo.verl.reward import compute_score
from star_jobs.grpo.verl.run import environment, write_agent_loop
from star_jobs.models.folder import ModelFolder
from star_jobs.training.cluster import Node
from star_jobs.training.staging import LocalCheckpoint
from tests.unit.star_jobs.grpo.stages import stage

ANSWER = (
    '<plan><JSON>["user_profile"]</JSON></plan>'
    '<user_profile><tool_call>User-CF("u1")</tool_call><tool_response>films</tool_response>'
    '<JSON>["x"]</JSON></user_profile><reflection><JSON>{"correct":"yes"}</JSON></reflection>'
    '<recommend><JSON>["i2","i1","i3"]</JSON></recommend>'
)


def prepared(devices: int = 0, signals: Path | None = None) -> Prepared:
    return Prepared(
        stage=stage(devices=devices),
        node=Node(0, 1, "127.0.0.1"),
        model=ModelFolder(Path("/m"), "llama", "LlamaForCausalLM", chatml=True),
        answer_prefix="",
        prompts=PromptSet(),
        variant=Variant.FULL,
        items=Path("/d/items.jsonl"),
        signals=signals,
        batch=4,
        mini_batch=4,
        steps=2,
        epochs=1,
    )


def test_a_checkpoint_counts_once_verl_says_so(tmp_path: Path) -> None:
    layout = VerlLayout(steps=10)
    path = tmp_path / "global_step_4"
    path.mkdir()
    (found,) = layout.find(tmp_path)
    assert found == LocalCheckpoint(4, path)
    assert not layout.is_saved(found)
    (tmp_path / LATEST).write_text("2")
    assert not layout.is_saved(found)
    layout.restored(tmp_path, found)
    assert (tmp_path / LATEST).read_text() == "4"
    assert layout.is_saved(found)


def test_the_last_checkpoint_is_staged_only_across_nodes(tmp_path: Path) -> None:
    last = LocalCheckpoint(10, tmp_path)
    assert VerlLayout(steps=10).is_last(last)
    assert not VerlLayout(steps=11).is_last(last)
    assert not VerlLayout(steps=10, nodes=2).is_last(last)


def test_metrics() -> None:
    data = {"critic/rewards/mean": 0.5, "actor/pg_loss": 1, "num_turns/mean": None, "perf/mfu": 0.3}
    step = parse_step({"step": 3, "data": data})
    assert step is not None
    assert (step.step, dict(step.values)) == (3, {"reward": 0.5, "loss": 1.0})
    assert parse_step({"config": {}}) is None


@pytest.mark.parametrize(
    ("truth", "outcome", "hit"), [("i2", 1.0, 1.0), ("i1", 2 / 3, 0.0), ("i3", 2 / 3, 0.0), ("i9", 0.0, 0.0)]
)
def test_reward(truth: str, outcome: float, hit: float) -> None:
    rewards = Rewards().model_dump()
    scored = compute_score("Full", ANSWER, truth, {"task_id": "t"}, **rewards)
    assert scored == {"score": 1.0 + outcome, "format": 1.0, "outcome": outcome, "hit": hit}


def test_a_student_without_tools_must_not_call_them() -> None:
    assert compute_score("WithoutTools", ANSWER, "i2", None, **Rewards().model_dump())["format"] == -1.0


def test_environment_on_a_cpu_and_on_gpus(tmp_path: Path) -> None:
    base = {"MASTER_ADDR": "x", "AWS_ACCESS_KEY_ID": "k", "CUDA_VISIBLE_DEVICES": "0", "PATH": "/bin"}
    cpu = environment(prepared(), base, tmp_path / "m.jsonl")
    assert cpu["VERL_USE_EXTERNAL_MODULES"] == "star_jobs.grpo.verl.cpu_platform"
    assert cpu["VERL_FILE_LOGGER_PATH"] == str(tmp_path / "m.jsonl")
    assert not {"MASTER_ADDR", "AWS_ACCESS_KEY_ID", "CUDA_VISIBLE_DEVICES"} & set(cpu)
    gpu = environment(prepared(devices=8), base, tmp_path / "m.jsonl")
    assert gpu["CUDA_VISIBLE_DEVICES"] == "0"
    assert "VERL_PLATFORM" not in gpu


def test_agent_loop_registration(tmp_path: Path) -> None:
    path = write_agent_loop(prepared(signals=Path("/s")), tmp_path / "agent_loop.yaml")
    (loop,) = json.loads(path.read_text())
    assert loop == {
        "name": "star_student",
        "_target_": "star_jobs.grpo.verl.agent_loop.StudentLoop",
        "signals": "/s",
        "items": "/d/items.jsonl",
        "max_tool_calls": MAX_TOOL_CALLS,
    }
