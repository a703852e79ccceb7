"""Each resource's children, as files to review."""

import pytest
import yaml

from tests.support.goldens import CASES, ROOT, children, resource

NO_ALIASES = type("NoAliases", (yaml.SafeDumper,), {"ignore_aliases": lambda self, data: True})


def test_there_are_cases() -> None:
    assert len(CASES) >= 10


@pytest.mark.parametrize("case", CASES)
def test_children_are_those_of_the_golden(case: str, request: pytest.FixtureRequest) -> None:
    made = yaml.dump_all(children(resource(case)), Dumper=NO_ALIASES, sort_keys=False, width=120)
    golden = ROOT / case / "children.yaml"
    if request.config.getoption("--update-goldens"):
        golden.write_text(made)
    assert golden.read_text() == made, "changed on purpose? run pytest --update-goldens and review the diff"


@pytest.mark.parametrize("case", CASES)
def test_equal_input_gives_equal_children(case: str) -> None:
    assert children(resource(case)) == children(resource(case))
