"""One prompt, the same tokens everywhere."""

import json
from pathlib import Path

import pytest
from jinja2 import TemplateError

from star_jobs.errors import TerminalFailure
from star_jobs.llm.messages import ChatMessage
from star_jobs.models import chat_template
from star_jobs.models.chat_template import CHATML, answer_prefix, chatml, read_template, render
from star_jobs.trajectory.student import CHAT_TEMPLATE_ARGUMENTS

CHAT: list[ChatMessage] = [
    {"role": "system", "content": "Rank."},
    {"role": "user", "content": "a\nb {{ not a template }}"},
    {"role": "assistant", "content": "c"},
    {"role": "user", "content": "d"},
]
QWEN3 = (
    "{%- for message in messages %}{{- '<|im_start|>' + message.role + '\\n' + message.content + '<|im_end|>\\n' }}"
    "{%- endfor %}{%- if add_generation_prompt %}{{- '<|im_start|>assistant\\n' }}"
    "{%- if enable_thinking is defined and enable_thinking is false %}{{- '<think>\\n\\n</think>\\n\\n' }}{%- endif %}"
    "{%- endif %}"
)


def test_our_template_is_what_the_trainers_render() -> None:
    assert render(CHATML, CHAT) == chatml(CHAT)


def test_other_roles_are_refused() -> None:
    with pytest.raises(TemplateError, match="not tool"):
        render(CHATML, [{"role": "tool", "content": "x"}])  # type: ignore[typeddict-item]


def test_training_and_serving_ask_the_template_alike() -> None:
    assert chat_template.ARGUMENTS == CHAT_TEMPLATE_ARGUMENTS


def test_what_stands_before_an_answer(tmp_path: Path) -> None:
    assert answer_prefix(tmp_path) == ""  # no template of its own
    (tmp_path / "tokenizer_config.json").write_text(json.dumps({"chat_template": CHATML}))
    assert answer_prefix(tmp_path) == ""
    (tmp_path / "chat_template.jinja").write_text(QWEN3)
    assert read_template(tmp_path) == QWEN3
    assert answer_prefix(tmp_path) == "<think>\n\n</think>\n\n"


@pytest.mark.bad_input
def test_a_template_that_adds_a_system_message(tmp_path: Path) -> None:
    (tmp_path / "chat_template.jinja").write_text("{{ '<|im_start|>system\\nYou are a cat<|im_end|>\\n' }}" + CHATML)
    with pytest.raises(TerminalFailure, match="does not render ChatML"):
        answer_prefix(tmp_path)
