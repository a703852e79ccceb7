"""Progress: shards added up, and never going back. Warnings: of a step's result, kept as a condition."""

import pytest

from star_contracts.artifact import ArtifactRef
from star_contracts.errors import JobWarning
from star_contracts.progress import ProgressReport, ProgressTarget
from star_contracts.result import JobResult
from star_operator.api.meta import MAX_COUNTED_SHARDS, Phase, Status
from star_operator.core.progress import Place, ProgressBoard
from star_operator.policy import status as state
from star_operator.policy.conditions import WARNINGS, find
from star_operator.policy.status import Moment, next_attempt, run_done, step_done, told

TARGET = ProgressTarget(url="u", kind="TeacherRun", namespace="n", name="t", uid="1", attempt=1, step="generate")


def report(
    shard: int, done: int, total: int = 10, shards: int = 3, metrics: dict[str, float] | None = None
) -> ProgressReport:
    counts = {"shard": shard, "shards": shards, "done": done, "total": total}
    return ProgressReport(target=TARGET, **counts, unit="trajectories", metrics=metrics or {})


def with_progress(status: Status, step: str, reports: tuple[ProgressReport, ...]) -> Status:
    """The status with what the board makes of the reports."""
    board = ProgressBoard()
    for one in reports:
        board.report(one)
    place = Place(TARGET.kind, TARGET.namespace, TARGET.name, TARGET.uid)
    return state.with_progress(status, step, board.of(place, TARGET.attempt, TARGET.step))


def shown(status: Status) -> str:
    return status.progress_text


def test_the_shards_reports_are_added_up() -> None:
    status = with_progress(Status(), "generate", (report(0, 4), report(2, 1)))
    assert shown(status) == "5/20 trajectories"
    assert status.progress is not None
    assert status.progress.done_by_shard == (4, 0, 1)
    assert status.progress.total_by_shard == (10, 0, 10)


def test_after_a_restart_of_the_operator_shards_that_say_nothing_more_still_count() -> None:
    before = with_progress(Status(), "generate", (report(0, 10), report(1, 10), report(2, 3)))
    assert shown(with_progress(before, "generate", (report(2, 4),))) == "24/30 trajectories"
    assert shown(with_progress(before, "generate", ())) == "23/30 trajectories"


def test_a_shard_that_starts_anew_from_its_last_part_takes_nothing_back() -> None:
    before = with_progress(Status(), "generate", (report(0, 8), report(1, 5)))
    after = with_progress(before, "generate", (report(0, 2), report(1, 6)))
    assert shown(after) == "14/20 trajectories"


def test_a_single_pod_needs_no_list_and_goes_back_no_more_than_shards_do() -> None:
    before = with_progress(Status(), "generate", (report(0, 8, shards=1),))
    assert before.progress is not None
    assert before.progress.done_by_shard == ()
    assert shown(with_progress(before, "generate", (report(0, 2, shards=1),))) == "8/10 trajectories"


def test_with_very_many_shards_the_sum_still_never_goes_back() -> None:
    many = MAX_COUNTED_SHARDS + 1
    before = with_progress(Status(), "generate", (report(0, 5, shards=many), report(1, 5, shards=many)))
    assert before.progress is not None
    assert before.progress.done_by_shard == ()
    assert shown(with_progress(before, "generate", (report(0, 6, shards=many),))) == "10/20 trajectories"


def test_another_step_and_another_attempt_count_from_nothing() -> None:
    before = with_progress(Status(attempt=1), "generate", (report(0, 8, shards=1),))
    assert shown(with_progress(before, "collect", (report(0, 1, shards=1),))) == "1/10 trajectories"
    anew = next_attempt(before, "generate")
    assert (anew.progress, shown(anew)) == (None, "")
    assert shown(with_progress(anew, "generate", (report(0, 1, shards=1),))) == "1/10 trajectories"


@pytest.mark.bad_input
def test_pods_that_invent_names_of_metrics_do_not_fill_the_status() -> None:
    status = Status()
    for n in range(40):
        status = with_progress(status, "generate", (report(0, 1, metrics={f"m{n}-{k}": 1.0 for k in range(64)}),))
    assert len(status.metrics) == state.MAX_LIVE_METRICS


def test_what_a_step_warns_of_becomes_a_condition_and_stays() -> None:
    at = Moment("2026-01-01T00:00:00Z", 3)
    odd = JobWarning(reason="DataImplausible", message="review.json: line 5: a time in the year 1970")
    more = JobWarning(reason="DataLeftOut", message="item.json: 1 of 9 left out")
    artifact = ArtifactRef(uri="s3://star/x", digest="sha256:" + "0" * 64)
    done = step_done(Status(attempt=1), "prepare", JobResult(artifact=artifact, warnings=(odd, more)))
    told_of = told(run_done(done, at), at, Phase.SUCCEEDED, "Succeeded", "artifact stored")
    warned = find(told_of.conditions, WARNINGS)
    assert warned is not None
    assert (warned.status, warned.reason, warned.observed_generation) == ("True", "DataImplausible", 3)
    assert warned.message == f"{odd.message}; {more.message}"
    assert find(told(Status(), at, Phase.SUCCEEDED, "Succeeded", "artifact stored").conditions, WARNINGS) is None
