"""Plots: well-formed XML, a mark for every value, in the right place, and readable labels."""

import re
from itertools import pairwise
from xml.etree import ElementTree

import pytest
from hypothesis import given
from hypothesis import strategies as st

from star_jobs.evaluate.plots import HIGHLIGHT, WIDTH, Series, Spot, Value, intervals, lines, scatter

SHARES = st.floats(min_value=0, max_value=1)
VALUES = st.builds(Value, SHARES) | st.builds(
    lambda a, b, c: Value(sorted((a, b, c))[1], *sorted((a, c))), *[SHARES] * 3
)
NAMES = st.text(st.characters(codec="utf-8", exclude_categories=("Cc", "Cs")), min_size=1, max_size=40).filter(
    lambda name: not re.search("[\ufffe\uffff]", name)
)


def parsed(svg: str) -> ElementTree.Element:
    return ElementTree.fromstring(svg)


def of_class(svg: str, name: str) -> list[ElementTree.Element]:
    return [element for element in parsed(svg).iter() if element.get("class") == name]


def texts(svg: str) -> list[str]:
    return [element.text or "" for element in parsed(svg).iter("text")]


MODEL = Series("star", [Value(0.6, 0.5, 0.7), Value(0.4, 0.3, 0.5)], highlight=True)
POPULAR = Series("popularity <&>", [Value(0.2, 0.1, 0.3), None])


def test_intervals_have_a_mark_and_a_whisker_for_each_value_there_is() -> None:
    svg = intervals(["classic", "long term"], [MODEL, POPULAR], title="t", axis="HR avg, %")
    assert len(of_class(svg, "mark")) == len(of_class(svg, "whisker")) == 3
    assert len(of_class(svg, "key")) == 2
    assert {"classic", "long term", "star", "popularity <&>", "HR avg, %", "0", "100"} <= set(texts(svg))


def test_intervals_stand_where_their_shares_are() -> None:
    svg = intervals(["all"], [Series("s", [Value(0.5, 0.0, 1.0)])], title="t", axis="a")
    mark, whisker = of_class(svg, "mark")[0], of_class(svg, "whisker")[0]
    middle = (float(whisker.get("x1", 0)) + float(whisker.get("x2", 0))) / 2
    assert float(mark.get("cx", 0)) == pytest.approx(middle, abs=0.1)


def test_values_are_told_when_pointed_at() -> None:
    svg = intervals(["all"], [Series("s", [Value(0.5, 0.25, 0.75)])], title="t", axis="a")
    titles = [element.text for element in of_class(svg, "mark")[0].iter("title")]
    assert titles == ["all, s: 50.0 [25.0, 75.0]"]


def test_lines_rise_over_k_and_band_their_interval() -> None:
    rising = Series("star", [Value(share, share - 0.05, share + 0.05) for share in (0.4, 0.5, 0.6)], highlight=True)
    svg = lines([1, 2, 4], [rising, Series("classic", [Value(0.3)] * 3)], title="t", axis="HR avg, %")
    points = [tuple(map(float, point.split(","))) for point in of_class(svg, "line")[0].get("points", "").split()]
    assert points[1][0] - points[0][0] == pytest.approx(points[2][0] - points[1][0], abs=0.2), "k is logarithmic"
    assert points[0][1] > points[1][1] > points[2][1]
    assert len(of_class(svg, "band")) == 1, "only the series that has intervals"
    assert len(of_class(svg, "mark")) == 6
    assert {"1", "2", "4", "answers a task (k)"} <= set(texts(svg))


def test_scatter_shows_the_model_as_a_star_and_keeps_labels_apart() -> None:
    spots = [Spot("star", 2.0, Value(0.6, 0.5, 0.7), highlight=True)]
    spots += [Spot(f"baseline {n}", 0.0001 * (n + 1), Value(0.3)) for n in range(4)]
    svg = scatter(spots, title="t", time="time an answer", axis="HR avg, %")
    marks = of_class(svg, "mark")
    assert [mark.tag for mark in marks] == ["polygon", *["circle"] * 4]
    assert marks[0].get("fill") == HIGHLIGHT
    names = {spot.name for spot in spots}
    labels = sorted(float(text.get("y", 0)) for text in parsed(svg).iter("text") if text.text in names)
    assert len(labels) == 5
    assert all(after - before >= 12 for before, after in pairwise(labels))
    assert {"100 µs", "1 ms", "1 s", "time an answer"} <= set(texts(svg))


def test_an_instant_answer_has_a_place_on_the_logarithmic_axis() -> None:
    svg = scatter([Spot("identity", 0.0, Value(0.0))], title="t", time="time an answer", axis="a")
    assert len(of_class(svg, "mark")) == 1


@given(st.lists(st.tuples(NAMES, VALUES, st.floats(min_value=0, max_value=1e4)), min_size=1, max_size=12))
def test_any_values_and_names_give_well_formed_pictures_inside_their_frame(
    rankers: list[tuple[str, Value, float]],
) -> None:
    series = [Series(name, [value, None], highlight=place == 0) for place, (name, value, _) in enumerate(rankers)]
    spots = [Spot(name, seconds, value) for name, value, seconds in rankers]
    for svg in (
        intervals(["a & b", "<c>"], series, title='"t"', axis="a"),
        lines([1, 16], series, title="t", axis="a"),
        scatter(spots, title="t", time="time an answer", axis="a"),
    ):
        assert len(of_class(svg, "mark")) == len(rankers)
        for mark in of_class(svg, "mark"):
            if mark.tag == "circle":
                assert -1 <= float(mark.get("cx", -9)) <= WIDTH
        assert "<script" not in svg
        assert "http" not in svg
