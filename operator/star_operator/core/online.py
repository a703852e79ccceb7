"""What gateways have counted, in memory: the latest report of each process, by the deployment that it is of.

Who reports is known by its namespace alone, and may name what there is not: so all is bounded within a namespace, and
no namespace's reports push out another's. What is to be kept is in the deployments' statuses.
"""

from collections.abc import Mapping, MutableMapping
from dataclasses import dataclass
from typing import Any

from star_contracts.online import REPORT_SECONDS, OnlineCounts, OnlineReport

MAX_DEPLOYMENTS = 64
"""Of one namespace. The oldest are dropped."""
MAX_INSTANCES = 128
"""Gateway processes of one deployment."""
SILENT_SECONDS = 3.5 * REPORT_SECONDS
"""A process that has not reported for so long has ended."""
WARM_SECONDS = 1.5 * REPORT_SECONDS
"""So long after this process began to listen all that live have reported."""
LOOK_SECONDS = 60
"""A deployment is looked at because of its figures no more often."""
KEEP_FRESH_SECONDS = 1800
"""A deployment is looked at so often even where its figures stay."""
CHANGE = 0.02
"""What changes by less of itself is no news."""

Place = tuple[str, str]
"""A deployment's name and UID."""


@dataclass(frozen=True)
class _Heard:
    at: float
    revisions: Mapping[str, OnlineCounts]


@dataclass(frozen=True)
class _Told:
    at: float
    sums: dict[str, OnlineCounts]


class OnlineBoard:
    """The latest report of every gateway process. All times are seconds of one clock, which the caller reads."""

    def __init__(self, now: float) -> None:
        """Begin to listen."""
        self._begun = now
        self._heard: dict[str, dict[Place, dict[str, _Heard]]] = {}
        self._told: dict[str, dict[str, _Told]] = {}
        """By namespace and name: whoever invents UIDs of a deployment has it looked at no more often."""
        self._swept = now

    def take(self, report: OnlineReport, now: float) -> bool:
        """Keep a report in place of the process's last one. Returns whether the deployment is to be looked at."""
        target = report.target
        namespace, place = target.namespace, (target.name, target.uid)
        self._sweep(now)
        places = self._heard.setdefault(namespace, {})
        instances = places.pop(place, {})
        places[place] = instances
        instances.pop(report.instance, None)
        instances[report.instance] = _Heard(now, report.revisions)
        _keep_newest(instances, MAX_INSTANCES)
        while len(places) > MAX_DEPLOYMENTS:
            del places[next(iter(places))]
        return self._is_news(namespace, place, now)

    def sums(self, namespace: str, name: str, uid: str, now: float) -> dict[str, OnlineCounts] | None:
        """Return what the processes that live have counted together, by revision.

        None while not all of them can have reported: this process has just begun to listen, or none has been heard.
        """
        instances = self._heard.get(namespace, {}).get((name, uid), {})
        for gone in [key for key, one in instances.items() if now - one.at > SILENT_SECONDS]:
            del instances[gone]
        if not instances or now - self._begun < WARM_SECONDS:
            return None
        found: dict[str, OnlineCounts] = {}
        reported = [one.revisions for one in instances.values()]
        for revision in {name for revisions in reported for name in revisions}:
            found[revision] = OnlineCounts.sum(one[revision] for one in reported if revision in one)
        return found

    def _sweep(self, now: float) -> None:
        """Forget what has been silent: deployments and namespaces come and go while this process lives."""
        if now - self._swept < SILENT_SECONDS:
            return
        self._swept = now
        for namespace, places in [*self._heard.items()]:
            for place, instances in [*places.items()]:
                for gone in [key for key, one in instances.items() if now - one.at > SILENT_SECONDS]:
                    del instances[gone]
                if not instances:
                    del places[place]
            if not places:
                del self._heard[namespace]
        for namespace in [*self._told]:
            self._told[namespace] = {
                name: one for name, one in self._told[namespace].items() if now - one.at <= KEEP_FRESH_SECONDS
            }
            if not self._told[namespace]:
                del self._told[namespace]

    def _is_news(self, namespace: str, place: Place, now: float) -> bool:
        told, name = self._told.setdefault(namespace, {}), place[0]
        last = told.get(name)
        if last is None and len(told) >= MAX_DEPLOYMENTS:
            told = self._told[namespace] = {key: one for key, one in told.items() if now - one.at < LOOK_SECONDS}
            if len(told) >= MAX_DEPLOYMENTS:  # more names than there can be: somebody invents them
                return False
        if last is not None and now - last.at < LOOK_SECONDS:  # before anything is added up: reports are cheap to send
            return False
        sums = self.sums(namespace, *place, now)
        if sums is None:
            return False
        if last is not None and now - last.at < KEEP_FRESH_SECONDS and not _differ(last.sums, sums):
            return False
        told[name] = _Told(now, sums)
        return True


def _differ(before: dict[str, OnlineCounts], after: dict[str, OnlineCounts]) -> bool:
    if before.keys() != after.keys():
        return True
    pairs = ((before[name].model_dump(), after[name].model_dump()) for name in after)
    return any(abs(new[key] - old[key]) > CHANGE * max(1, old[key]) for old, new in pairs for key in new)


def _keep_newest(entries: MutableMapping[Any, Any], most: int) -> None:
    while len(entries) > most:
        del entries[next(iter(entries))]
