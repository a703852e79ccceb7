"""A place: the `uri` and the `digest` of a checkpoint in a file, each by its node. And the way to it, which must be its
own: what an anchor or an alias shares with others is refused, as an edit would change them as well.
"""

from dataclasses import dataclass

from ruamel.yaml.nodes import CollectionNode, MappingNode, Node, ScalarNode

from star_jobs.promote.yamltext import Fragment, end, get, parse_literal, refused, start

URI, DIGEST = "uri", "digest"


class Absent(Exception):
    """A path ends early; the message says where and why."""


@dataclass(frozen=True)
class Scalar:
    """One of the two values, and the fragment it stands in."""

    fragment: Fragment
    node: ScalarNode
    begin: int
    """Where it stands in the fragment's text; of an empty one, right after its key."""


@dataclass(frozen=True)
class Place:
    """Both values."""

    uri: Scalar
    digest: Scalar


@dataclass(frozen=True)
class At:
    """A node on the way."""

    fragment: Fragment
    node: Node
    key: Node | None = None
    """Its key, where it is a mapping's value."""

    @property
    def line(self) -> int:
        """In which line of the file it begins."""
        return self.fragment.line(start(self.node))

    @property
    def where(self) -> str:
        """File and line, for people."""
        return f"{self.fragment.path}, line {self.line}"

    def inside(self) -> "At":
        """Return the one document in a literal block. Raises TerminalFailure(PlaceRefused)."""
        assert isinstance(self.node, ScalarNode)
        inner = parse_literal(self.fragment, self.node)
        if len(inner.documents) != 1:
            raise refused(f"{self.where}: the text there has {len(inner.documents)} YAML documents: leave one")
        return At(inner, inner.documents[0])

    def child(self, name: str) -> "At":
        """Return the value of a key. Raises Absent, and TerminalFailure(PlaceRefused) for a merge key."""
        value = get(self.node, name)
        if value is None:
            what = f"has no key {name!r}" if isinstance(self.node, MappingNode) else f"is no mapping with {name!r}"
            raise Absent(f"line {self.line} {what}")
        if get(self.node, "<<") is not None:
            raise refused(f"{self.where}: the block merges another one (`<<`): write its values out")
        key = next(each for each, _ in self.node.value if each.value == name)
        return At(self.fragment, value, key)

    def place(self) -> Place:
        """Return the block's values. Raises Absent, and TerminalFailure(PlaceRefused)."""
        if get(self.node, "checkpoint") is not None:
            raise refused(
                f"{self.where}: the block names a Checkpoint of its cluster: "
                "write `uri` and `digest` there instead of `checkpoint`"
            )
        return Place(*(self.child(name).scalar(name) for name in (URI, DIGEST)))

    def scalar(self, name: str) -> Scalar:
        """Return the node as a value that can be replaced. Raises TerminalFailure(PlaceRefused)."""
        self.require_unshared()
        if not isinstance(self.node, ScalarNode):
            raise refused(f"{self.where}: {name} is no text but a mapping or a list")
        source = self.fragment.source(self.node)
        if self.node.style in ("|", ">") or "\n" in source:
            raise refused(f"{self.where}: {name} goes over several lines: write it on one")
        if source.startswith("!"):
            raise refused(f"{self.where}: {name} has a YAML tag: leave it out")
        begin = start(self.node)
        if not source and self.key is not None:
            begin = self.fragment.text.index(":", end(self.key)) + 1
        return Scalar(self.fragment, self.node, begin)

    def require_unshared(self) -> None:
        """Raise TerminalFailure(PlaceRefused) for a node with an anchor, as whatever an alias names has one."""
        if self.node.anchor is not None:
            raise refused(
                f"{self.where}: the place is shared by an anchor or alias (`&`, `*`), so that an edit would change "
                "others as well: write it out"
            )


def literal(node: Node) -> bool:
    """Whether the node is a text after `|`."""
    return isinstance(node, ScalarNode) and node.style == "|"


def children(node: Node) -> list[Node]:
    """Return what a mapping or list holds, keys left out."""
    if isinstance(node, MappingNode):
        return [value for _, value in node.value]
    return list(node.value) if isinstance(node, CollectionNode) else []
