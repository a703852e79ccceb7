import io
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from rich.console import Console

from star_cli import follow as module
from star_cli.errors import StarctlError
from star_cli.follow import Lines, Tracker, Watch, all_ended, follow, table
from star_cli.local.errors import LocalClusterError
from star_cli.local.progress import clock_text
from star_cli.resources import StarResource, list_resources
from star_operator.api.evaluation import Evaluation
from star_operator.api.stardeployment import StarDeployment

NOW = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)


def evaluation(phase: str = "Running", message: str = "step evaluate is running", **status: Any) -> StarResource:
    condition = {"type": "Ready", "status": "False", "reason": "R", "message": message}
    return Evaluation.parse(
        {
            "apiVersion": "star.recsys.dev/v1alpha1",
            "kind": "Evaluation",
            "metadata": {"name": "base", "uid": "u"},
            "spec": {"dataset": {"name": "d"}, "settings": {"tools": False}},
            "status": {"phase": phase, "attempt": 1, "conditions": [condition], **status},
        }
    )


def progress(done: int, total: int = 40) -> dict[str, Any]:
    return {"progress": {"done": done, "total": total, "unit": "answers", "step": "evaluate"}}


def test_time_left_follows_from_the_pace_seen_since_the_step_was_first_seen() -> None:
    tracker = Tracker()
    first = tracker.rows([evaluation(**progress(10))], NOW)[0]
    assert first.left_seconds is None, "one look tells no pace"
    later = tracker.rows([evaluation(**progress(20))], NOW + timedelta(seconds=30))[0]
    assert later.left_seconds == 60.0
    assert later.share == 0.5
    assert later.doing == "evaluate 20/40 answers"


def test_another_attempt_is_another_pace() -> None:
    tracker = Tracker()
    tracker.rows([evaluation(**progress(10))], NOW)
    again = evaluation(**{**progress(2), "attempt": 2})
    assert tracker.rows([again], NOW + timedelta(seconds=30))[0].left_seconds is None


def test_a_waiting_resource_says_why_and_a_finished_one_its_result() -> None:
    waiting = Tracker().rows([evaluation("Waiting", "spec.dataset: RecDataset d is still Running")], NOW)[0]
    assert waiting.says == "spec.dataset: RecDataset d is still Running"
    done = evaluation("Succeeded", headline="hrAvg 0.61", **progress(40))
    row = Tracker().rows([done], NOW)[0]
    assert (row.says, row.doing) == ("hrAvg 0.61", "")


def test_time_at_work_ends_with_the_resource() -> None:
    times = {"startTime": "2026-01-02T03:00:00Z", "completionTime": "2026-01-02T03:01:30Z"}
    assert Tracker().rows([evaluation("Succeeded", **times)], NOW)[0].seconds == 90.0
    assert Tracker().rows([evaluation(startTime=times["startTime"])], NOW)[0].seconds == 245.0


def test_a_failure_ends_it_with_the_resources_own_sentence() -> None:
    rows = Tracker().rows([evaluation("Failed", "spec.dataset: no such bucket; correct spec.source.uri")], NOW)
    with pytest.raises(StarctlError, match=r"Evaluation/base is Failed: .* correct spec.source.uri"):
        all_ended(rows)


def test_what_was_applied_but_is_not_listed_yet_is_waited_for() -> None:
    rows = Tracker().rows([evaluation("Succeeded")], NOW)
    assert all_ended(rows)
    assert not all_ended(rows, frozenset({"Evaluation/base", "SFTJob/sft"}))


def lines_of(looks: list[tuple[float, StarResource]]) -> list[str]:
    clock = iter([0.0, *(at for at, _ in looks)])
    console = Console(file=io.StringIO(), width=200)
    screen, tracker = Lines(console, lambda: next(clock)), Tracker()
    for at, resource in looks:
        screen.show(tracker.rows([resource], NOW + timedelta(seconds=at)))
    assert isinstance(console.file, io.StringIO)
    return console.file.getvalue().splitlines()


