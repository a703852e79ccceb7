"""The agents' prompts: Jinja templates in `prompts/`, each with a brief form for small token budgets."""

from pathlib import Path

from jinja2 import Environment, FileSystemLoader, StrictUndefined

_FOLDER = Path(__file__).parent / "prompts"

# Prompts are plain text for a model: escaping for HTML would only damage titles.
_environment = Environment(
    loader=FileSystemLoader(_FOLDER),
    undefined=StrictUndefined,
    trim_blocks=True,
    lstrip_blocks=True,
    autoescape=False,  # noqa: S701
    # The files do not change under a running job, and looking would block all of its calls.
    auto_reload=False,
)


def render(name: str, **values: object) -> str:
    """Render the template `name`; a value it needs and does not get is an error."""
    return _environment.get_template(f"{name}.j2").render(**values).strip("\n")
