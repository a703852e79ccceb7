"""The error that ended an engine, read from its last lines of output. Pure.

An engine's output is that of many processes and libraries: warnings that speak of errors, errors that were caught, a
traceback of every rank, and the complaints of those whose peer is gone. The last error decides, apart from two kinds
that only echo another one: a launcher's ("a child failed"), and a lost peer's where a traceback shows what the peer
died of. What stands before a line that reports a finished step was survived.
"""

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

_ANSI = re.compile(r"\x1b\[[0-9;]*[A-Za-z]")
_PREFIX = re.compile(r"^(?:\([A-Za-z]\w*[^()]{0,80}\bpid=\d+[^()]{0,80}\) ?|\[(?:rank)?\d+\]: ?|\s{0,20}\| ?)+")
"""Of Ray (`(TaskRunner pid=12, ip=1.2.3.4)`), of torchrun (`[rank0]:`) and of exception groups (`|`)."""
_TRACEBACK = "Traceback (most recent call last)"
_IGNORED = "Exception ignored in"
"""What a process says at its end of exceptions that ended nothing; their tracebacks follow."""
_CAUSED = "The above exception was the direct cause of the following exception"
_PROGRESS = re.compile(r"global_step/max_steps|^step:\d+ - ")
"""How ms-swift and verl print a finished step."""
_DOTTED = r"(?:[A-Za-z_]\w*\.)*"
_NAMED = r"[A-Z_]\w*(?:Error|Exception|Interrupt|Failure|Exit|Expired)"
_RAISED = re.compile(rf"{_DOTTED}(?P<name>{_NAMED})(?:\((?P<inner>\w+)\))?(?::\s|:?$)")
_ANY_NAME = re.compile(rf"{_DOTTED}(?P<name>[A-Za-z_]\w*)(?:\((?P<inner>\w+)\))?(?::\s|:?$)")
_MENTIONED = re.compile(rf"(?:^|[\s:)]|(?<!\w)\.)(?P<line>{_DOTTED}(?P<name>{_NAMED})\b.*)")
_NATIVE = re.compile(
    r"terminate called|what\(\):|Fatal Python error|Segmentation fault|Bus error|Aborted|Killed\b|Out of memory"
    r"|\*\*\* SIG|fatal error:|.*Watchdog caught collective operation timeout"
)
"""What processes say that die without an exception of Python."""
_HARMLESS = re.compile(r"\b(?:WARN|WARNING|INFO|DEBUG)\b|Warning:|^File \"")
WRAPPERS = frozenset({"RayTaskError", "ChildFailedError", "CalledProcessError", "SystemExit", "BrokenProcessPool"})
"""Errors of launchers, which say no more than that a child has failed."""
_PEER_LOST = re.compile(
    r"NCCL|ProcessGroup|gloo|DistBackendError|DistNetworkError|Watchdog|Connection (?:closed|reset|refused)|Broken pipe"
    r"|remote process exited|terminate called",
    re.IGNORECASE,
)
_LINE_LIMIT = 400


@dataclass(frozen=True)
class EngineError:
    """One error of the output."""

    line: str
    """From the error's name on."""
    name: str = ""
    """The exception's class, without its module; empty for what is no exception of Python."""
    traced: bool = False
    """It ended a traceback, so nobody had caught it by then."""
    cause: "EngineError | None" = None
    """The one that it was raised from."""

    @property
    def chain(self) -> Iterator["EngineError"]:
        """The error, what it was raised from, and so on."""
        yield self
        if self.cause is not None:
            yield from self.cause.chain


def deciding_error(tail: Sequence[str]) -> EngineError | None:
    """Return the error that ended the engine; None when the output names none."""
    lines = [_PREFIX.sub("", _ANSI.sub("", line)).rstrip() for line in tail]
    last_step = max((number for number, line in enumerate(lines) if _PROGRESS.search(line)), default=-1)
    errors = list(_errors(lines[last_step + 1 :]))
    own = [error for error in errors if error.name not in WRAPPERS]
    if not own:
        return errors[-1] if errors else None
    last = own[-1]
    if _PEER_LOST.search(last.line):
        roots = (error for error in reversed(own) if error.traced and not _PEER_LOST.search(error.line))
        return next(roots, last)
    return last


def last_words(tail: Sequence[str]) -> str:
    """Return the line to show a person: the error's, or else the last one with words in it."""
    error = deciding_error(tail)
    worded = (found.strip() for line in reversed(tail) if re.search(r"[A-Za-z]{3}", found := _ANSI.sub("", line)))
    chosen = error.line if error is not None else _PREFIX.sub("", next(worded, "it printed nothing"))
    return chosen if len(chosen) <= _LINE_LIMIT else chosen[: _LINE_LIMIT - 1] + "…"


def _errors(lines: Sequence[str]) -> Iterator[EngineError]:
    in_traceback = caused = ignored = False
    previous: EngineError | None = None
    before = ""
    for line in lines:
        if _TRACEBACK in line:
            in_traceback, ignored = True, before.startswith(_IGNORED)
        elif line.startswith(_CAUSED):
            caused = True
        elif error := _error(line, in_traceback):
            if error.traced:
                in_traceback = False
                if ignored:
                    ignored = False
                    continue
            if caused and previous is not None:
                error = EngineError(error.line, error.name, error.traced, previous)
            caused, previous = False, error
            yield error
        before = line


def _error(line: str, in_traceback: bool) -> EngineError | None:
    """Read one line. A traceback ends with its first line that is not indented, whatever its exception is called."""
    text = line.strip()
    if in_traceback and (not text or line[0].isspace()):
        return None
    if in_traceback and (found := _ANY_NAME.match(text)):
        return EngineError(text, found["name"], traced=True)
    if found := _RAISED.match(text):
        return EngineError(text, found["name"])
    if _NATIVE.match(text):
        return EngineError(text)
    if (found := _MENTIONED.search(text)) and not _HARMLESS.search(text):
        return EngineError(found["line"], found["name"])
    return None
