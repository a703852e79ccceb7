"""YAML as text with positions: what is looked at is the tree, what is changed are characters.

A `Fragment` is a piece of a file together with the nodes of its documents. A literal block (`patch: |-`) inside of it
is a fragment of its own, which knows where each of its characters stands in the file. Whatever could make an edit say
something else elsewhere is refused: keys that stand twice, templates, text that is not UTF-8.
"""

import io
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from ruamel.yaml import YAML
from ruamel.yaml.error import YAMLError
from ruamel.yaml.nodes import MappingNode, Node, ScalarNode, SequenceNode

from star_contracts.errors import Reason
from star_jobs.errors import TerminalFailure

MAX_BYTES = 1024 * 1024
"""Of one file."""
MAX_DEPTH = 100
"""Of mappings and lists in each other."""
_LFS = "version https://git-lfs"
_HEADER = re.compile(r"\|[^\n]*\n")
_LINE = re.compile(r"[^\n]*\n|[^\n]+")


def refused(message: str) -> TerminalFailure:
    """Return the failure of a file that cannot be edited safely."""
    return TerminalFailure(Reason.PLACE_REFUSED, message)


def not_found(message: str) -> TerminalFailure:
    """Return the failure of a place that is not there."""
    return TerminalFailure(Reason.PLACE_NOT_FOUND, message)


@dataclass(frozen=True)
class Fragment:
    """A text and its documents."""

    path: str
    """Of the file, for people."""
    text: str
    documents: tuple[Node, ...]
    offset: Callable[[int], int]
    """Where a character of the text stands in the file."""
    line: Callable[[int], int]
    """In which line of the file, counted from 1."""

    def source(self, node: Node) -> str:
        """Return the node as it is written."""
        return self.text[start(node) : end(node)]


def start(node: Node) -> int:
    """Return the index of a node's first character in its fragment's text."""
    return int(node.start_mark.index)


def end(node: Node) -> int:
    """Return the index after a node's last character. Of blocks, what follows them up to the next key is in it."""
    return int(node.end_mark.index)


def parse_file(data: bytes, path: str) -> Fragment:
    """Return a file's fragment.

    Raises TerminalFailure(PlaceRefused): larger than MAX_BYTES, not UTF-8, no YAML, a template, a key twice.
    """
    if len(data) > MAX_BYTES:
        raise refused(f"{path} has more than {MAX_BYTES} bytes: move the place to a smaller file")
    try:
        text = data.decode()
    except UnicodeDecodeError as error:
        raise refused(f"{path} is not UTF-8 at byte {error.start}: save it as UTF-8") from error
    if text.startswith(_LFS):
        raise refused(f"{path} is kept in Git LFS: keep YAML files in Git itself")

    def line(index: int) -> int:
        return text.count("\n", 0, index) + 1

    return Fragment(path, text, _compose(text, path, line), lambda index: index, line)


def parse_literal(outer: Fragment, node: ScalarNode) -> Fragment:
    """Return the fragment that a literal block (`|`) holds.

    Raises TerminalFailure(PlaceRefused) as `parse_file` does, and for a text that is not written as a literal block.
    """
    where = f"{outer.path}, line {outer.line(start(node))}"
    if node.style != "|":
        raise refused(f"{where}: the text there is not written as a literal block: write it after `|-`")
    source = outer.source(node)
    header = _HEADER.match(source)
    if header is None:
        raise refused(f"{where}: the literal block there is empty")
    lines = _stripped(source[header.end() :], str(node.value))
    first = start(node) + header.end()
    text = "".join(content for _, content in lines)
    if text.replace("\r\n", "\n").rstrip("\n") != str(node.value).rstrip("\n"):
        raise refused(f"{where}: the literal block there is indented in a way that cannot be edited safely")
    begins, inner = [], 0
    for outer_index, content in lines:
        begins.append((inner, first + outer_index))
        inner += len(content)

    def within(index: int) -> int:
        begin = max((each for each in begins if each[0] <= index), default=(0, first))
        return begin[1] + index - begin[0]

    def line(index: int) -> int:
        return outer.line(within(index))

    return Fragment(outer.path, text, _compose(text, outer.path, line), lambda index: outer.offset(within(index)), line)


