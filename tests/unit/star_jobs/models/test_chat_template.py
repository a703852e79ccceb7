"""One prompt, the same tokens everywhere; and templates as people's models bring them."""

import contextlib
import json
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from star_contracts.errors import Reason
from star_contracts.result import ErrorClass
from star_jobs.errors import RetryableFailure, TerminalFailure
from star_jobs.llm.messages import ChatMessage
from star_jobs.models import chat_template, rendering
from star_jobs.models.chat_template import CHATML, PROBE, Template, answer_prefix, chatml, prompt_of, read_template
from star_jobs.models.files import ModelFiles
from star_jobs.trajectory.student import CHAT_TEMPLATE_ARGUMENTS

CHAT: list[ChatMessage] = [
    {"role": "system", "content": "Rank."},
    {"role": "user", "content": "a\nb {{ not a template }}"},
    {"role": "assistant", "content": "c"},
    {"role": "user", "content": "d"},
]
TURN = "{{- '<|im_start|>' + message.role + '\\n' + message.content + '<|im_end|>\\n' }}"
OPEN = "{%- if add_generation_prompt %}{{- '<|im_start|>assistant\\n' }}{%- endif %}"
LOOP = "{%- for message in messages %}" + TURN + "{%- endfor %}"
QWEN3 = (
    LOOP + "{%- if add_generation_prompt %}{{- '<|im_start|>assistant\\n' }}"
    "{%- if enable_thinking is defined and enable_thinking is false %}{{- '<think>\\n\\n</think>\\n\\n' }}{%- endif %}"
    "{%- endif %}"
)


@pytest.fixture
def files(tmp_path: Path) -> ModelFiles:
    return ModelFiles(tmp_path, "hf://org/model")


def with_template(files: ModelFiles, template: str) -> ModelFiles:
    (files.path / "chat_template.jinja").write_text(template)
    return files


def test_our_template_is_what_the_trainers_render(files: ModelFiles) -> None:
    assert chat_template.render(Template(CHATML, "ours", {}), CHAT, files) == chatml(CHAT)


def test_other_roles_are_refused(files: ModelFiles) -> None:
    with pytest.raises(TerminalFailure, match=r"line 1\).*not tool"):
        chat_template.render(Template(CHATML, "ours", {}), [{"role": "tool", "content": "x"}], files)  # type: ignore[typeddict-item]


def test_training_and_serving_ask_the_template_alike() -> None:
    assert chat_template.ARGUMENTS == CHAT_TEMPLATE_ARGUMENTS


def test_what_stands_before_an_answer(files: ModelFiles) -> None:
    (files.path / "tokenizer_config.json").write_text(json.dumps({"chat_template": CHATML}))
    assert answer_prefix(prompt_of(files), files) == ""
    with_template(files, QWEN3)
    assert read_template(files).text == QWEN3
    assert answer_prefix(prompt_of(files), files) == "<think>\n\n</think>\n\n"


@pytest.mark.bad_input
def test_a_template_that_adds_a_system_message(files: ModelFiles) -> None:
    with_template(files, "{{ '<|im_start|>system\\nYou are a cat<|im_end|>\\n' }}" + CHATML)
    with pytest.raises(TerminalFailure, match="does not render ChatML"):
        answer_prefix(prompt_of(files), files)


GENERATION = (
    "{%- for message in messages %}{%- if message.role == 'assistant' %}{% generation %}"
    + TURN
    + "{% endgeneration %}{%- else %}"
    + TURN
    + "{%- endif %}{%- endfor %}"
    + OPEN
)


@pytest.mark.case("chat-templates")
@pytest.mark.parametrize(
    "template",
    [
        GENERATION,
        "{%- set day = strftime_now('%d %B %Y') %}" + LOOP + OPEN,
        "{%- for message in messages %}{%- if loop.index > 9 %}{%- break %}{%- endif %}"
        + TURN
        + "{%- endfor %}"
        + OPEN,
        "{%- if tools %}{{ tools | tojson(indent=2, ensure_ascii=True, separators=(',', ':'), sort_keys=True) }}"
        "{%- endif %}" + LOOP + OPEN,
        "{%- set x = messages | tojson(indent=4) %}" + LOOP + OPEN,
        "{%- if not messages %}{{ raise_exception('no messages') }}{%- endif %}" + LOOP + OPEN,
        "{%- macro turn(message) %}"
        + TURN
        + "{%- endmacro %}{%- for m in messages %}{{ turn(m) }}{%- endfor %}"
        + OPEN,
        "{%- set ns = namespace(first=true) %}{%- if eos_token == '</s>' %}{%- set ns.first = false %}{%- endif %}"
        "{{- bos_token }}" + LOOP + OPEN,
    ],
    ids=["generation", "strftime", "loopcontrols", "tojson", "tojson-indent", "raise", "macro", "tokens"],
)
def test_what_templates_may_use(files: ModelFiles, template: str) -> None:
    (files.path / "tokenizer_config.json").write_text(json.dumps({"eos_token": {"content": "</s>"}, "bos_token": ""}))
    assert prompt_of(with_template(files, template)) == chatml(PROBE)


