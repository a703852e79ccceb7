"""ms-swift plug-in (`--external_plugins`): the reward of the paper and the student's tool loop.

It stands in a folder of its own, because ms-swift puts a plug-in's folder first on the module path.
"""

import os
from pathlib import Path
from typing import Any

from swift.rewards import ORM, orms
from swift.rollout.multi_turn import MultiTurnScheduler, multi_turns

from star_contracts.data import Item
from star_contracts.settings import MAX_TOOL_CALLS
from star_jobs.grpo.swift.arguments import REWARDS, SCHEDULER
from star_jobs.grpo.swift.settings import from_environment
from star_jobs.lookup import SignalStore
from star_jobs.storage.records import read_jsonl
from star_jobs.trajectory.format import recommended
from star_jobs.trajectory.reward import format_reward, outcome_reward
from star_jobs.trajectory.tools import CALLS_USED_UP, TOOL_STOP, ToolBox, open_call, render_response

_SETTINGS = from_environment(os.environ)


class FormatReward(ORM):  # type: ignore[misc] # ms-swift is not typed
    """The first part of equation 2, for each completion."""

    def __call__(self, completions: list[str], **_columns: Any) -> list[float]:
        """Judge the form alone."""
        return [format_reward(text, _SETTINGS.rewards, _SETTINGS.variant) for text in completions]


class OutcomeReward(ORM):  # type: ignore[misc] # ms-swift is not typed
    """The second part of equation 2, for each completion; the ground truth is the rows' column `truth`."""

    def __call__(self, completions: list[str], truth: list[str], **_columns: Any) -> list[float]:
        """Judge the place of the ground truth alone."""
        return [
            outcome_reward(recommended(text), item, _SETTINGS.rewards)
            for text, item in zip(completions, truth, strict=True)
        ]


class StudentScheduler(MultiTurnScheduler):  # type: ignore[misc] # ms-swift is not typed
    """Answers tool calls inside one generation; the answers are not trained on."""

    def __init__(self, *arguments: Any, **options: Any) -> None:
        super().__init__(*arguments, **options)
        self._toolbox: ToolBox | None = None
        if _SETTINGS.signals is not None:
            items = {item.item_id: item for item in read_jsonl(Path(_SETTINGS.items), Item)}
            self._toolbox = ToolBox(SignalStore.open(Path(_SETTINGS.signals)), items)

    def check_finished(self, infer_request: Any, response_choice: Any, current_turn: int) -> bool:
        """Tell whether the generation ended anywhere but at a tool call."""
        return self._call(response_choice) is None or super().check_finished(
            infer_request, response_choice, current_turn
        )

    def step(self, infer_request: Any, response_choice: Any, current_turn: int) -> dict[str, Any]:
        """Append the tool's answer, as tokens with loss mask 0, so that the generation goes on after it."""
        response = self._respond(self._call(response_choice) or "", infer_request, current_turn)
        answer = self.tokenizer.encode(response, add_special_tokens=False)
        written = self._written(response_choice)
        _, _, log_probs = self.prepare_response_continuation(response_choice)
        return {
            "infer_request": infer_request,  # ms-swift puts the tokens below into its last message
            "response_token_ids": written + answer,
            "response_loss_mask": [1] * len(written) + [0] * len(answer),
            "rollout_logprobs": log_probs[: len(written)],
        }

    def _respond(self, body: str, infer_request: Any, calls: int) -> str:
        if self._toolbox is None or calls > MAX_TOOL_CALLS:
            return render_response(CALLS_USED_UP)
        return self._toolbox.respond(body, int(infer_request.data_dict["tool_chars"]))

    def _call(self, response_choice: Any) -> str | None:
        """Return the tool call that the newest piece of the generation ends with, or None."""
        text = str(self.tokenizer.decode(self._written(response_choice), skip_special_tokens=False)).rstrip()
        return open_call(text) if text.endswith(TOOL_STOP) else None

    def _written(self, response_choice: Any) -> list[int]:
        """Return the newest piece's tokens without what ends or pads it.

        A row of a batch that stopped at a call is padded, with the end-of-sequence token, while others go on.
        """
        token_ids = list(response_choice.token_ids or [])
        while token_ids and token_ids[-1] in (self.tokenizer.eos_token_id, self.tokenizer.pad_token_id):
            token_ids.pop()
        return token_ids


orms.update(dict(zip(REWARDS, (FormatReward, OutcomeReward), strict=True)))
multi_turns[SCHEDULER] = StudentScheduler
