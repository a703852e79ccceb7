"""Progress reports to the operator: a hint for people, so they never fail, block or slow a job."""

import contextlib
import math
import threading
from pathlib import Path

import httpx

from star_contracts.progress import LATER, TOKEN_PATH, ProgressReport, ProgressTarget, pause_seconds

INTERVAL_SECONDS = 2.0
"""At most one report in this time; only the newest figures are sent."""
_TIMEOUT_SECONDS = 3.0


class Reporter:
    """Sends the newest report from a background thread; with no target it does nothing."""

    def __init__(self, target: ProgressTarget | None, shard: int, shards: int, token: Path = Path(TOKEN_PATH)) -> None:
        self._target = target
        self._shard, self._shards = shard, max(shards, shard + 1)
        self._token = token
        self._newest: ProgressReport | None = None
        self._lock = threading.Lock()
        self._wake = threading.Event()
        self._closed = threading.Event()
        self._thread = threading.Thread(target=self._loop, name="progress", daemon=True)
        if target is not None:
            self._thread.start()

    def report(self, done: int, total: int, unit: str, metrics: dict[str, float]) -> None:
        """Note the newest figures. Returns at once; metrics that are no numbers are left out, odd reports dropped."""
        if self._target is None:
            return
        with contextlib.suppress(ValueError):
            report = ProgressReport(
                target=self._target,
                shard=self._shard,
                shards=self._shards,
                done=done,
                total=total,
                unit=unit,
                metrics={name: value for name, value in metrics.items() if math.isfinite(value)},
            )
            with self._lock:
                self._newest = report
            self._wake.set()

    def close(self) -> None:
        """Send what is left, waiting a moment at most."""
        if self._target is not None:
            self._closed.set()
            self._wake.set()
            self._thread.join(timeout=_TIMEOUT_SECONDS)

    def _loop(self) -> None:
        with httpx.Client(timeout=_TIMEOUT_SECONDS, trust_env=False) as client:
            while not (self._closed.is_set() and self._newest is None):
                self._wake.wait()
                self._wake.clear()
                with self._lock:
                    report, self._newest = self._newest, None
                pause = self._send(client, report) if report is not None else None
                if pause is not None:
                    self._keep(report)
                self._closed.wait(max(INTERVAL_SECONDS, pause or 0.0))

    def _keep(self, report: ProgressReport | None) -> None:
        """Send a report once more, unless there is a newer one; after the end there is no time for that."""
        with self._lock:
            if self._newest is None and not self._closed.is_set():
                self._newest = report
        self._wake.set()

    def _send(self, client: httpx.Client, report: ProgressReport) -> float | None:
        """Send a report; return the seconds after which it can be sent once more, where it was not taken."""
        # A report that cannot be sent is lost on purpose: the next one carries newer figures anyway.
        with contextlib.suppress(Exception):
            headers = {"Content-Type": "application/json"}
            if self._token.is_file():  # read each time: the kubelet rotates it
                headers["Authorization"] = f"Bearer {self._token.read_text().strip()}"
            answer = client.post(report.target.url, content=report.model_dump_json(by_alias=True), headers=headers)
            if answer.status_code in LATER:
                return pause_seconds(answer.headers.get("Retry-After"))
        return None
