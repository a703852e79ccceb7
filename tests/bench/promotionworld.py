"""What promotions are measured in: a control plane, the operator, a forge and Argo CD, and whoever watches them."""

import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

from kubernetes import client

from star_contracts.names import GROUP, VERSION
from star_contracts.result import JobResult
from tests.e2e_promotion.test_storyline import Story
from tests.integration.conftest import open_control_plane
from tests.support.fakekubelet import fake_kubelet
from tests.support.gitops import PROMOTIONS, open_site
from tests.support.operator import OperatorProcess
from tests.support.promoting import promote_here
from tests.support.stretches import Stretch
from tests.support.stubs3 import Reply, stub_s3
from tests.support.watching import Sighting, Watched, watching

KINDS = {
    **dict.fromkeys(("checkpoints", "promotions", "evaluations", "stardeployments"), (GROUP, VERSION)),
    "applications": ("argoproj.io", "v1alpha1"),
}


class Programs:
    """Runs promotions' programs, and remembers when."""

    def __init__(self) -> None:
        self.ran: list[Stretch] = []

    def __call__(self, core: client.CoreV1Api, pod: dict[str, Any]) -> JobResult:
        began = time.monotonic()
        try:
            return promote_here(core, pod)
        finally:
            self.ran.append((began, time.monotonic()))


class World:
    """What everything is measured in."""

    def __init__(self, story: Story, watched: Watched, programs: Programs, folder: Path) -> None:
        self.story, self.site, self.watched, self.programs, self.folder = story, story.site, watched, programs, folder

    @property
    def repositories(self) -> Path:
        """Where the forge keeps the team's bare repositories."""
        return next(self.site.forge.folder.rglob("recommender.git")).parent

    def ended(self, name: str) -> Sighting:
        """The first sighting of a Promotion that has succeeded, waited for."""

        def holds(one: Sighting) -> bool:
            return one.body["metadata"]["name"] == name and one.status.get("phase") in ("Succeeded", "Failed")

        found = self.watched.wait("promotions", PROMOTIONS, holds, f"Promotion {name} has ended")
        if found.status["phase"] == "Failed":
            raise SystemExit(f"Promotion {name} failed: {found.status['conditions']}")
        return found


def told(text: str) -> None:
    sys.stderr.write(f"{text}\n")


@contextmanager
def opened(folder: Path) -> Iterator[World]:
    """Everything, started; dev and prod serve a first checkpoint."""
    with ExitStack() as stack:
        plane = stack.enter_context(open_control_plane())
        hub = stack.enter_context(stub_s3(Reply(200, '{"sha": "' + "c0ffee0000" * 4 + '"}', "application/json")))
        operator = OperatorProcess(plane.service_account_kubeconfig("star-system", "star-operator"), folder, hub.url)
        operator.start()
        stack.callback(operator.stop)
        kubelet = stack.enter_context(fake_kubelet(plane.kubeconfig))
        site = stack.enter_context(open_site(folder / "site", plane.kubeconfig))
        story, programs = Story(site, site.kubectl, operator, kubelet), Programs()
        kubelet.programs["promotion"] = programs
        watched = stack.enter_context(watching(plane.kubeconfig, KINDS))
        story.begins()
        yield World(story, watched, programs, folder)
        if kubelet.errors:
            raise SystemExit(f"the played kubelet met errors: {kubelet.errors}")
