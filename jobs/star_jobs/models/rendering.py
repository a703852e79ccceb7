"""Renders one chat template, as a program of its own: standard input is a request, standard output its answer.

    {"template": "...", "variables": {...}}  ->  {"text": "..."}  or  {"problem": "...", "line": 3}

A template is a program that came with somebody's model. In a sandbox it can neither import nor write anything, but it
can loop for ever and fill the memory, so it runs in a process with limits of its own. What templates may use is what
transformers offers them (`transformers.utils.chat_template_utils`).
"""

import json
import resource
import sys
from datetime import datetime
from typing import Any

from jinja2 import Environment, TemplateError, TemplateSyntaxError, nodes
from jinja2.ext import Extension, loopcontrols
from jinja2.parser import Parser
from jinja2.sandbox import ImmutableSandboxedEnvironment

CPU_SECONDS = 5
MEMORY_BYTES = 1 << 30
TEXT_CHARS = 1 << 20
"""A prompt of a few messages is never longer."""
_PLACE = "<template>"
"""The file name under which jinja2 compiles a template from text."""


class Generation(Extension):
    """`{% generation %}` marks what an assistant writes, for training masks; it renders what is in it."""

    tags = {"generation"}

    def parse(self, parser: Parser) -> nodes.Node:
        """Read one block: a scope of its own, as a call block's is."""
        line = next(parser.stream).lineno
        return nodes.Scope(parser.parse_statements(("name:endgeneration",), drop_needle=True), lineno=line)


def environment() -> Environment:
    """Return the environment of chat templates."""
    extensions: list[type[Extension]] = [Generation, loopcontrols]
    made = ImmutableSandboxedEnvironment(trim_blocks=True, lstrip_blocks=True, extensions=extensions)
    made.filters["tojson"] = _to_json
    made.globals["raise_exception"] = _raise
    made.globals["strftime_now"] = lambda form: datetime.now().strftime(form)
    return made


def answer(request: dict[str, Any]) -> dict[str, Any]:
    """Render; return the text, or what the template did wrong and in which of its lines."""
    text = ""
    try:
        for piece in environment().from_string(request["template"]).generate(**request["variables"]):
            text += piece
            if len(text) > TEXT_CHARS:
                return {"problem": f"it renders more than {TEXT_CHARS} characters", "line": None}
    except MemoryError:
        return {"problem": f"it needs more than {MEMORY_BYTES >> 20} MiB of memory", "line": None}
    except Exception as error:  # whatever it was, the template did it
        what = str(error) if isinstance(error, TemplateError) else f"{type(error).__name__}: {error}"
        return {"problem": " ".join(what.split())[:300], "line": _line(error)}
    return {"text": text}


def _line(error: Exception) -> int | None:
    """Return the line of the template in which it happened."""
    if isinstance(error, TemplateSyntaxError):
        return error.lineno
    trace, line = error.__traceback__, None
    while trace is not None:
        if trace.tb_frame.f_code.co_filename == _PLACE:
            line = trace.tb_lineno
        trace = trace.tb_next
    return line


def _to_json(
    value: Any,
    ensure_ascii: bool = False,
    indent: int | None = None,
    separators: tuple[str, str] | None = None,
    sort_keys: bool = False,
) -> str:
    """Return JSON as models saw it in training: not escaped for HTML, as jinja2's own filter does."""
    return json.dumps(value, ensure_ascii=ensure_ascii, indent=indent, separators=separators, sort_keys=sort_keys)


def _raise(message: object) -> None:
    raise TemplateError(str(message))


def main() -> int:
    """Answer one request within the limits."""
    for what, limit in ((resource.RLIMIT_CPU, CPU_SECONDS), (resource.RLIMIT_AS, MEMORY_BYTES)):
        _, most = resource.getrlimit(what)
        allowed = limit if most == resource.RLIM_INFINITY else min(limit, most)
        resource.setrlimit(what, (allowed, allowed))
    json.dump(answer(json.load(sys.stdin)), sys.stdout)
    return 0


if __name__ == "__main__":
    sys.exit(main())
