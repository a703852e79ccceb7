"""Two runs share a server, and the operator is killed, or the API server fails, before and after each single call.

Whatever call it is: at no moment has a server neither a user nor a mark that says since when it is idle, and after each
chapter of the story all is as if nothing had happened. The garbage collector is played by the test.
"""

import asyncio
import copy
import time
from collections.abc import Awaitable, Callable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from star_contracts.artifact import ArtifactRef
from star_contracts.result import JobResult
from star_operator.core.errors import Retryable, StarError
from star_operator.core.labels import LABEL_COMPONENT, LABEL_SERVER, LEADER
from star_operator.core.objects import KubeObject
from star_operator.core.queue import Key
from star_operator.kube.servers import Hands
from star_operator.reconcilers.evaluation import KIND
from star_operator.reconcilers.llmserver import LLMServerReconciler
from star_operator.reconcilers.run import RunReconciler
from tests.support.clock import Clock, Recorder
from tests.support.fakecluster import FakeCluster
from tests.support.goldens import settings
from tests.support.star import DATASET, DIGEST, checkpoint, star

NAMESPACE = "team"
RESULT = JobResult(artifact=ArtifactRef(uri="s3://star/x", digest=DIGEST), bytes=1, reused=True)
RUNS = ("first", "second", "third")


class Killed(BaseException):
    """The operator's process ends."""


class Fragile(FakeCluster):
    """Kills the operator, or fails, before or after one call; collects garbage as Kubernetes does."""

    def __init__(self) -> None:
        super().__init__()
        self.calls: list[str] = []
        self.fails_at, self.fails_after, self.error = -1, False, "kill"

    async def _disturbed(self, name: str, call: Callable[[], Awaitable[Any]]) -> Any:
        number = len(self.calls)
        self.calls.append(name)
        if number == self.fails_at and not self.fails_after:
            self._fail()
        found = await call()
        self.nothing_leaks()
        if number == self.fails_at and self.fails_after:
            self._fail()
        return found

    def _fail(self) -> None:
        raise Killed if self.error == "kill" else Retryable("InternalError", "etcd is slow")

    def nothing_leaks(self) -> None:
        """A server is somebody's, or is marked as idle."""
        for anchor in self.servers():
            hands = Hands.of(anchor)
            assert bool(hands.users) != bool(hands.idle_since), anchor["metadata"]

    def servers(self) -> Iterator[KubeObject]:
        return (one for one in self.of("Service") if LABEL_SERVER in one["metadata"].get("labels", {}))

    def resume(self, objects: dict[Any, KubeObject]) -> None:
        """Be as another cluster was: its versions and UIDs go on."""
        self.objects = copy.deepcopy(objects)
        self._count = self._versions = 10_000

    def collect(self) -> bool:
        """Remove what has lost all of its owners, and references to owners that are gone."""
        uids = {obj["metadata"]["uid"] for obj in self.objects.values()}
        for place, obj in list(self.objects.items()):
            owners = obj["metadata"].get("ownerReferences") or []
            left = [one for one in owners if one["uid"] in uids]
            if owners and not left:
                del self.objects[place]
                return True
            if left != owners:
                obj["metadata"] |= {"ownerReferences": left, "resourceVersion": self.next_version()}
        return False


def _wrapped(name: str) -> Any:
    plain = getattr(FakeCluster, name)

    async def call(self: Fragile, *args: Any, **named: Any) -> Any:
        return await self._disturbed(name, lambda: plain(self, *args, **named))

    return call


for _name in ("get", "list_objects", "apply", "claim", "apply_status", "create", "merge", "delete", "delete_pod"):
    setattr(Fragile, _name, _wrapped(_name))


