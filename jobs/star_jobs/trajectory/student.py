"""One answer of the student: a single generation, interrupted only to append tool answers (paper 3.4, figure 3).

The student writes `<tool_call>…</tool_call>`, where generation stops; the signal is looked up, appended as
`<tool_response>…</tool_response>`, and the same generation goes on. The server's prefix cache makes that cheap.
"""

import time
from collections.abc import Mapping
from dataclasses import dataclass, field

from star_contracts.data import Item, ToolExchange, Usage
from star_contracts.settings import MAX_TOOL_CALLS, Sampling, Variant
from star_jobs.llm.client import LLMClient
from star_jobs.llm.messages import ChatMessage
from star_jobs.llm.usage import add_usage
from star_jobs.trajectory.format import RECOMMEND_STOP, FormatError, parse, recommended
from star_jobs.trajectory.phases import student_variant
from star_jobs.trajectory.prompt import CHAT_TEMPLATE_ARGUMENTS, ShownTask, student_messages, style_of
from star_jobs.trajectory.reward import is_permutation
from star_jobs.trajectory.tools import (
    CALLS_USED_UP,
    MALFORMED,
    TOOL_STOP,
    ToolBox,
    ToolCallError,
    open_call,
    parse_tool_call,
    render_response,
)


@dataclass(frozen=True)
class StudentAnswer:
    """What the student answered, unrepaired."""

    text: str
    """The whole answer, tool responses included."""
    ranking: tuple[str, ...]
    """The ids of the recommendation as written; empty when there is none that can be read."""
    valid: bool
    """True when the ranking lists every candidate once and nothing else."""
    format_error: str | None
    """Why the text is not a well-formed answer; None when it is."""
    tool_calls: tuple[ToolExchange, ...]
    """The well-formed calls, with their answers."""
    usage: Usage
    seconds: float
    waited: float
    """Of these, in which its calls waited for other calls of the client."""


async def answer(
    client: LLMClient,
    task: ShownTask,
    items: Mapping[str, Item],
    toolbox: ToolBox | None,
    sampling: Sampling,
    max_tool_calls: int = MAX_TOOL_CALLS,
    variant: Variant = Variant.FULL,
) -> StudentAnswer:
    """Let the student answer a task.

    Without a toolbox it is prompted as a student without tools, and stops at none. `sampling.max_tokens` bounds the
    tokens generated in the whole answer. `variant` says which phases the answer is expected to have. Raises what the
    client raises; a poor answer is not an error.
    """
    expected = student_variant(variant, tools=toolbox is not None)
    started = time.monotonic()
    generation = _Generation(client, student_messages(task, items, expected), sampling)
    chars = style_of(len(task.candidates)).tool_chars
    while (body := await generation.proceed(toolbox is not None)) is not None and toolbox is not None:
        generation.append_answer(body, toolbox if generation.answered < max_tool_calls else None, chars)
    ranking = recommended(generation.text)
    return StudentAnswer(
        text=generation.text,
        ranking=ranking,
        valid=is_permutation(ranking, task.candidates),
        format_error=format_error(generation.text, expected),
        tool_calls=tuple(generation.exchanges),
        usage=generation.usage,
        seconds=time.monotonic() - started,
        waited=generation.waited,
    )


def format_error(text: str, variant: Variant) -> str | None:
    """Return why a text is not a well-formed answer, or None."""
    try:
        parse(text, variant)
    except FormatError as error:
        return str(error)
    return None


@dataclass
class _Generation:
    """An answer as it grows."""

    client: LLMClient
    prompt: list[ChatMessage]
    sampling: Sampling
    text: str = ""
    answered: int = 0
    exchanges: list[ToolExchange] = field(default_factory=list)
    usage: Usage = field(default_factory=Usage)
    waited: float = 0.0

    async def proceed(self, tools: bool) -> str | None:
        """Generate up to the next tool call; return its body, or None at the end of the answer."""
        left = self.sampling.max_tokens - self.usage.completion_tokens
        if left <= 0:
            return None
        messages = self.prompt + ([{"role": "assistant", "content": self.text}] if self.text else [])
        reply = await self.client.chat(
            messages,
            sampling=self.sampling.model_copy(update={"max_tokens": left}),
            stop=(TOOL_STOP, RECOMMEND_STOP) if tools else (RECOMMEND_STOP,),
            continue_final=bool(self.text),
            template_arguments=CHAT_TEMPLATE_ARGUMENTS,
        )
        self.usage = add_usage(self.usage, reply.usage)
        self.waited += reply.waited
        self.text += reply.text
        return self._close() if reply.finish_reason == "stop" else None

    def _close(self) -> str | None:
        """Write the stop string, which servers leave out, behind what it closes; return an open call's body."""
        call, ranking = self.text.rfind("<tool_call>"), self.text.rfind("<recommend>")
        body = open_call(self.text) if call > ranking else None
        if body is not None:
            self.text = self.text.removesuffix(TOOL_STOP) + TOOL_STOP
        elif ranking >= 0 and RECOMMEND_STOP not in self.text[ranking:]:
            self.text += RECOMMEND_STOP
        return body

    def append_answer(self, body: str, toolbox: ToolBox | None, max_chars: int) -> None:
        """Append the answer to a call; without a toolbox the calls are used up."""
        self.answered += 1
        if toolbox is None:
            self.text += render_response(CALLS_USED_UP)
            return
        try:
            call = parse_tool_call(body)
        except ToolCallError:
            self.text += render_response(MALFORMED)
            return
        response = toolbox.answer(call, max_chars)
        self.exchanges.append(ToolExchange(tool=call.tool, argument=call.argument, response=response))
        self.text += render_response(response)