def _stripped(body: str, value: str) -> list[tuple[int, str]]:
    """Return the lines of a literal block without their indentation, each with the index of what is left in `body`.

    How far it is indented follows from the first line that says something; the caller checks that the content agrees.
    """
    lines = _LINE.findall(body)
    written = next((line for line in lines if line.strip()), "")
    read = next((line for line in _LINE.findall(value) if line.strip()), "")
    indent = len(written.rstrip("\r\n")) - len(read.rstrip("\n"))
    found, index = [], 0
    for line in lines:
        spaces = len(line) - len(line.lstrip(" "))
        if line.strip() and spaces < indent:
            break
        cut = min(indent, spaces)
        found.append((index + cut, line[cut:]))
        index += len(line)
    return found


def _compose(text: str, path: str, line: Callable[[int], int]) -> tuple[Node, ...]:
    reader = YAML(typ="safe", pure=True)
    try:
        documents = tuple(node for node in reader.compose_all(io.StringIO(text)) if node is not None)
        for document in documents:
            _require_plain(document, path, line)
    except YAMLError as error:
        raise refused(_not_yaml(error, text, path, line)) from error
    except (RecursionError, ValueError) as error:
        raise refused(f"{path} cannot be read as YAML ({type(error).__name__}): it nests too deep") from error
    return documents


def _not_yaml(error: YAMLError, text: str, path: str, line: Callable[[int], int]) -> str:
    mark = getattr(error, "problem_mark", None)
    where = f"{path}, line {line(mark.index)}" if mark is not None else path
    problem = " ".join(str(getattr(error, "problem", "") or "unacceptable characters").split())
    advice = "correct it"
    if "{{" in text or "{%" in text:
        advice = "a template cannot be edited: keep the place in a plain YAML file, such as a values file or a patch"
    elif "\t" in text:
        advice = "YAML is indented with spaces: replace the tabs"
    return f"{where} is not YAML ({problem}): {advice}"


def _require_plain(document: Node, path: str, line: Callable[[int], int]) -> None:
    """Raise for what a template leaves, for keys that stand twice, and for what nests too deep."""
    for node, depth in walk(document):
        if depth > MAX_DEPTH:
            raise refused(f"{path}, line {line(start(node))}: mappings and lists nest more than {MAX_DEPTH} deep")
        if not isinstance(node, MappingNode):
            continue
        seen: set[str] = set()
        for key, _ in node.value:
            where = f"{path}, line {line(start(key))}"
            if not isinstance(key, ScalarNode):
                raise refused(
                    f"{where}: a key that is itself a mapping or a list, as templates have (`{{{{ … }}}}`): "
                    "keep the place in a plain YAML file, such as a values file or a patch"
                )
            if key.value in seen and key.tag != "tag:yaml.org,2002:merge":
                raise refused(f"{where}: the key {key.value!r} stands twice in one mapping: keep one of them")
            seen.add(key.value)


def walk(root: Node) -> Iterator[tuple[Node, int]]:
    """Yield each node once, with its depth: what aliases name again is not gone into again."""
    seen: set[int] = set()
    stack = [(root, 0)]
    while stack:
        node, depth = stack.pop()
        if id(node) in seen:
            continue
        seen.add(id(node))
        yield node, depth
        if isinstance(node, MappingNode):
            stack.extend((each, depth + 1) for pair in node.value for each in pair)
        elif isinstance(node, SequenceNode):
            stack.extend((each, depth + 1) for each in node.value)


def get(node: Node, key: str) -> Node | None:
    """Return a mapping's value; None where it has no such key, or is no mapping."""
    if not isinstance(node, MappingNode):
        return None
    found: Node | None = next((value for each, value in node.value if each.value == key), None)
    return found


def text_of(node: Node | None) -> str | None:
    """Return a scalar's text; None for what is none."""
    return str(node.value) if isinstance(node, ScalarNode) else None
