"""A place by its field's path: keys with dots between them, and `[2]` or `[metadata.name=student]` after a list.

The path goes on into the text of a literal block, and through a JSON patch (RFC 6902):
`patches[0].patch.spec.checkpoint` is the block that the first patch of a kustomization sets, of either sort.
"""

from collections.abc import Iterator, Sequence

from ruamel.yaml.nodes import MappingNode, Node, SequenceNode

from star_contracts.fieldpath import Item, Key, Steps, parse_path
from star_jobs.promote.places import DIGEST, URI, Absent, At, Place, literal
from star_jobs.promote.yamltext import get, not_found, refused, text_of

_KIND = "StarDeployment"


def by_field(documents: Sequence[At], field: str) -> Place:
    """Return the place in the only document that has it; of several, in the only StarDeployment.

    Raises TerminalFailure(PlaceNotFound, PlaceRefused).
    """
    path, steps, absent = documents[0].fragment.path, parse_path(field), []
    found: list[tuple[At, Place]] = []
    for document in documents:
        try:
            found.append((document, resolve(document, steps)))
        except Absent as error:
            absent.append(str(error))
    if not found:
        raise not_found(f"{path} has no place {field} with uri and digest: {'; '.join(absent[:4])}")
    if len(found) > 1:
        found = [each for each in found if text_of(get(each[0].node, "kind")) == _KIND] or found
    if len(found) > 1:
        lines = ", ".join(str(document.line) for document, _ in found[:4])
        raise refused(
            f"{path} has the place {field} in several documents (from lines {lines}): say which by target.document"
        )
    return found[0][1]


def resolve(at: At, steps: Steps) -> Place:
    """Go the way. Raises Absent where it ends, and TerminalFailure(PlaceRefused)."""
    at.require_unshared()
    if literal(at.node):
        return resolve(at.inside(), steps)
    operations = _operations(at)
    if operations and not (steps and isinstance(steps[0], Item)):
        return _through_patch(at, operations, steps)
    if not steps:
        return at.place()
    step = steps[0]
    return resolve(at.child(step.name) if isinstance(step, Key) else _item(at, step), steps[1:])


def _item(at: At, step: Item) -> At:
    if not isinstance(at.node, SequenceNode):
        raise Absent(f"line {at.line} is no list that [{step.text}] could pick from")
    items = at.node.value
    if step.index is not None:
        fitting = [step.index] if step.index < len(items) else []
    else:
        fitting = [index for index, item in enumerate(items) if _fits(step, item)]
    if not fitting:
        raise Absent(f"the list at line {at.line} has no item [{step.text}]")
    if len(fitting) > 1:
        raise refused(f"{at.where}: [{step.text}] picks several items of the list: say more, or give a number")
    return At(at.fragment, items[fitting[0]])


def _fits(step: Item, node: Node) -> bool:
    """Whether an item of the list says so."""
    found: Node | None = node
    for key in step.path:
        found = get(found, key) if found is not None else None
    return bool(step.path) and text_of(found) == step.value


def _through_patch(at: At, operations: list[At], steps: Steps) -> Place:
    """Find the place behind a JSON patch: an operation that sets it, or what is around it, or one for each value."""
    names = _pointed(steps)
    pointer = "".join(f"/{name}" for name in names)
    hits = [
        resolve(operation.child("value"), steps[cut:])
        for cut in range(len(names) + 1)
        for operation in _setting(operations, "".join(f"/{name}" for name in names[:cut]))
    ]
    whole = len(names) == len(steps)
    uris, digests = (list(_setting(operations, f"{pointer}/{name}")) if whole else [] for name in (URI, DIGEST))
    if len(uris) == 1 and len(digests) == 1:
        hits.append(Place(uris[0].child("value").scalar(URI), digests[0].child("value").scalar(DIGEST)))
    if len(hits) > 1 or len(uris) > 1 or len(digests) > 1:
        raise refused(f"{at.where}: several operations of the patch set {pointer}: leave one")
    if not hits:
        raise Absent(f"line {at.line} is a JSON patch, and none of its operations sets {pointer}")
    return hits[0]


def _pointed(steps: Steps) -> list[str]:
    """Return what a JSON pointer says of the steps: all before the first item that is picked by what it says."""
    names: list[str] = []
    for step in steps:
        if isinstance(step, Item) and step.index is None:
            break
        names.append(step.name if isinstance(step, Key) else str(step.index))
    return names


def _operations(at: At) -> list[At]:
    """Return the operations of a JSON patch; none for what is none."""
    if not isinstance(at.node, SequenceNode):
        return []
    items = at.node.value
    whole = all(isinstance(each, MappingNode) and text_of(get(each, "op")) is not None for each in items)
    return [At(at.fragment, each) for each in items] if whole else []


def _setting(operations: list[At], pointer: str) -> Iterator[At]:
    """Yield the operations that write to a JSON pointer; the empty one is the whole document."""
    for operation in operations:
        writes = text_of(get(operation.node, "op")) in ("add", "replace")
        if writes and text_of(get(operation.node, "path")) == pointer:
            operation.require_unshared()
            yield operation
