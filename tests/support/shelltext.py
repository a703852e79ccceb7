"""The programs that shell text calls: Makefile recipes, scripts, and what Python hands to `sh -c`."""

import re
import shlex
from collections.abc import Iterator, Mapping
from pathlib import Path

_BUILTINS = frozenset(
    (
        *(
            ":",
            ".",
            "[",
            "alias",
            "bg",
            "break",
            "cd",
            "command",
            "continue",
            "declare",
            "echo",
            "eval",
            "exec",
            "exit",
        ),
        *(
            "export",
            "false",
            "fg",
            "getopts",
            "hash",
            "jobs",
            "kill",
            "let",
            "local",
            "printf",
            "pwd",
            "read",
            "return",
        ),
        *("set", "shift", "shopt", "source", "test", "trap", "true", "type", "ulimit", "umask", "unset", "wait"),
    )
)
_BEFORE_A_COMMAND = frozenset(["!", "{", "if", "then", "elif", "else", "while", "until", "do"])
_CLOSING = frozenset(["}", "fi", "done", "esac", "in"])
_RUNS_ITS_ARGUMENT = frozenset(("exec", "nice", "nohup", "time", "env", "command"))
_SEPARATORS = re.compile(r"[;&|()]+|<\(|>\(")
_ASSIGNMENT = re.compile(r"[A-Za-z_]\w*\+?=.*", re.DOTALL)
_MAKE_VARIABLE = re.compile(r"^(?:export\s+)?([A-Z_a-z.]+)\s*(?:[?:]?=)\s*(.*)$")
_MAKE_REFERENCE = re.compile(r"\$\(([A-Z_a-z]+)\)")


def programs_of(text: str) -> set[str]:
    """Base names of the programs in command position; a `$variable` there stands as it is written.

    Not so `$@`: those are the arguments of whoever calls the script.
    """
    found: set[str] = set()
    for line in _commands(text):
        found |= _programs_of_line(line)
    return found


def make_programs(makefile: str) -> set[str]:
    """The programs of all recipes of a Makefile, with its variables put in; `$(MAKE)` is make."""
    text = makefile.replace("\\\n", " ")
    variables = {"MAKE": "make", "SHELL": "bash", "STAR_CACHE": "/cache"}
    for line in text.splitlines():
        found = _MAKE_VARIABLE.match(line)
        if found and found[1] not in variables:
            variables[found[1]] = found[2]
    recipes = [line[1:].lstrip("@-+ ") for line in text.splitlines() if line.startswith("\t")]
    made = set()
    for recipe in recipes:
        made |= programs_of(_expanded(recipe, variables).replace("$$", "$"))
    return made | {Path(variables["SHELL"]).name}


def _expanded(text: str, variables: Mapping[str, str]) -> str:
    for _ in range(10):
        text = _MAKE_REFERENCE.sub(lambda found: variables.get(found[1], ""), text)
    return text


def _commands(text: str) -> Iterator[str]:
    """Lines, with continued ones joined, and whatever stands in a command substitution as a line of its own."""
    for line in text.replace("\\\n", " ").splitlines():
        if line.startswith("#!"):
            yield line[2:]
            yield line.split()[-1]
        elif line.strip() and not line.lstrip().startswith("#"):
            while inner := re.search(r"\$\(([^()]*)\)", line):
                yield inner[1]
                line = line[: inner.start()] + "substituted" + line[inner.end() :]
            yield line


def _programs_of_line(line: str) -> set[str]:
    lexer = shlex.shlex(line, posix=True, punctuation_chars=";&|()<>")
    lexer.whitespace_split = True
    found: set[str] = set()
    expects, skips_file = True, False
    for word in lexer:
        if skips_file:
            skips_file = False
        elif set(word) <= set("<>&") and set(word) & set("<>"):
            skips_file = True
        elif _SEPARATORS.fullmatch(word) or word in _BEFORE_A_COMMAND:
            expects = True
        elif not expects or word in _CLOSING or _ASSIGNMENT.fullmatch(word) or word.startswith("-"):
            continue
        elif word == "for":
            expects = False
        else:
            name = Path(word).name
            found |= set() if name in _BUILTINS or word in ("substituted", "$@") else {name}
            expects = name in _RUNS_ITS_ARGUMENT
    return found