def test_without_a_terminal_there_is_a_line_for_each_change_and_progress_is_not_chatty() -> None:
    looks = [
        (1.0, evaluation("Waiting", "no dataset yet")),
        (2.0, evaluation("Waiting", "no dataset yet")),
        (2.2, evaluation("Waiting", "RecDataset d is Running (1/8 files)")),
        (2.4, evaluation("Waiting", "RecDataset d is Running (2/8 files)")),
        (3.0, evaluation(**progress(1))),
        (5.0, evaluation(**progress(2))),
        (20.0, evaluation(**progress(9))),
        (21.0, evaluation("Succeeded", headline="hrAvg 0.61")),
    ]
    assert [line.split(": ", 1)[1] for line in lines_of(looks)] == [
        "Waiting  no dataset yet",
        "Waiting  RecDataset d is Running (1/8 files)",
        "Running  evaluate 1/40 answers  step evaluate is running",
        "Running  evaluate 9/40 answers  about 1:05 left  step evaluate is running",
        "Succeeded  hrAvg 0.61",
    ]


def test_the_table_shows_every_resource_with_phase_and_reason() -> None:
    console = Console(file=io.StringIO(), width=160)
    console.print(table(Tracker().rows([evaluation(**progress(10))], NOW)))
    assert isinstance(console.file, io.StringIO)
    text = console.file.getvalue()
    assert "Evaluation/base" in text
    assert "evaluate 10/40 answers. step evaluate is running" in text


@pytest.mark.parametrize(("seconds", "text"), [(None, ""), (0, "0:00"), (61.9, "1:01"), (3661, "1:01:01")])
def test_clock(seconds: float | None, text: str) -> None:
    assert clock_text(seconds) == text


class Api:
    """An API server with one Evaluation that ends after some looks, and that fails now and then."""

    def __init__(self, looks: int, failures: int = 0) -> None:
        self.looks, self.failures = looks, failures

    def get(self, path: str) -> dict[str, Any] | None:
        if not path.endswith("/evaluations"):
            return None if path.endswith("/stardeployments") else {"items": []}
        if self.failures:
            self.failures -= 1
            raise LocalClusterError("the API server does not answer")
        self.looks -= 1
        phase = "Succeeded" if self.looks <= 0 else "Running"
        body = {"metadata": {"name": "base"}, "spec": {"dataset": {"name": "d"}, "settings": {"tools": False}}}
        return {"items": [{**body, "status": {"phase": phase, "headline": "hrAvg 0.61"}}]}


@pytest.fixture
def fast(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "POLL_SECONDS", 0.0)


@pytest.mark.usefixtures("fast")
def test_follow_returns_what_ended_and_outlives_an_api_server_that_hiccups() -> None:
    watch = Watch(Api(looks=3, failures=2), "ns", frozenset({"Evaluation/base"}))
    ended = follow(watch, Console(file=io.StringIO()))
    assert [one.metadata.name for one in ended] == ["base"]


@pytest.mark.usefixtures("fast")
def test_follow_on_a_terminal() -> None:
    console = Console(file=io.StringIO(), force_terminal=True, width=120)
    follow(Watch(Api(looks=2), "ns"), console)
    assert isinstance(console.file, io.StringIO)
    assert "hrAvg 0.61" in console.file.getvalue()


@pytest.mark.usefixtures("fast")
def test_the_deadline_says_what_was_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    watch = Watch(Api(looks=10**9), "ns", deadline_seconds=0.0)
    with pytest.raises(StarctlError, match=r"not done within 0:00; unfinished:\nEvaluation/base is Running"):
        follow(watch, Console(file=io.StringIO()))


def test_a_gated_deployment_is_a_failure() -> None:
    message = "hrAvg measured 0.2, required >= 0.9; nothing is served"
    body = {
        "apiVersion": "star.recsys.dev/v1alpha1",
        "kind": "StarDeployment",
        "metadata": {"name": "star"},
        "spec": {"checkpoint": {"checkpoint": "grpo"}, "dataset": {"name": "d"}},
        "status": {
            "phase": "Gated",
            "conditions": [{"type": "Ready", "status": "False", "reason": "GateFailed", "message": message}],
        },
    }
    with pytest.raises(StarctlError, match=r"measured 0\.2, required >= 0.9"):
        all_ended(Tracker().rows([StarDeployment.parse(body)], NOW))


def test_kinds_that_are_not_installed_have_no_resources() -> None:
    assert [one.kind for one in list_resources(Api(looks=1), "ns")] == ["Evaluation"]
