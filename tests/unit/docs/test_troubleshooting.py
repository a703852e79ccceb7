"""docs/troubleshooting.md: every reason that a condition can have stands there, with a cause and a remedy.

That reasons are given by these names alone is what their types are for (mypy).
"""

import re
from pathlib import Path

import pytest

from star_contracts.errors import Reason, WarningReason
from star_contracts.result import ErrorClass, JobError
from star_operator.api import troubleshooting
from star_operator.api.meta import REASON_PATTERN
from star_operator.api.remedies import REMEDIES, SECTIONS
from star_operator.core.reasons import AnyReason, ConditionReason, of_job

ROOT = Path(__file__).parents[3]
ALL: tuple[AnyReason, ...] = (*ConditionReason, *Reason, *WarningReason)
TABLE = "operator/star_operator/api/remedies.py"
USES = "\n".join(
    path.read_text()
    for top in ("operator/star_operator", "operator/star_contracts", "jobs/star_jobs")
    for path in (ROOT / top).rglob("*.py")
    if path != ROOT / TABLE
)


@pytest.mark.parametrize("reason", ALL)
def test_a_reason_has_a_cause_and_a_remedy(reason: AnyReason) -> None:
    assert reason in REMEDIES, f"{reason.value} has no entry in {TABLE}: say what causes it and what to do about it"
    remedy = REMEDIES[reason]
    assert remedy.phases
    for text in (remedy.cause, remedy.remedy):
        assert re.match(r"[A-Z`].*\.$", text), f"a sentence: {text}"
        assert "|" not in text
    assert re.match(REASON_PATTERN, reason.value)


def test_no_reason_stands_in_two_places() -> None:
    assert len({reason.value for reason in ALL}) == len(ALL)
    assert sum(len(section.remedies) for section in SECTIONS) == len(REMEDIES) == len(ALL)


@pytest.mark.parametrize("reason", ALL)
def test_a_reason_is_given_somewhere(reason: AnyReason) -> None:
    assert re.search(rf"\b{type(reason).__name__}\.{reason.name}\b", USES), f"nothing gives {reason.value}: take it out"


def test_the_words_of_jobs_become_reasons() -> None:
    known = JobError(error_class=ErrorClass.TERMINAL, reason="InvalidModel", message="m")
    newer = JobError(error_class=ErrorClass.TERMINAL, reason="OfALaterVersion", message="m")
    assert of_job(known.reason) is Reason.INVALID_MODEL
    assert of_job(newer.reason) is ConditionReason.JOB_FAILED


def test_the_page_is_up_to_date() -> None:
    page = (ROOT / "docs" / "troubleshooting.md").read_text()
    assert page == troubleshooting.render(), "run make generate"