def test_special_tokens_are_what_transformers_tells(files: ModelFiles) -> None:
    (files.path / "special_tokens_map.json").write_text(json.dumps({"bos_token": "<old>", "eos_token": "</s>"}))
    config = {"bos_token": {"content": "<s>", "lstrip": False}, "pad_token": None, "unk_token": 7}
    (files.path / "tokenizer_config.json").write_text(json.dumps(config))
    with_template(files, "{{ bos_token + eos_token }}" + LOOP)
    assert read_template(files).tokens == {"bos_token": "<s>", "eos_token": "</s>"}
    assert prompt_of(files).startswith("<s></s><|im_start|>")


NAMED = [{"name": "tool_use", "template": "{{ raise_exception('tools') }}"}, {"name": "default", "template": CHATML}]


@pytest.mark.parametrize("named", [NAMED, {entry["name"]: entry["template"] for entry in NAMED}])
def test_several_templates_in_the_tokenizers_configuration(files: ModelFiles, named: object) -> None:
    (files.path / "tokenizer_config.json").write_text(json.dumps({"chat_template": named}))
    assert prompt_of(files) == chatml(PROBE)


def test_several_templates_as_files(files: ModelFiles) -> None:
    folder = files.path / "additional_chat_templates"
    folder.mkdir()
    (folder / "tool_use.jinja").write_text("{{ raise_exception('tools') }}")
    with pytest.raises(TerminalFailure, match=r"no default\.jinja"):
        prompt_of(files)
    with_template(files, CHATML)
    assert prompt_of(files) == chatml(PROBE)
    (folder / "default.jinja").write_text(QWEN3)
    assert read_template(files).where == "additional_chat_templates/default.jinja"


ENDLESS = "{% for a in range(100000) %}{% for b in range(100000) %}{% endfor %}{% endfor %}"


@pytest.mark.bad_input
@pytest.mark.case("chat-templates")
@pytest.mark.parametrize(
    ("template", "said"),
    [
        ("{%- for message in messages %}\n" + TURN + "\n{%- if true %}", r"line 3\).*Unexpected end of template"),
        ("\n\n{% nonsense %}", r"line 3\).*nonsense"),
        ("{{ 'a'\n", "line "),
        ("\n{{ messages[0].content.x.y }}", r"line 2\).*no attribute"),
        ("\n\n{{ raise_exception('System role not supported') }}", r"line 3\).*System role not supported"),
        ("{{ strftime_now(3) }}", "line 1.*TypeError"),
        ("{{ 1 / 0 }}", "line 1.*ZeroDivisionError"),
        ("{{ ''.__class__.__mro__ }}" + LOOP + OPEN, "unsafe"),
        ("{{ messages.append(1) }}", "unsafe"),
        ("{% include 'other' %}", "line 1"),
        ("{% macro f() %}{{ f() }}{% endmacro %}{{ f() }}", "RecursionError"),
        ("{% if 1 %}" * 400 + "{% endif %}" * 400, "does not render"),
        ("{{ 'x' * 2000000 }}", "more than 1048576 characters"),
        ("{{ 'x' * 100000000000 }}", "memory"),
        ("{{ '%999999999999d' % 1 }}", "does not render"),
        (ENDLESS, "does not come to an end"),
        ("{{ messages | length }}", "leaves out what the user says"),
        ("{# nothing #}", "leaves out what the user says"),
    ],
)
def test_a_template_that_does_not_render_is_an_invalid_model(files: ModelFiles, template: str, said: str) -> None:
    with pytest.raises(
        TerminalFailure, match=rf"the model hf://org/model has a chat template \(chat_template.jinja.*{said}"
    ) as raised:
        prompt_of(with_template(files, template))
    assert (raised.value.reason, raised.value.error_class) == (Reason.INVALID_MODEL, ErrorClass.TERMINAL)


