"""An evaluation compared with another, in pairs over the same tasks."""

import pytest

from star_contracts.artifact import ArtifactKind, ArtifactRef
from star_contracts.data import TaskType
from star_contracts.settings import EvaluationSettings
from tests.support import world
from tests.support.fakellm import fake_llm
from tests.unit.star_jobs.evaluate.conftest import SETTINGS, Stage


def _truth_first(candidates: list[str]) -> list[str]:
    return [candidates[2], *candidates[:2], *candidates[3:]]


def _measured(stage: Stage, settings: EvaluationSettings = SETTINGS, attempt: int = 1) -> ArtifactRef:
    """An evaluation of a student that leaves the candidates as they are."""
    with fake_llm(world.scripted_student()) as server:
        _, result = stage.run(server.endpoint(), settings, attempt)
    assert result.artifact is not None
    return result.artifact


def test_compares_in_pairs_with_another_evaluation(stage: Stage) -> None:
    before = _measured(stage)
    stage.forget_answers()
    with fake_llm(world.scripted_student(_truth_first)) as server:
        code, result = stage.run(server.endpoint(), attempt=2, against=before)
    assert (code, result.error) == (0, None)
    # Everywhere from third place to first: HR@1 rises from 0 to 1, the others stay.
    assert result.metrics["against.hrAvg"] == pytest.approx(2 / 3)
    assert result.metrics["against.hrAvgDiff"] == pytest.approx(1 / 3)
    assert result.metrics["against.ciLow"] == pytest.approx(1 / 3)
    assert result.metrics["against.ciHigh"] == pytest.approx(1 / 3)
    assert result.metrics["against.pValue"] < 0.05
    report = stage.report(result)
    assert (report.compared["against"].name, report.compared["against"].report) == ("before", before.digest)
    assert report.inputs["against"] == before.digest
    assert [list(suite.compared) for suite in report.suites] == [["against"]] * 3
    page = stage.page(result)
    assert "before" in page
    assert "33.3" in page


def test_a_model_equals_itself(stage: Stage) -> None:
    before = _measured(stage)
    with fake_llm(world.scripted_student()) as server:
        _, result = stage.run(server.endpoint(), attempt=2, against=before)
    assert result.metrics["against.hrAvgDiff"] == 0
    assert result.metrics["against.pValue"] == 1


@pytest.mark.bad_input
@pytest.mark.parametrize(
    ("other", "says"),
    [
        ({"samples": 4}, "settings.samples 4 there and unset here"),
        ({"types": (TaskType.CLASSIC,)}, "settings.types ['classic'] there and ['classic', 'long_term'] here"),
    ],
)
def test_other_tasks_cannot_be_compared(stage: Stage, other: dict[str, object], says: str) -> None:
    before = _measured(stage, SETTINGS.model_copy(update=other))
    stage.forget_answers()
    with fake_llm(world.scripted_student()) as server:
        code, result = stage.run(server.endpoint(), attempt=2, against=before)
    assert code == 65
    assert result.error is not None
    assert result.error.reason == "NotComparable"
    assert "spec.against: before measured other tasks of this dataset" in result.error.message
    assert says in result.error.message
    assert server.requests == [], "it is refused before the model is asked"


@pytest.mark.bad_input
def test_another_dataset_cannot_be_compared(stage: Stage) -> None:
    before = _measured(stage)
    (stage.folder / "dataset" / "stats.json").write_text("{}")
    stage.dataset = world.publish(stage.store, f"{stage.uri}/other", stage.folder / "dataset", ArtifactKind.DATASET)
    code, result = stage.run(None, attempt=2, against=before)
    assert code == 65
    assert result.error is not None
    assert "before was measured on dataset sha256:" in result.error.message
    assert stage.dataset.digest in result.error.message


@pytest.mark.bad_input
def test_a_report_of_baselines_alone_cannot_be_compared(stage: Stage) -> None:
    _, alone = stage.run(None)
    assert alone.artifact is not None
    code, result = stage.run(None, attempt=2, against=alone.artifact)
    assert code == 65
    assert result.error is not None
    assert "measured no model; name an Evaluation that has spec.llm" in result.error.message


@pytest.mark.bad_input
def test_something_else_than_a_report_or_trajectories_cannot_be_compared(stage: Stage) -> None:
    code, result = stage.run(None, against=stage.dataset)
    assert code == 65
    assert result.error is not None
    assert result.error.message == (
        "spec.against: before is an artifact of kind dataset; name an Evaluation or a TeacherRun"
    )
