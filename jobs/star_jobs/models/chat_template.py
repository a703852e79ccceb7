"""Chat templates: the one of the models we make, and what a model's own one puts before its answers.

Training, rollouts and serving must render a prompt to the same tokens. The template of our own models is written
down here, as those that come with small models add a system message of their own.
"""

import json
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from star_contracts.errors import Reason
from star_jobs.errors import JobFailure, RetryableFailure
from star_jobs.llm.messages import ChatMessage
from star_jobs.models.files import ModelFiles

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

FILE = "chat_template.jinja"
CONFIG = "tokenizer_config.json"
FOLDER = "additional_chat_templates"
_SPECIAL_TOKENS = "special_tokens_map.json"
_TOKENS = ("bos_token", "eos_token", "unk_token", "sep_token", "pad_token", "cls_token", "mask_token")
"""What transformers tells templates of a tokenizer's special tokens."""

PROBE: tuple[ChatMessage, ...] = (
    {"role": "system", "content": "You rank items."},
    {"role": "user", "content": "Which of them?"},
)
"""The shape of every prompt of ours."""
_WAIT_SECONDS = 120.0
"""The renderer ends by itself far earlier, unless the machine is very busy."""
_ENDLESS = "it does not come to an end, or takes all the memory"
_ADVICE = "correct the template, and upload it again"


@dataclass(frozen=True)
class Template:
    """A model's chat template."""

    text: str
    where: str
    """The file it stands in."""
    tokens: Mapping[str, str]
    """The tokenizer's special tokens by name."""


def chatml(messages: Sequence[ChatMessage]) -> str:
    """Render messages and the opening of the assistant's turn, as `CHATML` does with `add_generation_prompt`."""
    turns = "".join(f"<|im_start|>{m['role']}\n{m['content']}{END_OF_TURN}\n" for m in messages)
    return turns + "<|im_start|>assistant\n"


def prompt_of(files: ModelFiles) -> str:
    """Return what a model's template makes of the probe.

    Raises TerminalFailure(InvalidModel): no template, one that cannot be read, or one that does not render.
    """
    template = read_template(files)
    rendered = render(template, PROBE, files)
    if PROBE[-1]["content"] not in rendered:
        raise files.problem(f"has a chat template ({template.where}) that leaves out what the user says", _ADVICE)
    return rendered


def answer_prefix(prompt: str, files: ModelFiles) -> str:
    """Return what a ChatML model's own template puts between the assistant's opening and its answer.

    `prompt` is what it makes of the probe. Empty for most; Qwen3 without thinking opens with an empty thinking block,
    which training has to show as well.
    Raises TerminalFailure(InvalidModel) when the template renders prompts in another form than ChatML.
    """
    opening = chatml(PROBE)
    if not prompt.startswith(opening):
        raise files.problem(
            f"has a chat template that does not render ChatML ({prompt[:80]!r})",
            "set a ChatML template in its tokenizer",
        )
    return prompt[len(opening) :]


def read_template(files: ModelFiles) -> Template:
    """Return a model's chat template from where transformers takes it. Raises TerminalFailure(InvalidModel)."""
    config = files.json(CONFIG) if files.has(CONFIG) else {}
    named = {path.stem: path.name for path in sorted((files.path / FOLDER).glob("*.jinja"))}
    if "default" in named:
        where = f"{FOLDER}/{named['default']}"
        return Template(files.text(where), where, _tokens(files, config))
    if files.has(FILE):
        return Template(files.text(FILE), FILE, _tokens(files, config))
    template = config.get("chat_template")
    if isinstance(template, list):  # as older versions wrote several
        template = {str(t.get("name")): t.get("template") for t in template if isinstance(t, dict)}
    if isinstance(template, dict):
        if "default" not in template:
            raise files.problem(f"has chat templates in {CONFIG} and none is named default", "name the one to use so")
        template = template["default"]
    if template is None:
        raise _no_template(files, named)
    if not isinstance(template, str):
        raise files.problem(f"has a chat_template in {CONFIG} that is not text", _ADVICE)
    return Template(template, CONFIG, _tokens(files, config))


def render(template: Template, messages: Sequence[ChatMessage], files: ModelFiles) -> str:
    """Render a chat template with the opening of the assistant's turn, as vLLM and transformers do.

    Raises TerminalFailure(InvalidModel) that names its line.
    """
    variables = {
        **template.tokens,
        "messages": list(messages),
        "tools": None,
        "documents": None,
        "add_generation_prompt": True,
        **ARGUMENTS,
    }
    found = _ask_renderer({"template": template.text, "variables": variables})
    if "text" not in found:
        line = f", line {found['line']}" if found.get("line") else ""
        raise files.problem(
            f"has a chat template ({template.where}{line}) that does not render: {found['problem']}", _ADVICE
        )
    return str(found["text"])


def _ask_renderer(request: Mapping[str, Any]) -> dict[str, Any]:
    """Run the renderer, which can be stopped whatever a template does.

    Raises RetryableFailure(InternalError) when it fails by itself, which no template can bring about.
    """
    program = Path(__file__).with_name("rendering.py")
    try:
        done = subprocess.run(
            [sys.executable, "-I", str(program)],
            input=json.dumps(request).encode(),
            capture_output=True,
            timeout=_WAIT_SECONDS,
            check=False,
            env={},
        )
    except subprocess.TimeoutExpired:
        return {"problem": _ENDLESS}
    if done.returncode < 0:  # a signal: its limit of processor time, or the machine's of memory
        return {"problem": _ENDLESS}
    if done.returncode > 0:
        last = done.stderr.decode(errors="replace").strip().rpartition("\n")[2][:300]
        raise RetryableFailure(
            Reason.INTERNAL, f"the renderer of chat templates failed: {last}; the images are at fault"
        )
    found: dict[str, Any] = json.loads(done.stdout)
    return found


def _tokens(files: ModelFiles, config: Mapping[str, Any]) -> dict[str, str]:
    """Return the special tokens: as text, or as an added token's object. The tokenizer's own file wins."""
    legacy = files.json(_SPECIAL_TOKENS) if files.has(_SPECIAL_TOKENS) else {}
    given = {name: legacy[name] for name in _TOKENS if legacy.get(name)}
    given |= {name: config[name] for name in _TOKENS if config.get(name)}
    found = {name: value.get("content") if isinstance(value, dict) else value for name, value in given.items()}
    return {name: value for name, value in found.items() if isinstance(value, str)}


def _no_template(files: ModelFiles, named: Mapping[str, str]) -> JobFailure:
    if named:
        return files.problem(f"has chat templates in {FOLDER} and no default.jinja", f"add {FILE}")
    if files.has("chat_template.json"):
        return files.problem(
            "has its chat template in chat_template.json, which engines read for models of images alone",
            f"save it as {FILE}",
        )
    return files.problem(
        f"has no chat template ({FILE}, or chat_template in {CONFIG})",
        "add one, or take the chat (instruct) version of the model: every request is a chat",
    )
