"""The student's rollout in verl: one generation, interrupted only to append tool answers, as when it is served.

verl runs `StudentLoop` once for each rollout. What the student generates is trained on (mask 1); the tool answers,
looked up in the very store that serving uses, are not (mask 0).
"""

import functools
import time
from pathlib import Path
from typing import Any
from uuid import uuid4

from verl.experimental.agent_loop.agent_loop import AgentLoopBase, AgentLoopOutput

from star_contracts.data import Item
from star_jobs.lookup import SignalStore
from star_jobs.storage.records import read_jsonl
from star_jobs.trajectory.format import RECOMMEND_STOP
from star_jobs.trajectory.tools import CALLS_USED_UP, TOOL_STOP, ToolBox, open_call, render_response


@functools.cache
def open_toolbox(signals: str, items: str) -> ToolBox:
    """Open the look-up store once in a process: verl makes a new agent loop for every rollout."""
    catalogue = {item.item_id: item for item in read_jsonl(Path(items), Item)}
    return ToolBox(SignalStore.open(Path(signals)), catalogue)


class StudentLoop(AgentLoopBase):  # type: ignore[misc] # verl is not typed
    """Answers one task (verl, "Agent Loop")."""

    def __init__(self, *arguments: Any, signals: str | None, items: str, max_tool_calls: int, **options: Any) -> None:
        super().__init__(*arguments, **options)
        self._toolbox = open_toolbox(signals, items) if signals else None
        self._max_tool_calls = max_tool_calls
        self._budget = int(self.rollout_config.response_length)

    async def run(self, sampling_params: dict[str, Any], **row: Any) -> AgentLoopOutput:
        """Generate the whole answer for one row: its prompt is `raw_prompt`, its tool limits are in `extra_info`."""
        prompt_ids = await self.ct_build_initial_tokens(list(row["raw_prompt"]))
        answer = _Answer(prompt_ids)
        session = uuid4().hex
        calls = 0
        stop = [TOOL_STOP, RECOMMEND_STOP] if self._toolbox else [RECOMMEND_STOP]
        while (left := self._budget - len(answer.ids)) > 0:
            started = time.monotonic()
            output = await self.server_manager.generate(
                request_id=session,
                prompt_ids=answer.all_ids,
                sampling_params={
                    **sampling_params,
                    "max_tokens": left,
                    "stop": stop,
                    "include_stop_str_in_output": True,
                },
            )
            answer.add_generated(output, time.monotonic() - started)
            body = self._open_call(answer)
            if body is None:
                break
            response = self._respond(body, calls, row)
            answer.add_response(self.tokenizer.encode(response, add_special_tokens=False))
            calls += 1
        return answer.output(self._budget, turns=2 + calls)

    def _open_call(self, answer: "_Answer") -> str | None:
        """Return the tool call the generation stopped at, or None when it is over."""
        if self._toolbox is None:
            return None
        # The token that closes a call may carry white space with it.
        text = str(self.tokenizer.decode(answer.ids, skip_special_tokens=False)).rstrip()
        return open_call(text) if text.endswith(TOOL_STOP) else None

    def _respond(self, body: str, calls: int, row: dict[str, Any]) -> str:
        if self._toolbox is None or calls >= self._max_tool_calls:
            return render_response(CALLS_USED_UP)
        return self._toolbox.respond(body, int(row["extra_info"]["tool_chars"]))


class _Answer:
    """An answer as it grows, token by token."""

    def __init__(self, prompt_ids: list[int]) -> None:
        self._prompt_ids = prompt_ids
        self.ids: list[int] = []
        self._mask: list[int] = []
        self._log_probs: list[float] | None = []
        self._extra: dict[str, Any] = {}
        self._seconds = 0.0

    @property
    def all_ids(self) -> list[int]:
        """Return prompt and answer."""
        return self._prompt_ids + self.ids

    def add_generated(self, output: Any, seconds: float) -> None:
        """Append what the student wrote."""
        self.ids += output.token_ids
        self._mask += [1] * len(output.token_ids)
        if output.log_probs is None:
            self._log_probs = None
        elif self._log_probs is not None:
            self._log_probs += output.log_probs
        self._extra |= output.extra_fields
        self._seconds += seconds

    def add_response(self, token_ids: list[int]) -> None:
        """Append what a tool answered."""
        self.ids += token_ids
        self._mask += [0] * len(token_ids)
        if self._log_probs is not None:
            self._log_probs += [0.0] * len(token_ids)

    def output(self, budget: int, turns: int) -> AgentLoopOutput:
        """Return the rollout, cut to the response's budget."""
        log_probs = None if self._log_probs is None else self._log_probs[:budget]
        return AgentLoopOutput(
            prompt_ids=self._prompt_ids,
            response_ids=self.ids[:budget],
            response_mask=self._mask[:budget],
            response_logprobs=log_probs,
            num_turns=turns,
            metrics={"generate_sequences": self._seconds},
            # Every agent loop of verl fills these two, so that batches have the same fields.
            extra_fields={**self._extra, "turn_scores": [], "tool_rewards": []},
        )
