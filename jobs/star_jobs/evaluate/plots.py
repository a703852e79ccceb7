"""Plots as inline SVG: values in, text out. No script, no font, no style sheet; text takes the page's colour.

Every drawn value carries a `<title>`, which browsers show when pointed at. Shares are in [0, 1] and drawn in percent.
"""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise
from math import ceil, floor, log2, log10
from xml.sax.saxutils import escape, quoteattr

HIGHLIGHT = "#d55e00"
PALETTE = ("#0072b2", "#009e73", "#cc79a7", "#e69f00", "#56b4e9", "#8a8a8a", "#7b5ea7", "#a6761d", "#444f8a")
"""Told apart by people with any colour vision (after Okabe and Ito, https://jfly.uni-koeln.de/color/)."""
WIDTH = 720
_LEFT, _RIGHT, _TOP, _AXIS = 120, 24, 30, 44
_LANE = 13
"""Height of one value in a row of the interval plot."""
_LABEL_GAP = 13
_CHARACTER = 7.0
"""Width of one at font size 11, roughly: enough to place a legend and keep labels apart."""


@dataclass(frozen=True)
class Value:
    """A share in [0, 1] with its interval, where it has one."""

    share: float
    low: float | None = None
    high: float | None = None

    def text(self) -> str:
        """Return it in percent, as the tables have it."""
        interval = "" if self.low is None or self.high is None else f" [{100 * self.low:.1f}, {100 * self.high:.1f}]"
        return f"{100 * self.share:.1f}{interval}"


@dataclass(frozen=True)
class Series:
    """One ranker's values, one a row or a place on the x axis; None where there is none."""

    name: str
    values: Sequence[Value | None]
    highlight: bool = False
    """Drawn in the colour that stands for the measured model."""


@dataclass(frozen=True)
class Spot:
    """One ranker in a plot of time against quality."""

    name: str
    seconds: float
    value: Value
    highlight: bool = False
    """Drawn as a star, as in the paper's Figure 4."""


def intervals(rows: Sequence[str], series: Sequence[Series], *, title: str, axis: str) -> str:
    """Draw a dot with a whisker for each value, in one block a row. `axis` says what the shares are."""
    block = _LANE * len(series) + 10
    height = _TOP + _legend_height(series) + block * len(rows) + _AXIS
    top = _TOP + _legend_height(series)
    scale = _Linear(0.0, 1.0, _LEFT, WIDTH - _RIGHT)
    parts = [*_legend(series), *_share_axis_below(scale, top, height - _AXIS, axis)]
    for number, row in enumerate(rows):
        start = top + number * block
        if number:
            parts.append(_line(_LEFT, start, WIDTH - _RIGHT, start, opacity=0.15))
        parts.append(_text(_LEFT - 10, start + block / 2 + 4, row, anchor="end"))
        for lane, (one, colour) in enumerate(_coloured(series)):
            value = one.values[number]
            if value is not None:
                y = start + 5 + _LANE * (lane + 0.5)
                parts += _whisker(value, scale, y, colour)
                parts.append(_dot(scale(value.share), y, colour, f"{row}, {one.name}: {value.text()}", one.highlight))
    return _svg(height, title, parts)


def lines(budgets: Sequence[int], series: Sequence[Series], *, title: str, axis: str) -> str:
    """Draw shares over k on a logarithmic x axis, each with its interval as a band."""
    top = _TOP + _legend_height(series)
    height, bottom = top + 260 + _AXIS, top + 260
    x = _Linear(log2(min(budgets)), max(log2(max(budgets)), log2(min(budgets)) + 1), _LEFT, WIDTH - _RIGHT - 20)
    y = _share_scale([value for one in series for value in one.values if value is not None], bottom, top)
    parts = [*_legend(series), *_share_axis_left(y, axis)]
    for budget in budgets:
        parts.append(_text(x(log2(budget)), bottom + 16, str(budget), anchor="middle"))
    parts.append(_text((_LEFT + WIDTH) / 2, bottom + 34, "answers a task (k)", anchor="middle", opacity=0.7))
    for one, colour in _coloured(series):
        there = [(x(log2(k)), k, value) for k, value in zip(budgets, one.values, strict=True) if value is not None]
        parts += _band([(at, value) for at, _, value in there], y, colour)
        path = " ".join(f"{at:.1f},{y(value.share):.1f}" for at, _, value in there)
        parts.append(f'<polyline class="line" points="{path}" fill="none" stroke="{colour}" stroke-width="2"/>')
        parts += [
            _dot(at, y(value.share), colour, f"{one.name}, k = {k}: {value.text()}", one.highlight)
            for at, k, value in there
        ]
    return _svg(height, title, parts)


