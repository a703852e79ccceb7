"""The commands that documents show people: collected from pages, notes, manifests' comments and help texts."""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

PROGRAMS = frozenset(
    {"make", "starctl", "kubectl", "helm", "curl", "star-job", "star-operator", "sudo", "export", "kustomize", "aws"}
    | {"docker", "podman", "buildah", "skopeo", "kind", "uv", "pip", "python", "python3", "pytest", "git", "go", "apt"}
    | {"apt-get", "wget", "s3cmd", "mc", "openssl", "jq", "argocd", "flux"}
)
"""First words that make a line of an indented block, a comment or a code span a command."""
SHELLS = ("sh", "bash", "shell", "console")
_FENCE = re.compile(r"^\s*```(\w*)")
_SPAN = re.compile(r"`([^`\n]+)`")
_COMMENT = re.compile(r"\s{2,}#\s.*$")


@dataclass(frozen=True)
class Command:
    """One command and where it stands."""

    place: str
    """`file:line`, or the command whose help it is in."""
    text: str

    @property
    def program(self) -> str:
        """The first word."""
        return self.text.split()[0]


def of_markdown(name: str, text: str) -> list[Command]:
    """All commands of a page: fenced shell blocks whole, indented blocks and code spans where a program begins them."""
    fenced, indented = _blocks(text)
    found = [*_commands(name, fenced), *filter(begins_with_a_program, _commands(name, indented))]
    prose = re.sub(r"```.*?```", lambda block: "\n" * block[0].count("\n"), text, flags=re.DOTALL)
    return found + list(_spans(name, prose))


def _blocks(text: str) -> tuple[list[tuple[int, str]], list[tuple[int, str]]]:
    """The numbered lines of a page's fenced shell blocks, and those of its indented blocks; all others empty."""
    fenced, indented = [], []
    in_fence = shell = in_block = False
    blank = True
    for number, line in enumerate(text.splitlines(), 1):
        opened = _FENCE.match(line)
        in_block = not in_fence and line.startswith("    ") and (blank or in_block)
        fenced.append((number, line if in_fence and shell and not opened else ""))
        indented.append((number, line if in_block else ""))
        if opened:
            in_fence, shell = not in_fence, not in_fence and opened[1] in SHELLS
        blank = not line.strip()
    return fenced, indented


def begins_with_a_program(command: Command) -> bool:
    """Say whether it does; diagrams in indented blocks, and words in comments, do not."""
    return command.program in PROGRAMS


def of_notes(name: str, text: str) -> list[Command]:
    """All commands of rendered notes."""
    return [one for one in _commands(name, list(enumerate(text.splitlines(), 1))) if begins_with_a_program(one)]


def of_comments(name: str, text: str) -> list[Command]:
    """All commands in a YAML file's comments."""
    lines = [
        (number, line.strip().lstrip("#") if line.strip().startswith("#") else "")
        for number, line in enumerate(text.splitlines(), 1)
    ]
    found = [one for one in _commands(name, lines) if begins_with_a_program(one)]
    return found + list(_spans(name, "\n".join(line for _, line in lines)))


def of_help(command: Any, name: str) -> Iterator[Command]:
    """All commands in the help texts of a typer command and those below it."""
    texts = [command.help or "", command.epilog or ""]
    texts += [getattr(parameter, "help", None) or "" for parameter in command.params]
    for text in texts:
        yield from _spans(f"{name} --help", text)
    for below, sub in getattr(command, "commands", {}).items():
        yield from of_help(sub, f"{name} {below}")


def yaml_blocks(text: str) -> list[str]:
    """The fenced YAML blocks of a page."""
    return re.findall(r"^```yaml\n(.*?)^```", text, flags=re.DOTALL | re.MULTILINE)


def _commands(name: str, lines: list[tuple[int, str]]) -> Iterator[Command]:
    """Join lines that go on (a backslash, or an open quote), and drop comments behind."""
    text, start = "", 0
    for number, line in lines:
        start = start if text else number
        text += _COMMENT.sub("", line)
        if text.rstrip().endswith("\\"):
            text = text.rstrip()[:-1] + " "
        elif text.count("'") % 2 and line and text.split()[0] in PROGRAMS:
            text += "\n"
        else:
            if text.strip():
                yield Command(f"{name}:{start}", text.strip())
            text = ""


def _spans(name: str, text: str) -> Iterator[Command]:
    for number, line in enumerate(text.splitlines(), 1):
        for span in _SPAN.findall(line):
            words = span.split()
            if len(words) > 1 and words[0] in PROGRAMS:
                yield Command(f"{name}:{number}", span)


def pages(root: Path) -> list[Path]:
    """README and docs."""
    return [root / "README.md", *sorted((root / "docs").glob("*.md"))]


def commented(root: Path) -> list[Path]:
    """YAML files whose comments speak to people."""
    manifests = sorted((root / "manifests").rglob("*.yaml"))
    return [*manifests, *sorted((root / "charts" / "star-operator").glob("*.yaml"))]
