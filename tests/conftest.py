"""Options of the whole test suite."""

from collections.abc import Iterator

import pytest
import structlog


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--update-goldens", action="store_true", help="write tests/golden/**/children.yaml anew")


@pytest.fixture(autouse=True)
def _fresh_logging() -> Iterator[None]:
    """Undo what a job or gateway run in this process configured: its logger would write to a test's closed output."""
    yield
    structlog.reset_defaults()
