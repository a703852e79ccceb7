"""A field's path, read: keys with dots between them, and `[2]` or `[metadata.name=student]` after a list.

Operator and Job read it with the same eyes: what the Job would edit as one place, a policy governs as one.
"""

import re
from dataclasses import dataclass

_PART = re.compile(r"\.?([A-Za-z_][A-Za-z0-9_-]*)|\[([^\[\]]+)\]")
_INDEX = re.compile(r"[0-9]+")


@dataclass(frozen=True)
class Key:
    """A step of a path: into a mapping."""

    name: str


@dataclass(frozen=True)
class Item:
    """A step of a path: to the item of a list at `index`, or to the only one that says `value` at `path`."""

    text: str
    index: int | None = None
    path: tuple[str, ...] = ()
    value: str = ""


Step = Key | Item
Steps = tuple[Step, ...]


def parse_path(field: str) -> Steps:
    """Return the steps of a field's path, whose characters FIELD_PATTERN has checked."""
    steps: list[Step] = []
    for match in _PART.finditer(field):
        name, text = match.groups()
        if name is not None:
            steps.append(Key(name))
        elif _INDEX.fullmatch(text):
            steps.append(Item(text, int(text)))
        else:
            path, equals, value = text.partition("=")
            steps.append(Item(text, None, tuple(path.strip().split(".")) if equals else (), value.strip().strip("'\"")))
    return tuple(steps)


def may_meet(one: Steps, other: Steps) -> bool:
    """Say whether two paths may lead to one place, or one of them to what is around the other's.

    They do not only where that is certain in every file: two keys, two numbers, or two values of the same selector that
    differ. A key against an item is never certain, nor is what follows: through a JSON patch both lead to one value.
    """
    for mine, its in zip(one, other, strict=False):
        if isinstance(mine, Key) != isinstance(its, Key):
            return True
        if _differ(mine, its):
            return False
    return True


def _differ(one: Step, other: Step) -> bool:
    if isinstance(one, Key) or isinstance(other, Key):
        return one != other
    if one.index is not None and other.index is not None:
        return one.index != other.index
    return bool(one.path) and one.path == other.path and one.value != other.value
