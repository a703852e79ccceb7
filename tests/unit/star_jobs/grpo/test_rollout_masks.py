"""Rollouts of both engines: tool calls are answered from the store, and the answers are never trained on (paper 3.4.3).

verl and ms-swift are not installed where these tests run: what our plug-ins take from them is stood in for.
"""

import asyncio
import importlib
import sys
from dataclasses import dataclass, field
from itertools import compress
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest

from star_contracts.data import SignalKind
from star_contracts.settings import Rewards, Variant
from star_jobs.grpo.swift.settings import to_environment
from star_jobs.lookup import SignalStore
from star_jobs.trajectory.tools import ToolBox, ToolCall, render_response
from tests.support import world

CALL = '<plan><JSON>["user_profile"]</JSON></plan>\n<user_profile><tool_call>User-CF("u1")</tool_call>'
REST = '<JSON>["drama"]</JSON></user_profile>\n<reflection><JSON>{"correct":"yes"}</JSON></reflection>'
CHARS = 120


class Letters:
    """A tokenizer: one token a character."""

    eos_token_id = pad_token_id = 0

    def encode(self, text: str, add_special_tokens: bool = False) -> list[int]:
        return [ord(letter) for letter in text]

    def decode(self, tokens: list[int], skip_special_tokens: bool = False) -> str:
        return "".join(map(chr, tokens))


def written(text: str) -> list[int]:
    return Letters().encode(text)


@dataclass
class Output:
    """verl's AgentLoopOutput, as far as it is filled in."""

    response_ids: list[int]
    response_mask: list[int]
    response_logprobs: list[float] | None
    rest: dict[str, Any] = field(default_factory=dict)

    def __init__(self, response_ids: list[int], response_mask: list[int], response_logprobs: Any, **rest: Any) -> None:
        self.response_ids, self.response_mask, self.response_logprobs = response_ids, response_mask, response_logprobs
        self.rest = rest


class LoopBase:
    """verl's AgentLoopBase: a student that writes CALL, and after any further text REST."""

    def __init__(self, *arguments: Any, **options: Any) -> None:
        self.rollout_config = SimpleNamespace(response_length=4000)
        self.tokenizer = Letters()
        self.server_manager = self
        self.prompts: list[str] = []

    async def ct_build_initial_tokens(self, messages: list[dict[str, str]]) -> list[int]:
        return written(messages[0]["content"])

    async def generate(self, request_id: str, prompt_ids: list[int], sampling_params: dict[str, Any]) -> Any:
        self.prompts.append(self.tokenizer.decode(prompt_ids))
        text = CALL if len(self.prompts) == 1 else REST
        return SimpleNamespace(token_ids=written(text), log_probs=[-1.0] * len(text), extra_fields={})


class SchedulerBase:
    """ms-swift's MultiTurnScheduler."""

    def __init__(self, *arguments: Any, **options: Any) -> None:
        self.tokenizer = Letters()

    def check_finished(self, *arguments: Any) -> bool:
        return False

    def prepare_response_continuation(self, choice: Any) -> tuple[Any, Any, list[float]]:
        return None, None, [-1.0] * len(choice.token_ids)


@dataclass(frozen=True)
class Library:
    """Files of the store and the catalogue, and what serving would answer."""

    signals: Path
    items: Path

    def expected(self) -> str:
        """The text that the gateway and the evaluator append after the call."""
        catalogue = {item.item_id: item for item in world.ITEMS}
        toolbox = ToolBox(SignalStore.open(self.signals), catalogue)
        return render_response(toolbox.answer(ToolCall(SignalKind.USER_CF, "u1"), CHARS))


@pytest.fixture
def library(tmp_path: Path) -> Library:
    folder = world.write_dataset(tmp_path / "dataset", [])
    return Library(world.write_signals(tmp_path / "signals"), folder / "items.jsonl")


def stand_in(monkeypatch: pytest.MonkeyPatch, name: str, **contents: Any) -> None:
    """Have `import name` find these names, and its parents be packages."""
    parts = name.split(".")
    for end in range(1, len(parts) + 1):
        module = ModuleType(".".join(parts[:end]))
        module.__path__ = []
        monkeypatch.setitem(sys.modules, module.__name__, module)
    for key, value in contents.items():
        setattr(sys.modules[name], key, value)


def fresh(monkeypatch: pytest.MonkeyPatch, name: str) -> Any:
    """Import a module anew, for this test alone."""
    monkeypatch.delitem(sys.modules, name, raising=False)
    module = importlib.import_module(name)
    monkeypatch.delitem(sys.modules, name)
    return module


def test_verl_trains_on_what_the_student_wrote_and_not_on_the_tools_answer(
    monkeypatch: pytest.MonkeyPatch, library: Library
) -> None:
    stand_in(monkeypatch, "verl.experimental.agent_loop.agent_loop", AgentLoopBase=LoopBase, AgentLoopOutput=Output)
    module = fresh(monkeypatch, "star_jobs.grpo.verl.agent_loop")
    loop = module.StudentLoop(signals=str(library.signals), items=str(library.items), max_tool_calls=8)
    row = {"raw_prompt": [{"content": "Rank."}], "extra_info": {"tool_chars": CHARS}}
    made = asyncio.run(loop.run({"temperature": 0.7}, **row))
    text = Letters().decode(made.response_ids)
    assert text == CALL + library.expected() + REST
    assert loop.prompts == ["Rank.", "Rank." + CALL + library.expected()], "the same generation goes on"
    masked = [not learnt for learnt in made.response_mask]
    assert "".join(compress(text, masked)) == library.expected()
    assert "".join(compress(text, made.response_mask)) == CALL + REST
    assert made.response_logprobs is not None
    assert len(made.response_logprobs) == len(made.response_ids)


def test_ms_swift_does_too(monkeypatch: pytest.MonkeyPatch, library: Library) -> None:
    orms: dict[str, Any] = {}
    stand_in(monkeypatch, "swift.rewards", ORM=object, orms=orms)
    stand_in(monkeypatch, "swift.rollout.multi_turn", MultiTurnScheduler=SchedulerBase, multi_turns={})
    for name, value in to_environment(Rewards(), Variant.FULL, library.items, library.signals).items():
        monkeypatch.setenv(name, value)
    module = fresh(monkeypatch, "star_jobs.grpo.swift.plugin.star_student")
    scheduler = module.StudentScheduler()
    choice = SimpleNamespace(token_ids=[*written(CALL), 0, 0])
    request = SimpleNamespace(data_dict={"tool_chars": CHARS})
    assert not scheduler.check_finished(request, choice, 1)
    step = scheduler.step(request, choice, 1)
    text = Letters().decode(step["response_token_ids"])
    assert text == CALL + library.expected()
    assert "".join(compress(text, step["response_loss_mask"])) == CALL
    assert len(orms) == 2
