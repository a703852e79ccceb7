"""Options of the whole test suite."""

import time
from collections.abc import Iterator

import pytest
import structlog
from hypothesis import HealthCheck, settings

# The same examples in every run, so that a red one is about the change, and no deadline, as machines are busy at times.
# `pytest --hypothesis-profile=explore` looks for new ones once; `make fuzz` does so for minutes, at the borders.
settings.register_profile("same", derandomize=True, deadline=None)
settings.register_profile("explore", deadline=None, max_examples=1000)
settings.register_profile("fuzz", deadline=None, max_examples=1000, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("same")

_HANGS_SECONDS = 900
"""A property that has not come to an end this long after its minutes are over hangs in one example."""


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--update-goldens", action="store_true", help="write tests/golden/**/children.yaml anew")
    parser.addoption("--fuzz-minutes", type=float, default=0.0, help="try each property marked fuzz for this long")


def pytest_configure(config: pytest.Config) -> None:
    if config.getoption("--fuzz-minutes"):
        settings.load_profile("fuzz")


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    minutes = config.getoption("--fuzz-minutes")
    for item in items:
        if minutes and item.get_closest_marker("fuzz"):
            item.add_marker(pytest.mark.timeout(minutes * 60 + _HANGS_SECONDS), append=False)


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_call(item: pytest.Item) -> None:
    """Run a property over and over until its minutes are over; what pytest does next is one more round."""
    if item.get_closest_marker("fuzz"):
        ends = time.monotonic() + 60 * item.config.getoption("--fuzz-minutes")
        while time.monotonic() < ends:
            item.runtest()


@pytest.fixture(autouse=True)
def _fresh_logging() -> Iterator[None]:
    """Undo what a job or gateway run in this process configured: its logger would write to a test's closed output."""
    yield
    structlog.reset_defaults()
