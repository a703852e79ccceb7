"""Options of the whole test suite."""

from collections.abc import Iterator

import pytest
import structlog
from hypothesis import settings

# The same examples in every run, so that a red one is about the change, and no deadline, as machines are busy at times.
# `pytest --hypothesis-profile=explore` looks for new ones.
settings.register_profile("same", derandomize=True, deadline=None)
settings.register_profile("explore", deadline=None, max_examples=1000)
settings.load_profile("same")


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--update-goldens", action="store_true", help="write tests/golden/**/children.yaml anew")


@pytest.fixture(autouse=True)
def _fresh_logging() -> Iterator[None]:
    """Undo what a job or gateway run in this process configured: its logger would write to a test's closed output."""
    yield
    structlog.reset_defaults()
