"""docs/paper.md maps the paper to modules, tests and presets: all of them exist, and no preset is left out."""

import re
from pathlib import Path

import pytest

from tests.support.paper import FILES, PAPER

ROOT = PAPER.parents[1]
TEXT = (ROOT / "docs" / "paper.md").read_text()
PLACES = {".py": ROOT / "jobs" / "star_jobs", ".j2": ROOT / "jobs" / "star_jobs", ".yaml": PAPER}
TESTS = ROOT / "tests" / "unit" / "star_jobs"
TOPS = ("docs/", "jobs/", "manifests/", "operator/", "tests/")
NAMED = sorted(set(re.findall(r"`([^`\s]+/[^`\s]+\.(?:py|j2|yaml)(?:::\w+)?)`", TEXT)))
LINES = [line.strip("|\n ") for line in TEXT.splitlines() if line.startswith("| ")]
ROWS = [[cell.strip() for cell in line.split(" | ")] for line in LINES]
MAPPED = [row for row in ROWS if len(row) == 6 and row[0] != "paper"]
"""Rows of the map: paper, what it says, modules, tests, presets, what runs here."""


def found(name: str) -> list[Path]:
    """The files a name of the page stands for."""
    path, _, test = name.partition("::")
    if path.startswith(TOPS):
        return list(ROOT.glob(path))
    place = TESTS if test else PLACES[Path(path).suffix]
    return list(place.glob(path))


@pytest.mark.parametrize("name", NAMED)
def test_what_is_named_exists(name: str) -> None:
    files, test = found(name), name.partition("::")[2]
    assert files, f"docs/paper.md names {name}, which does not exist"
    for file in files:
        assert not test or re.search(rf"^(async )?def {test}\(", file.read_text(), re.MULTILINE), (
            f"{file} has no {test}"
        )


def test_no_preset_is_left_out() -> None:
    named = {path for name in NAMED if name.endswith(".yaml") for path in found(name)}
    assert set(FILES) <= named


@pytest.mark.parametrize("row", MAPPED, ids=lambda row: row[0].replace(" ", "-"))
def test_a_row_is_whole_or_a_named_gap(row: list[str]) -> None:
    _, _, modules, tests, presets, here = row
    if "`" not in modules:
        assert re.match(r"gap \d", here)
        return
    assert "::test_" in tests, "a test that would fail without it"
    assert ".yaml`" in presets
    assert re.match(r"runs|shape|GPU", here)


def test_there_is_a_map() -> None:
    assert len(MAPPED) > 50
    gaps = set(re.findall(r"gaps? (\d)(?:, (\d))?", " ".join(row[5] for row in MAPPED)))
    for number in {number for pair in gaps for number in pair if number}:
        assert re.search(rf"^{number}\. \*\*", TEXT, re.MULTILINE), f"gap {number} is explained"
