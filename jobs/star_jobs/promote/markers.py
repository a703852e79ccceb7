"""A place by its marker: a comment at the end of the line of the block's key, or one at the line of each value.

    checkpoint: # {"$star": "prod"}
      uri: s3://models/a
      digest: sha256:…

    - {op: replace, path: /spec/checkpoint/uri, value: s3://models/a}     # {"$star": "prod:uri"}
    - {op: replace, path: /spec/checkpoint/digest, value: sha256:…}       # {"$star": "prod:digest"}

Within a literal block, as kustomize's inline patches are, comments are looked for as well.
"""

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from ruamel.yaml.nodes import MappingNode, ScalarNode

from star_jobs.errors import TerminalFailure
from star_jobs.promote.places import DIGEST, URI, Absent, At, Place, Scalar, children, literal
from star_jobs.promote.yamltext import Fragment, end, get, not_found, parse_literal, refused, start, walk

_MARKER = re.compile(r'(?:^|(?<=[ \n]))#[ ]*\{[ ]*"\$star":[ ]*"([a-z0-9.:-]+)"[ ]*\}[ ]*(?=\r?$)', re.MULTILINE)
_SUFFIXES = ("", f":{URI}", f":{DIGEST}")


@dataclass(frozen=True)
class _Pair:
    """A key with its value."""

    key: ScalarNode
    value: At
    way: tuple[At, ...]
    """What is around it, from the document on."""


@dataclass(frozen=True)
class _Hit:
    """A marker's comment."""

    name: str
    where: str
    line: int
    pairs: tuple[_Pair, ...]
    """The keys that begin on its line, from left to right."""


def by_marker(documents: Sequence[At], marker: str) -> Place:
    """Return the place that the marker of this name stands at. Raises TerminalFailure(PlaceNotFound, PlaceRefused)."""
    path = documents[0].fragment.path
    marks = [hit for document in documents for hit in _hits(document)]
    hits = [hit for hit in marks if hit.name in {marker + suffix for suffix in _SUFFIXES}]
    by_name = {hit.name: hit for hit in hits}
    for name in by_name:
        lines = [str(hit.line) for hit in hits if hit.name == name]
        if len(lines) > 1:
            raise refused(f"{path} has the marker {name} {len(lines)} times (lines {', '.join(lines[:8])}): leave one")
    whole, uri, digest = (by_name.get(marker + suffix) for suffix in _SUFFIXES)
    if whole is not None and (uri or digest):
        raise refused(f"{path} has the marker {marker} at a block and at single values: leave one of both")
    if whole is not None:
        return _alone(_block(whole), marker, marks)
    if uri is not None and digest is not None:
        return _alone(Place(_value(uri, URI), _value(digest, DIGEST)), marker, marks)
    half = uri or digest
    if half is not None:
        raise not_found(f"{path} has the marker {half.name} alone: mark the other value as well")
    raise not_found(
        f'{path} has no marker {marker}: put the comment # {{"$star": "{marker}"}} '
        "at the end of the line of the key whose block has uri and digest"
    )


def _alone(place: Place, marker: str, marks: Sequence[_Hit]) -> Place:
    """Return the place. Raises TerminalFailure(PlaceRefused) where another marker marks it, too.

    So two markers are two places, and who names the one gets nowhere that is the other's.
    """
    mine = {_index(place.uri), _index(place.digest)}
    for hit in marks:
        name, _, single = hit.name.partition(":")
        if name == marker or single not in ("", URI, DIGEST):
            continue
        try:
            if single:
                values = {_index(_value(hit, single))}
            else:
                block = _block(hit)
                values = {_index(block.uri), _index(block.digest)}
        except TerminalFailure:  # it marks nothing that could be edited
            continue
        if mine & values:
            raise refused(f"{hit.where}: the place has the markers {marker} and {name}: leave one")
    return place


def _index(scalar: Scalar) -> int:
    return scalar.fragment.offset(scalar.begin)


def _hits(document: At) -> Iterator[_Hit]:
    """Yield a document's comments that are markers."""
    fragment, pairs = document.fragment, sorted(_pairs(document), key=lambda pair: start(pair.key))
    scalars = [node for node, _ in walk(document.node) if isinstance(node, ScalarNode)]
    starts = [start(each) for each in fragment.documents]
    place = starts.index(start(document.node))
    begin, stop = (0, *starts[1:])[place], (*starts[1:], len(fragment.text))[place]
    for match in _MARKER.finditer(fragment.text, begin, stop):
        if not any(_within(match.start(), fragment, each) for each in scalars):
            line_begin = fragment.text.rfind("\n", 0, match.start()) + 1
            on_line = tuple(pair for pair in pairs if line_begin <= start(pair.key) < match.start())
            line = fragment.line(match.start())
            yield _Hit(match.group(1), f"{fragment.path}, line {line}", line, on_line)
    for node in scalars:
        if literal(node) and '"$star"' in fragment.source(node):
            At(fragment, node).require_unshared()
            inner = parse_literal(fragment, node)
            for root in inner.documents:
                yield from _hits(At(inner, root))


def _within(index: int, fragment: Fragment, scalar: ScalarNode) -> bool:
    """Whether a `#` is text and no comment. The line of a literal block's `|` may end with a comment."""
    begin = fragment.text.find("\n", start(scalar)) if literal(scalar) else start(scalar)
    return begin <= index < end(scalar)


def _pairs(document: At) -> Iterator[_Pair]:
    """Yield the keys of a document with their values, each once."""
    stack: list[tuple[At, tuple[At, ...]]] = [(document, ())]
    seen: set[int] = set()
    while stack:
        at, way = stack.pop()
        if id(at.node) in seen:
            continue
        seen.add(id(at.node))
        if isinstance(at.node, MappingNode):
            for key, node in at.node.value:
                yield _Pair(key, At(at.fragment, node, key), (*way, at))
        stack.extend((At(at.fragment, node), (*way, at)) for node in children(at.node))


def _block(hit: _Hit) -> Place:
    blocks = [pair for pair in hit.pairs if isinstance(pair.value.node, MappingNode)]
    blocks = [pair for pair in blocks if get(pair.value.node, URI) is not None] or blocks
    if not blocks:
        raise refused(
            f"{hit.where}: the marker stands at no block: "
            "put it at the end of the line of the key whose block has uri and digest"
        )
    _require_unshared(blocks[0])
    try:
        return blocks[0].value.place()
    except Absent as error:
        raise not_found(f"{hit.where}: the block of the marker {hit.name} lacks uri or digest: {error}") from None


def _value(hit: _Hit, name: str) -> Scalar:
    values = [pair for pair in hit.pairs if pair.key.value in (name, "value")]
    if len(values) != 1:
        raise refused(f"{hit.where}: the marker {hit.name} stands at no single value: put it at the line of {name}")
    _require_unshared(values[0])
    return values[0].value.scalar(name)


def _require_unshared(pair: _Pair) -> None:
    for each in (*pair.way, pair.value):
        each.require_unshared()
