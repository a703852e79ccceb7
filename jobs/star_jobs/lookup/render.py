"""A signal in words: the text that a tool call is answered with, in training and in serving alike."""

from collections.abc import Iterator, Mapping

from star_contracts.data import Item, Signal, SignalKind

_LEAD = {SignalKind.ITEM_CF: "Liked together:", SignalKind.USER_CF: "Similar users like:"}
_TITLES_A_CATEGORY = 3


def render_signal(signal: Signal, items: Mapping[str, Item], max_chars: int) -> str:
    """Return the signal as one line of at most `max_chars` characters, cut between entries, never inside one.

    Categories come first (name, summary, representative items), then the strongest neighbours by title that no
    category showed. The result is never empty: with room for nothing else it is the shortened lead.
    """
    text = _LEAD[signal.kind]
    for piece in _pieces(signal, items):
        longer = f"{text} {piece}"
        if len(longer) <= max_chars:
            text = longer
    return text[:max_chars]


def _pieces(signal: Signal, items: Mapping[str, Item]) -> Iterator[str]:
    shown: set[str] = set()
    for category in signal.categories:
        ids = category.representative_items[:_TITLES_A_CATEGORY]
        shown.update(ids)
        examples = f" ({', '.join(_title(i, items) for i in ids)})" if ids else ""
        yield f"{category.name}: {category.summary}{examples};"
    for item_id in signal.neighbours:
        if item_id not in shown:
            yield f"{_title(item_id, items)};"


def _title(item_id: str, items: Mapping[str, Item]) -> str:
    item = items.get(item_id)
    return f"{item_id} {item.title}" if item else item_id
