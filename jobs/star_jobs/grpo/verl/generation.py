"""Batched generation with transformers: requests of any length at once, each with its own limit and stop strings."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from transformers import LogitsProcessor, StoppingCriteria

STOP_WINDOW = 24
"""Newest tokens that are decoded to look for a stop string; the longest one is far shorter."""


@dataclass(frozen=True)
class Request:
    """One sequence to continue."""

    prompt_ids: tuple[int, ...]
    max_tokens: int
    stop: tuple[str, ...] = ()


@dataclass(frozen=True)
class Style:
    """How to sample; requests of one batch share it."""

    temperature: float = 1.0
    top_p: float = 1.0
    top_k: int = -1
    logprobs: bool = False


@dataclass(frozen=True)
class Completion:
    """What was generated, the end-of-sequence token or stop string included."""

    token_ids: list[int]
    log_probs: list[float] | None


class RowEnds(StoppingCriteria):  # type: ignore[misc] # transformers is not typed here
    """Ends each row at its own limit or stop string, and remembers after how many tokens."""

    def __init__(self, requests: Sequence[Request], tokenizer: Any, width: int) -> None:
        self._requests = requests
        self._tokenizer = tokenizer
        self._width = width
        self.lengths: list[int | None] = [None] * len(requests)

    def __call__(self, input_ids: torch.Tensor, scores: Any, **_options: Any) -> torch.Tensor:
        """Return, for each row of (rows, tokens so far), whether it has ended."""
        generated = input_ids.shape[1] - self._width
        window = input_ids[:, max(self._width, input_ids.shape[1] - STOP_WINDOW) :].tolist()
        for row, request in enumerate(self._requests):
            if self.lengths[row] is None and self._ends(request, generated, window[row]):
                self.lengths[row] = generated
        return torch.tensor([length is not None for length in self.lengths], device=input_ids.device)

    def _ends(self, request: Request, generated: int, window: list[int]) -> bool:
        if generated >= request.max_tokens:
            return True
        if not request.stop:
            return False
        # Only the newest token can complete a stop string: what stood before it was looked at a step ago.
        text = self._tokenizer.decode(window, skip_special_tokens=False)
        before = self._tokenizer.decode(window[:-1], skip_special_tokens=False)
        return any(text.count(stop) > before.count(stop) for stop in request.stop)


class ChosenLogProbs(LogitsProcessor):  # type: ignore[misc] # transformers is not typed here
    """Records each chosen token's log-probability at the sampling temperature, one step late, in constant memory.

    Runs before temperature and top-p are applied, so it sees the model's own logits.
    """

    def __init__(self, temperature: float) -> None:
        self._temperature = temperature or 1.0
        self._previous: torch.Tensor | None = None
        self.columns: list[torch.Tensor] = []

    def __call__(self, input_ids: torch.Tensor, scores: torch.Tensor) -> torch.Tensor:
        """Take the last step's choice from `input_ids`; keep this step's distribution for the next call."""
        self.take(input_ids[:, -1])
        self._previous = torch.log_softmax(scores.float() / self._temperature, dim=-1)
        return scores

    def take(self, chosen: torch.Tensor) -> None:
        """Record the log-probabilities of the chosen tokens (rows,) of the step before."""
        if self._previous is not None:
            self.columns.append(self._previous.gather(1, chosen.unsqueeze(1)).squeeze(1))
            self._previous = None


@torch.no_grad()  # type: ignore[untyped-decorator]
def generate(model: Any, tokenizer: Any, requests: Sequence[Request], style: Style) -> list[Completion]:
    """Continue all requests in one batch, padded on the left; return their completions in order."""
    width = max(len(request.prompt_ids) for request in requests)
    pad = tokenizer.pad_token_id if tokenizer.pad_token_id is not None else tokenizer.eos_token_id
    padding = [width - len(request.prompt_ids) for request in requests]
    ids = torch.tensor([[pad] * p + list(r.prompt_ids) for p, r in zip(padding, requests, strict=True)])
    mask = torch.tensor([[0] * p + [1] * (width - p) for p in padding])
    ends = RowEnds(requests, tokenizer, width)
    recorder = ChosenLogProbs(style.temperature)
    sampling: dict[str, Any] = {"do_sample": False}
    if style.temperature > 0:
        sampling = {
            "do_sample": True,
            "temperature": style.temperature,
            "top_p": style.top_p,
            "top_k": max(0, style.top_k),
        }
    output = model.generate(
        input_ids=ids,
        attention_mask=mask,
        max_new_tokens=max(request.max_tokens for request in requests),
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=pad,
        stopping_criteria=[ends],
        logits_processor=[recorder] if style.logprobs else [],
        **sampling,
    )
    if style.logprobs:
        recorder.take(output[:, -1])
    return [
        _completion(output[row, width:].tolist(), ends.lengths[row], tokenizer.eos_token_id, recorder, row, style)
        for row in range(len(requests))
    ]


def _completion(
    tokens: list[int], length: int | None, eos: int, recorder: ChosenLogProbs, row: int, style: Style
) -> Completion:
    kept = tokens[:length] if length is not None else tokens
    if eos in kept:
        kept = kept[: kept.index(eos) + 1]
    log_probs = [float(column[row]) for column in recorder.columns[: len(kept)]] if style.logprobs else None
    return Completion(kept, log_probs)
