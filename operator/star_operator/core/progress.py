"""The progress reports of running jobs since this process started, in memory: what they add up to is in the status."""

from collections.abc import MutableMapping
from typing import Any

from star_contracts.progress import ProgressReport

MAX_RESOURCES = 10_000
MAX_STEPS = 16
"""Of one resource, over its attempts. The oldest are dropped: who reports may name what there is not."""


class ProgressBoard:
    """The latest report of every shard, by resource UID and (attempt, step)."""

    def __init__(self) -> None:
        self._reports: dict[str, dict[tuple[int, str], dict[int, ProgressReport]]] = {}

    def report(self, report: ProgressReport) -> None:
        """Keep a report in place of the shard's last one."""
        target = report.target
        steps = self._reports.setdefault(target.uid, {})
        steps.setdefault((target.attempt, target.step), {})[report.shard] = report
        _keep_newest(steps, MAX_STEPS)
        _keep_newest(self._reports, MAX_RESOURCES)

    def of(self, uid: str, attempt: int, step: str) -> tuple[ProgressReport, ...]:
        """Return the shards' latest reports of a step."""
        shards = self._reports.get(uid, {}).get((attempt, step), {})
        return tuple(shards[index] for index in sorted(shards))

    def forget(self, uid: str) -> None:
        """Drop what was reported for a resource that has ended."""
        self._reports.pop(uid, None)


def _keep_newest(entries: MutableMapping[Any, Any], most: int) -> None:
    while len(entries) > most:
        del entries[next(iter(entries))]
