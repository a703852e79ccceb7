"""Progress reports: sent when they can be, never in the way."""

import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from star_contracts.progress import ProgressReport, ProgressTarget, pause_seconds
from star_jobs import reporting
from star_jobs.reporting import Reporter


class Operator(ThreadingHTTPServer):
    """Keeps what it is sent."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.received: list[tuple[str | None, ProgressReport]] = []
        self.standing_by = 0
        """So many reports come to a replica that does not lead."""

    def target(self) -> ProgressTarget:
        url = f"http://127.0.0.1:{self.server_port}/v1/progress"
        return ProgressTarget(url=url, kind="SFTJob", namespace="ns", name="n", uid="u", attempt=1, step="train")


class Handler(BaseHTTPRequestHandler):
    server: Operator

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"]))
        if self.server.standing_by:
            self.server.standing_by -= 1
            self.send_response(503)
            self.send_header("Retry-After", "0")
            self.send_header("Content-Length", "0")
            self.end_headers()
            return
        self.server.received.append((self.headers["Authorization"], ProgressReport.model_validate_json(body)))
        self.send_response(202)
        self.end_headers()

    def log_message(self, *_args: object) -> None:
        return


@pytest.fixture
def operator() -> Iterator[Operator]:
    with Operator() as server:
        thread = threading.Thread(target=server.serve_forever, daemon=True)
        thread.start()
        yield server
        server.shutdown()


def test_the_newest_figures_arrive_with_the_token(operator: Operator, tmp_path: Path) -> None:
    (tmp_path / "token").write_text("secret-token\n")
    reporter = Reporter(operator.target(), shard=1, shards=4, token=tmp_path / "token")
    for done in range(1000):
        reporter.report(done, 1000, "steps", {"loss": 0.5})
    reporter.close()
    authorization, last = operator.received[-1]
    assert authorization == "Bearer secret-token"
    assert (last.done, last.total, last.unit, last.shard, last.shards, last.metrics) == (
        999,
        1000,
        "steps",
        1,
        4,
        {"loss": 0.5},
    )
    assert len(operator.received) <= 3, "a thousand figures at once are one or two reports"


@pytest.mark.parametrize("url", ["http://127.0.0.1:1/v1/progress", "not a url", "http://[::bad"])
def test_an_operator_that_is_gone_is_no_trouble(url: str, operator: Operator) -> None:
    reporter = Reporter(operator.target().model_copy(update={"url": url}), shard=0, shards=1)
    began = time.monotonic()
    for done in range(100):
        reporter.report(done, 100, "steps", {})
    assert time.monotonic() - began < 0.5
    reporter.close()
    assert time.monotonic() - began < reporting.INTERVAL_SECONDS + 5


def test_figures_that_make_no_sense_are_dropped(operator: Operator) -> None:
    reporter = Reporter(operator.target(), shard=0, shards=1)
    reporter.report(-1, 10, "steps", {})
    reporter.close()
    assert operator.received == []


def test_without_a_target_nothing_is_started() -> None:
    before = threading.active_count()
    reporter = Reporter(None, shard=0, shards=1)
    reporter.report(1, 2, "steps", {})
    reporter.close()
    assert threading.active_count() == before


def test_a_metric_that_is_no_number_costs_no_report(operator: Operator, tmp_path: Path) -> None:
    reporter = Reporter(operator.target(), shard=0, shards=1, token=tmp_path / "none")
    reporter.report(3, 10, "steps", {"loss": float("nan"), "grad": float("inf"), "seconds": 2.0})
    reporter.close()
    _, last = operator.received[-1]
    assert (last.done, last.metrics) == (3, {"seconds": 2.0})


def test_a_report_that_reached_a_replica_that_stands_by_is_sent_again(
    operator: Operator, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(reporting, "INTERVAL_SECONDS", 0.01)
    operator.standing_by = 3
    reporter = Reporter(operator.target(), shard=0, shards=1, token=tmp_path / "none")
    reporter.report(3, 10, "steps", {})
    deadline = time.monotonic() + 30
    while not operator.received and time.monotonic() < deadline:
        threading.Event().wait(0.01)
    reporter.close()
    assert [report.done for _, report in operator.received] == [3]


def test_an_operator_that_never_takes_a_report_does_not_hold_up_the_end(operator: Operator, tmp_path: Path) -> None:
    operator.standing_by = 10**6
    reporter = Reporter(operator.target(), shard=0, shards=1, token=tmp_path / "none")
    reporter.report(3, 10, "steps", {})
    began = time.monotonic()
    reporter.close()
    assert time.monotonic() - began < 30
    assert operator.received == []


@pytest.mark.bad_input
@pytest.mark.parametrize(
    ("said", "seconds"),
    [(None, 1), ("", 1), ("5", 5), ("0", 0), ("-1", 1), ("1e9", 1), ("99999999", 30), ("soon", 1), ("\u0665", 1)],
)
def test_how_long_to_wait_is_taken_from_the_answer_within_reason(said: str | None, seconds: float) -> None:
    assert pause_seconds(said) == seconds