class Story:
    """Three runs on one server, chapter by chapter."""

    def __init__(
        self, chapter: "Chapter | None" = None, fails_at: int = -1, *, after: bool = False, error: str = "kill"
    ) -> None:
        self.cluster = Fragile()
        self.cluster.fails_at, self.cluster.fails_after, self.cluster.error = fails_at, after, error
        self.time, self.number = datetime(2026, 1, 1, tzinfo=UTC), 0
        if chapter is not None:
            self.cluster.resume(chapter.objects)
            self.time = chapter.time
            self.starts()
            return
        self.starts()
        data = {"AWS_ACCESS_KEY_ID": "aWQ=", "AWS_SECRET_ACCESS_KEY": "a2V5"}
        secret = {"name": settings().store.secret_name, "namespace": NAMESPACE}
        self.cluster.add({"apiVersion": "v1", "kind": "Secret", "metadata": secret, "data": data})
        dataset = star("RecDataset", NAMESPACE, "d", DATASET)
        dataset["status"] = {"phase": "Succeeded", "artifact": {"uri": "s3://star/d", "digest": DIGEST}}
        self.cluster.add(dataset)
        self.cluster.add(checkpoint(NAMESPACE, "base", "sha256:" + "1" * 64))

    def starts(self) -> None:
        """An operator starts: it knows nothing."""
        self.context = Clock(self.cluster, settings(), Recorder(time.monotonic), time=self.time)
        self.runs = RunReconciler(KIND, self.context)
        self.idle = LLMServerReconciler(self.context)

    def make(self, *names: str) -> None:
        model = {"server": {"model": {"checkpoint": "base"}}}
        for name in names:
            spec = {"dataset": {"name": "d"}, "llm": model, "settings": {"tools": False}}
            made = star("Evaluation", NAMESPACE, name, spec)
            made["metadata"]["uid"] = f"{self.number:02d}-{name}"  # names of keys have the beginning of it
            self.cluster.add(made)

    def suspend(self, name: str, suspended: bool) -> None:
        self.cluster.objects["Evaluation", NAMESPACE, name]["spec"]["suspend"] = suspended

    def asks(self, name: str) -> None:
        """The run's pod needs its model."""
        self._pod(name, {"phase": "Running", "conditions": [{"type": "Ready", "status": "True"}]})

    def finishes(self, name: str) -> None:
        state = {"terminated": {"message": RESULT.termination_message(), "exitCode": 0}}
        self._pod(name, {"phase": "Succeeded", "containerStatuses": [{"name": "main", "state": state}]})
        self._job(name)["status"] = {"conditions": [{"type": "Complete", "status": "True"}], "succeeded": 1}

    def _job(self, name: str) -> KubeObject:
        jobs = [one for one in self.cluster.of("Job") if one["metadata"]["labels"]["star.recsys.dev/name"] == name]
        [job] = [one for one in jobs if not one.get("status")]
        return job

    def _pod(self, name: str, status: dict[str, Any]) -> None:
        job = self._job(name)
        labels = {**job["metadata"]["labels"], "batch.kubernetes.io/job-name": job["metadata"]["name"]}
        meta = {"name": f"{job['metadata']['name']}-0", "namespace": NAMESPACE, "labels": labels}
        pod = {"apiVersion": "v1", "kind": "Pod", "metadata": meta, "spec": {"containers": [{"name": "main"}]}}
        self.cluster.add({**pod, "status": status})

    def answers(self) -> None:
        """The server is up."""
        [deployment] = self.cluster.of("Deployment")
        labels = {LABEL_SERVER: deployment["metadata"]["name"], LABEL_COMPONENT: LEADER}
        owners = [{"uid": deployment["metadata"]["uid"]}]
        meta = {"name": "server-0", "namespace": NAMESPACE, "labels": labels, "ownerReferences": owners}
        status = {"phase": "Running", "conditions": [{"type": "Ready", "status": "True"}]}
        self.cluster.add({"apiVersion": "v1", "kind": "Pod", "metadata": meta, "spec": {}, "status": status})

    def goes_on(self) -> Any:
        """Everybody looks until nothing changes any more, through a crash or a failure."""
        before = None
        for _ in range(40):
            disturbed = False
            for key in self._keys():
                reconciler = self.idle if key.kind == "LLMServer" else self.runs
                try:
                    asyncio.run(reconciler.reconcile(key))
                except Killed:
                    self.starts()
                    disturbed = True
                except StarError:
                    disturbed = True
            collected = self.cluster.collect()
            now = self._state()
            if now == before and not collected and not disturbed:
                self._passes(1)
                return now
            before = now
        raise AssertionError("it never settles")

    def _keys(self) -> list[Key]:
        runs = [Key("Evaluation", NAMESPACE, name) for name in RUNS]
        return [*runs, *(Key("LLMServer", NAMESPACE, one["metadata"]["name"]) for one in self.cluster.servers())]

    def _state(self) -> Any:
        """All there is, with names in place of UIDs."""
        names = {obj["metadata"]["uid"]: f"{place[0]}/{place[2]}" for place, obj in self.cluster.objects.items()}
        found = {}
        for place, obj in self.cluster.objects.items():
            if place[0] == "Event":
                continue
            meta = obj["metadata"]
            owners = sorted(names.get(one["uid"], "?") for one in meta.get("ownerReferences") or [])
            status = obj.get("status", {})
            steps = [(one["name"], one["phase"]) for one in status.get("steps", [])]
            idle = "star.recsys.dev/idle-since" in meta.get("annotations", {})
            found[place] = (owners, idle, obj.get("spec"), status.get("phase"), status.get("attempt"), steps)
        return copy.deepcopy(found)

    def chapters(self) -> list[Callable[[], None]]:
        """What happens, one after the other."""
        return [
            lambda: self.make("first", "second"),
            lambda: self.asks("first"),
            self.answers,
            lambda: self.asks("second"),
            lambda: self.finishes("first"),
            lambda: self.suspend("second", True),
            lambda: self.suspend("second", False),
            lambda: self.asks("second"),
            lambda: self.make("third"),
            lambda: self.asks("third"),
            lambda: self.finishes("second"),
            lambda: self._delete("third"),
            lambda: self.make("third"),
            lambda: self.asks("third"),
            lambda: self.finishes("third"),
            self._waits,
        ]

    def tell(self, number: int) -> Any:
        """Tell a chapter, and return how things are at its end."""
        self.cluster.calls.clear()
        self.number = number
        self.chapters()[number]()
        return self.goes_on()

    def _delete(self, name: str) -> None:
        del self.cluster.objects["Evaluation", NAMESPACE, name]
        while self.cluster.collect():
            pass

    def _waits(self) -> None:
        self._passes(settings().llm_idle_seconds + 1)

    def _passes(self, seconds: float) -> None:
        self.time += timedelta(seconds=seconds)
        self.context.time = self.time


