"""The edit of a promotion, pure: a file's bytes and a target -> the file's bytes with another `uri` and `digest`.

Nothing but these two values changes: comments, order, quotes, line ends, the byte order mark and trailing spaces stay,
byte for byte. What was edited is read again before it is given back.
"""

import re
from dataclasses import dataclass

from star_contracts.artifact import DIGEST_PATTERN
from star_contracts.promotion import DEFAULT_FIELD, DocumentSelector, PromotionTarget
from star_jobs.promote.fields import by_field
from star_jobs.promote.markers import by_marker
from star_jobs.promote.places import At, Place, Scalar
from star_jobs.promote.yamltext import get, not_found, parse_file, refused, text_of

_NULL = "tag:yaml.org,2002:null"
_PLAIN = re.compile(r"^[A-Za-z][A-Za-z0-9!_.*'()=@+/:-]*[A-Za-z0-9!_.*'()=@+/-]$")
"""What can stand without quotes, in `{}` as well."""


@dataclass(frozen=True)
class Standing:
    """What stands at a place."""

    uri: str | None
    digest: str | None

    def pinned(self) -> str | None:
        """Return the digest where it is one; a placeholder or an empty value is none."""
        return self.digest if self.digest is not None and re.match(DIGEST_PATTERN, self.digest) else None


def read(data: bytes, target: PromotionTarget) -> Standing:
    """Return what the target's place says.

    Raises TerminalFailure(PlaceNotFound, PlaceRefused) as `find_place` does.
    """
    place = find_place(data, target)
    return Standing(_value(place.uri), _value(place.digest))


def edit(data: bytes, target: PromotionTarget, uri: str, digest: str) -> bytes:
    """Return the file with these values at the target's place; the very bytes where they stand there already.

    Raises TerminalFailure(PlaceNotFound, PlaceRefused) as `find_place` does.
    """
    place = find_place(data, target)
    changes = [
        (scalar, value) for scalar, value in ((place.uri, uri), (place.digest, digest)) if _value(scalar) != value
    ]
    text = data.decode()
    for scalar, value in sorted(changes, key=lambda change: -_begin(change[0])):
        text = _replaced(text, scalar, value)
    edited = text.encode()
    if read(edited, target) != Standing(uri, digest):
        raise refused(f"{target.path} does not read as it was edited: write uri and digest there as plain `key: value`")
    return edited


def find_place(data: bytes, target: PromotionTarget) -> Place:
    """Return where the target's values stand.

    Raises TerminalFailure: PlaceNotFound (no such document, field or marker), PlaceRefused (two of them, anchors or
    aliases on the way, or what `parse_file` refuses).
    """
    fragment = parse_file(data, target.path)
    documents = [At(fragment, each) for each in fragment.documents]
    selected = [each for each in documents if target.document is None or _selected(each, target.document)]
    if not selected:
        kinds = ", ".join(sorted({text_of(get(each.node, "kind")) or "one without a kind" for each in documents}))
        raise not_found(f"{target.path} has no document as target.document says; its documents: {kinds or 'none'}")
    if target.marker is not None:
        return by_marker(selected, target.marker)
    return by_field(selected, target.field or DEFAULT_FIELD)


def _selected(document: At, selector: DocumentSelector) -> bool:
    metadata = get(document.node, "metadata")
    name = text_of(get(metadata, "name")) if metadata is not None else None
    return selector.kind in (None, text_of(get(document.node, "kind"))) and selector.name in (None, name)


def _value(scalar: Scalar) -> str | None:
    return None if scalar.node.tag == _NULL else str(scalar.node.value)


def _begin(scalar: Scalar) -> int:
    return scalar.fragment.offset(scalar.begin)


def _replaced(text: str, scalar: Scalar, value: str) -> str:
    source = scalar.fragment.source(scalar.node)
    begin = _begin(scalar)
    new = _quoted(value, scalar.node.style)
    if not source and text[begin - 1 : begin] not in (" ", ""):
        new = " " + new
    return text[:begin] + new + text[begin + len(source) :]


def _quoted(value: str, style: str | None) -> str:
    """Return the value in the quotes that stood there; quotes are added where it needs them."""
    if style == "'" or (style is None and not _PLAIN.match(value)):
        return "'" + value.replace("'", "''") + "'"
    if style == '"':
        return '"' + value.replace("\\", "\\\\").replace('"', '\\"') + '"'
    return value