def scatter(spots: Sequence[Spot], *, title: str, time: str, axis: str) -> str:
    """Draw seconds (logarithmic; `time` says of what) against a share; up and to the left is better."""
    height, bottom, top = _TOP + 320 + _AXIS, _TOP + 320, _TOP
    seconds = [max(spot.seconds, 1e-9) for spot in spots]
    low, high = floor(log10(min(seconds)) - 0.05), ceil(log10(max(seconds)) + 0.05)
    x = _Linear(low, high, _LEFT, WIDTH - _RIGHT)
    y = _share_scale([spot.value for spot in spots], bottom, top)
    parts = _share_axis_left(y, axis)
    for power in range(low, high + 1):
        parts.append(_line(x(power), top, x(power), bottom, opacity=0.12))
        parts.append(_text(x(power), bottom + 16, _seconds(power), anchor="middle"))
    parts.append(_text((_LEFT + WIDTH) / 2, bottom + 34, time, anchor="middle", opacity=0.7))
    places = [(x(log10(at)), y(spot.value.share)) for at, spot in zip(seconds, spots, strict=True)]
    labels = _spread([place[1] for place in places])
    colours = _spot_colours(spots)
    for spot, colour, (at, level), label in zip(spots, colours, places, labels, strict=True):
        parts += _upright_whisker(spot.value, y, at, colour)
        told = f"{spot.name}: {spot.value.text()}, {spot.seconds:.3g} s"
        parts.append(_star(at, level, colour, told) if spot.highlight else _dot(at, level, colour, told, False))
        left = at + 12 + _CHARACTER * len(spot.name) > WIDTH - _RIGHT
        parts.append(_text(at + (-12 if left else 12), label + 4, spot.name, anchor="end" if left else "start"))
    return _svg(height, title, parts)


@dataclass(frozen=True)
class _Linear:
    """Maps [start, end] to [begin, finish] in pixels."""

    start: float
    end: float
    begin: float
    finish: float

    def __call__(self, value: float) -> float:
        return self.begin + (value - self.start) / (self.end - self.start) * (self.finish - self.begin)


def _share_scale(values: Iterable[Value], bottom: float, top: float) -> _Linear:
    """Map shares to heights: from the tenth below the lowest to the tenth above the highest, at least 0.2 wide."""
    bounds = [bound for value in values for bound in (value.share, value.low, value.high) if bound is not None]
    low, high = floor(10 * min(bounds) + 1e-9) / 10, ceil(10 * max(bounds) - 1e-9) / 10
    if high - low < 0.2:
        low, high = (low, low + 0.2) if low <= 0.8 else (0.8, 1.0)
    return _Linear(low, high, bottom, top)


def _ticks(scale: _Linear) -> list[float]:
    return [step / 10 for step in range(round(10 * scale.start), round(10 * scale.end) + 1)]


def _share_axis_below(scale: _Linear, top: float, bottom: float, name: str) -> Iterator[str]:
    for tick in _ticks(scale):
        yield _line(scale(tick), top, scale(tick), bottom, opacity=0.12)
        yield _text(scale(tick), bottom + 16, f"{100 * tick:.0f}", anchor="middle")
    yield _text((_LEFT + WIDTH) / 2, bottom + 34, name, anchor="middle", opacity=0.7)


def _share_axis_left(scale: _Linear, name: str) -> list[str]:
    parts = []
    for tick in _ticks(scale):
        parts.append(_line(_LEFT, scale(tick), WIDTH - _RIGHT, scale(tick), opacity=0.12))
        parts.append(_text(_LEFT - 8, scale(tick) + 4, f"{100 * tick:.0f}", anchor="end"))
    parts.append(_text(16, _TOP - 12, name, opacity=0.7))
    return parts


def _coloured(series: Sequence[Series]) -> list[tuple[Series, str]]:
    plain = iter(PALETTE * len(series))
    return [(one, HIGHLIGHT if one.highlight else next(plain)) for one in series]


def _spot_colours(spots: Sequence[Spot]) -> list[str]:
    plain = iter(PALETTE * len(spots))
    return [HIGHLIGHT if spot.highlight else next(plain) for spot in spots]


def _legend_places(series: Sequence[Series]) -> list[tuple[float, int]]:
    """Return (x, line) of each entry, left to right and then down."""
    places, x, row = [], 8.0, 0
    for one in series:
        wide = 26 + _CHARACTER * len(one.name)
        if x + wide > WIDTH and x > 8:
            x, row = 8.0, row + 1
        places.append((x, row))
        x += wide
    return places