WRITES = {"apply", "claim", "apply_status", "create", "merge", "delete", "delete_pod"}


@dataclass(frozen=True)
class Chapter:
    """How things are before a chapter and after it, and the calls in between, when nothing goes wrong."""

    objects: dict[Any, KubeObject]
    time: datetime
    calls: tuple[str, ...]
    end: Any


def _as_it_should_be() -> list[Chapter]:
    story, found = Story(), []
    for number in range(len(story.chapters())):
        objects, moment = copy.deepcopy(story.cluster.objects), story.context.time
        end = story.tell(number)
        found.append(Chapter(objects, moment, tuple(story.cluster.calls), end))
    return found


CHAPTERS = _as_it_should_be()


def test_the_story_as_it_should_be() -> None:
    servers = [[place for place in chapter.end if place[0] in ("Service", "Deployment")] for chapter in CHAPTERS]
    assert [len(found) for found in servers] == [0, *[2] * 10, 0, 0, 2, 2, 0]
    users = [[end[0] for place, end in chapter.end.items() if place[0] == "Service"] for chapter in CHAPTERS]
    both = [["Evaluation/first", "Evaluation/second"]]
    assert users[3] == both
    assert users[5] == [[]], "idle"
    assert users[9] == [["Evaluation/second", "Evaluation/third"]]
    assert {"merge", "create", "delete"} <= {call for chapter in CHAPTERS for call in chapter.calls}


@pytest.mark.parametrize("error", ["kill", "fail"])
@pytest.mark.parametrize("number", range(len(CHAPTERS)))
def test_whatever_call_it_is_nothing_leaks_and_the_end_is_the_same(number: int, error: str) -> None:
    chapter = CHAPTERS[number]
    for at, call in enumerate(chapter.calls):
        for after in (False, True) if call in WRITES else (False,):  # after a read is before the next call
            story = Story(chapter, at, after=after, error=error)
            assert story.tell(number) == chapter.end, (at, call, after)
