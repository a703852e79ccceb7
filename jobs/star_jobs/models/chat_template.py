"""Chat templates: the one of the models we make, and what a model's own one puts before its answers.

Training, rollouts and serving must render a prompt to the same tokens. The template of our own models is written
down here, as those that come with small models add a system message of their own.
"""

import json
from collections.abc import Sequence
from pathlib import Path

from star_contracts.errors import Reason
from star_jobs.errors import TerminalFailure
from star_jobs.llm.messages import ChatMessage

CHATML = (
    "{%- for message in messages %}"
    "{%- if message['role'] not in ['system', 'user', 'assistant'] %}"
    "{{- raise_exception('the roles are system, user and assistant, not ' + message['role']) }}"
    "{%- endif %}"
    "{{- '<|im_start|>' + message['role'] + '\\n' + message['content'] + '<|im_end|>\\n' }}"
    "{%- endfor %}"
    "{%- if add_generation_prompt %}"
    "{{- '<|im_start|>assistant\\n' }}"
    "{%- endif %}"
)
"""ChatML with the roles system, user and assistant: a Jinja template as `tokenizer.chat_template` takes it."""

END_OF_TURN = "<|im_end|>"
"""Ends a message, and so a generation: the tokenizer's end-of-sequence token."""

ARGUMENTS: dict[str, object] = {"enable_thinking": False}
"""Hybrid models (Qwen3) answer without a thinking block of their own; templates without the switch ignore it. Must be
what the student is asked with when it is served (`star_jobs.trajectory.student`)."""

_PROBE: tuple[ChatMessage, ...] = ({"role": "system", "content": "S"}, {"role": "user", "content": "U"})


def chatml(messages: Sequence[ChatMessage]) -> str:
    """Render messages and the opening of the assistant's turn, as `CHATML` does with `add_generation_prompt`."""
    turns = "".join(f"<|im_start|>{m['role']}\n{m['content']}{END_OF_TURN}\n" for m in messages)
    return turns + "<|im_start|>assistant\n"


def answer_prefix(folder: Path) -> str:
    """Return what a ChatML model's own template puts between the assistant's opening and its answer.

    Empty for most; Qwen3 without thinking opens with an empty thinking block, which training has to show as well.
    Raises TerminalFailure(InvalidModel) when the template renders prompts in another form than ChatML.
    """
    template = read_template(folder)
    if template is None:
        return ""
    rendered = render(template, _PROBE)
    opening = chatml(_PROBE)
    if not rendered.startswith(opening):
        raise TerminalFailure(
            Reason.INVALID_MODEL,
            f"the chat template of the model in {folder.name} does not render ChatML "
            f"({rendered[:80]!r}): set a ChatML template in its tokenizer",
        )
    return rendered[len(opening) :]


def read_template(folder: Path) -> str | None:
    """Return a model folder's chat template, from its own file or its tokenizer's configuration."""
    file = folder / "chat_template.jinja"
    if file.is_file():
        return file.read_text()
    try:
        template = json.loads((folder / "tokenizer_config.json").read_bytes()).get("chat_template")
    except (OSError, ValueError):
        return None
    return template if isinstance(template, str) else None


def render(template: str, messages: Sequence[ChatMessage]) -> str:
    """Render a chat template with the opening of the assistant's turn, in a sandbox, as transformers does."""
    from jinja2 import TemplateError
    from jinja2.ext import Extension, loopcontrols
    from jinja2.sandbox import ImmutableSandboxedEnvironment

    extensions: list[type[Extension]] = [loopcontrols]
    environment = ImmutableSandboxedEnvironment(trim_blocks=True, lstrip_blocks=True, extensions=extensions)

    def raise_exception(message: str) -> None:
        raise TemplateError(message)

    environment.globals["raise_exception"] = raise_exception
    return environment.from_string(template).render(messages=list(messages), add_generation_prompt=True, **ARGUMENTS)