def _legend_height(series: Sequence[Series]) -> int:
    return 20 * (_legend_places(series)[-1][1] + 1) if series else 0


def _legend(series: Sequence[Series]) -> Iterator[str]:
    for (one, colour), (x, row) in zip(_coloured(series), _legend_places(series), strict=True):
        y = _TOP + 2 + 20 * row
        yield f'<circle class="key" cx="{x + 6:.1f}" cy="{y}" r="5" fill="{colour}"/>'
        yield _text(x + 15, y + 4, one.name)


def _whisker(value: Value, x: _Linear, y: float, colour: str) -> list[str]:
    if value.low is None or value.high is None:
        return []
    return [
        f'<line class="whisker" x1="{x(value.low):.1f}" y1="{y:.1f}" x2="{x(value.high):.1f}" y2="{y:.1f}" '
        f'stroke="{colour}" stroke-width="2" opacity="0.55"/>'
    ]


def _upright_whisker(value: Value, y: _Linear, at: float, colour: str) -> list[str]:
    if value.low is None or value.high is None:
        return []
    return [
        f'<line class="whisker" x1="{at:.1f}" y1="{y(value.low):.1f}" x2="{at:.1f}" y2="{y(value.high):.1f}" '
        f'stroke="{colour}" stroke-width="2" opacity="0.45"/>'
    ]


def _band(points: Sequence[tuple[float, Value]], y: _Linear, colour: str) -> list[str]:
    """Return the area between the lower and the upper bounds, where every point has both."""
    upper = [(at, value.high) for at, value in points if value.high is not None]
    lower = [(at, value.low) for at, value in points if value.low is not None]
    if len(upper) < len(points) or len(lower) < len(points) or len(points) < 2:
        return []
    outline = " ".join(f"{at:.1f},{y(share):.1f}" for at, share in [*upper, *reversed(lower)])
    return [f'<polygon class="band" points="{outline}" fill="{colour}" opacity="0.15"/>']


def _dot(x: float, y: float, colour: str, told: str, large: bool) -> str:
    radius = 5.5 if large else 4
    return f'<circle class="mark" cx="{x:.1f}" cy="{y:.1f}" r="{radius}" fill="{colour}">{_told(told)}</circle>'


def _star(x: float, y: float, colour: str, told: str) -> str:
    """Return a five-pointed star."""
    outer = [(0, -10), (9.5, -3.1), (5.9, 8.1), (-5.9, 8.1), (-9.5, -3.1)]
    inner = [(2.4, -3.2), (3.8, 1.2), (0, 4), (-3.8, 1.2), (-2.4, -3.2)]
    corners = [corner for pair in zip(outer, inner, strict=True) for corner in pair]
    outline = " ".join(f"{x + dx:.1f},{y + dy:.1f}" for dx, dy in corners)
    return f'<polygon class="mark" points="{outline}" fill="{colour}">{_told(told)}</polygon>'


def _spread(levels: Sequence[float]) -> list[float]:
    """Move labels down where they would stand on one another, in the order of their heights."""
    order = sorted(range(len(levels)), key=lambda index: levels[index])
    placed = list(levels)
    for before, index in pairwise(order):
        placed[index] = max(placed[index], placed[before] + _LABEL_GAP)
    return placed


def _seconds(power: int) -> str:
    """Return 10^power seconds in the unit that reads well."""
    for unit, least in (("s", 0), ("ms", -3), ("µs", -6)):
        if power >= least:
            return f"{10 ** (power - least)} {unit}"
    return f"{10 ** (power + 9):g} ns"


def _line(x1: float, y1: float, x2: float, y2: float, *, opacity: float) -> str:
    return f'<line x1="{x1:.1f}" y1="{y1:.1f}" x2="{x2:.1f}" y2="{y2:.1f}" stroke="currentColor" opacity="{opacity}"/>'


def _text(x: float, y: float, text: str, *, anchor: str = "start", opacity: float = 1.0) -> str:
    faded = "" if opacity == 1.0 else f' opacity="{opacity}"'
    return f'<text x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}"{faded}>{escape(text)}</text>'


def _told(text: str) -> str:
    return f"<title>{escape(text)}</title>"


def _svg(height: float, title: str, parts: Iterable[str]) -> str:
    body = "\n".join(parts)
    return (
        f'<svg viewBox="0 0 {WIDTH} {height:.0f}" role="img" aria-label={quoteattr(title)} fill="currentColor" '
        f'font-family="system-ui, sans-serif" font-size="11">\n{_told(title)}\n{body}\n</svg>'
    )