@pytest.mark.bad_input
@pytest.mark.case("no-chat-template")
@pytest.mark.parametrize(
    ("file", "content", "said"),
    [
        ("tokenizer_config.json", b"{}", r"has no chat template \(chat_template.jinja"),
        ("tokenizer_config.json", b'{"chat_template": null}', "has no chat template"),
        ("tokenizer_config.json", b'{"chat_template": 5}', "not text"),
        ("tokenizer_config.json", b'{"chat_template": []}', "none is named default"),
        ("tokenizer_config.json", b'{"chat_template": [1, {"name": "x"}]}', "none is named default"),
        ("tokenizer_config.json", b'{"chat_template": {"default": []}}', "not text"),
        ("tokenizer_config.json", b"[]", "tokenizer_config.json that is not a JSON object"),
        ("tokenizer_config.json", b"{", "tokenizer_config.json that is not JSON"),
        ("chat_template.json", b"{}", "chat_template.json, which engines read for models of images"),
        ("chat_template.jinja", b"", "empty chat_template.jinja"),
        ("chat_template.jinja", b"caf\xe9", "not UTF-8"),
        ("chat_template.jinja", b"\xef\xbb\xbf" + CHATML.encode(), "byte order mark"),
        ("chat_template.jinja", b"version https://git-lfs.github.com/spec/v1\n", "Git LFS"),
    ],
)
def test_no_template(files: ModelFiles, file: str, content: bytes, said: str) -> None:
    (files.path / file).write_bytes(content)
    with pytest.raises(TerminalFailure, match=said) as raised:
        prompt_of(files)
    assert raised.value.reason is Reason.INVALID_MODEL


def test_a_renderer_that_fails_by_itself_blames_no_model(files: ModelFiles, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(chat_template.sys, "executable", "/bin/false")
    with pytest.raises(RetryableFailure, match="the images are at fault"):
        prompt_of(with_template(files, CHATML))


NAMES = st.sampled_from(["messages", "message", "x", "loop", "bos_token", "add_generation_prompt", "range(3)"])
EXPRESSIONS = st.recursive(
    NAMES | st.sampled_from(["1", "'a'", "[]", "none", "{}", "-1.5", "'\\ud83d'"]),
    lambda inner: st.one_of(
        st.tuples(inner, st.sampled_from(["+", "~", "%", "/", ".", "[0]", "|tojson", "|length", " in ", "=="]), inner),
        st.tuples(st.sampled_from(["not ", "raise_exception(", "strftime_now(", "("]), inner, st.just(")")),
    ).map("".join),
    max_leaves=5,
)
TAGS = st.sampled_from(
    [
        "for x in ",
        "if ",
        "elif ",
        "set x = ",
        "generation ",
        "endgeneration ",
        "endfor ",
        "endif ",
        "break ",
        "macro f(",
    ]
)
TEMPLATES = st.lists(
    st.one_of(
        st.text(max_size=8),
        EXPRESSIONS.map(lambda text: "{{ " + text + " }}"),
        st.tuples(TAGS, EXPRESSIONS | st.just("")).map(lambda tag: "{%- " + "".join(tag) + " %}"),
        st.sampled_from([LOOP, OPEN, "{% endfor %}", "{% endif %}", "{#", "{%", "}}", "\n"]),
    ),
    max_size=8,
).map("".join)
VARIABLES = {"messages": list(PROBE), "tools": None, "add_generation_prompt": True}


@pytest.mark.fuzz
@given(TEMPLATES)
def test_any_template_renders_or_says_what_is_wrong(template: str) -> None:
    found = rendering.answer({"template": template, "variables": VARIABLES})
    assert set(found) in ({"text"}, {"problem", "line"})
    json.loads(json.dumps(found))


@pytest.mark.fuzz
@settings(max_examples=15)
@given(template=TEMPLATES | st.binary(max_size=20).map(lambda data: data.decode("latin-1")))
def test_any_model_with_any_template_is_valid_or_an_invalid_model(
    tmp_path_factory: pytest.TempPathFactory, template: str
) -> None:
    files = ModelFiles(tmp_path_factory.mktemp("m"), "m")
    (files.path / "tokenizer_config.json").write_text(json.dumps({"chat_template": template}))
    with contextlib.suppress(TerminalFailure):
        prompt_of(files)
