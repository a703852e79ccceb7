"""`starctl` of documented commands: the commands and options are there, and take these values; nothing is run."""

import sys
from typing import Any

import typer

from star_cli.main import app


def parse(command: Any, name: str, words: list[str], parent: Any = None) -> None:
    """Have every command on the way parse its own part."""
    context = command.make_context(name, list(words), parent)
    if hasattr(command, "resolve_command"):
        below, sub, rest = command.resolve_command(context, [*context._protected_args, *context.args])
        parse(sub, below, rest, context)


if __name__ == "__main__":
    try:
        parse(typer.main.get_command(app), "starctl", sys.argv[1:])
    except typer.Exit as asked_for_help:
        sys.exit(asked_for_help.exit_code)
    except Exception as error:
        sys.exit(error.format_message() if hasattr(error, "format_message") else repr(error))
